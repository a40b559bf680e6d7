//! What Kubernetes says of its types and fields, as people read it in `kubectl explain`: the descriptions of OpenAPI.
//!
//! The texts are gathered when this crate is built (`build.rs`) and lie in the binary compressed. Whoever needs some reads them,
//! takes what is needed and drops the rest: they are no part of a process at rest.

use flate2::read::GzDecoder;
use std::collections::HashMap;
use std::io::Read;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/documentation.gz"));

/// All texts, inflated (0.9 MB). [`Documentation`] finds its way in them.
pub struct Texts(String);

impl Texts {
    /// Inflates the texts; a few milliseconds.
    ///
    /// # Panics
    /// Never in a binary that was built whole: what is inflated was deflated by the build.
    pub fn inflate() -> Texts {
        let mut texts = String::new();
        GzDecoder::new(PACKED).read_to_string(&mut texts).expect("the build packs valid text");
        Texts(texts)
    }

    /// The way in: an index of the texts.
    pub fn index(&self) -> Documentation<'_> {
        let mut parts = self.0.split_terminator('\0');
        let mut index = HashMap::new();
        while let (Some(ty), Some(field), Some(text)) = (parts.next(), parts.next(), parts.next()) {
            index.insert((ty, field), text);
        }
        Documentation { index }
    }
}

/// Descriptions by type and field. Types have their names in OpenAPI (`io.k8s.api.core.v1.Pod`), fields theirs in JSON.
pub struct Documentation<'a> {
    index: HashMap<(&'a str, &'a str), &'a str>,
}

impl<'a> Documentation<'a> {
    /// What a type is for.
    pub fn of_type(&self, ty: &str) -> Option<&'a str> {
        self.of_field(ty, "")
    }

    /// What a field means.
    pub fn of_field(&self, ty: &str, field: &str) -> Option<&'a str> {
        self.index.get(&(ty, field)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_fields_are_described() {
        let texts = Texts::inflate();
        let documentation = texts.index();
        for ty in [
            "io.k8s.api.core.v1.Pod",
            "io.k8s.api.core.v1.Container",
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
            "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
        ] {
            assert!(documentation.of_type(ty).is_some_and(|text| text.len() > 20), "{ty}");
        }
        let image = documentation.of_field("io.k8s.api.core.v1.Container", "image");
        assert!(image.is_some_and(|text| text.contains("image")), "{image:?}");
        assert_eq!(documentation.of_field("io.k8s.api.core.v1.Container", "color"), None);
        assert_eq!(documentation.of_type("Pod"), None);
    }
}
