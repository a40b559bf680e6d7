//! Where in an object an error is: `spec.containers[0].name`, `metadata.annotations[foo]`.

use std::fmt;
use std::sync::{Arc, OnceLock};

use smallvec::SmallVec;

/// A place in an object, as Status causes name it. The root is the empty path.
///
/// Validation makes a path for every place it looks at and shows hardly any: the text is put together only where it is asked for,
/// or where the walk goes on from there.
#[derive(Clone, Default)]
pub struct Path {
    parent: Option<Arc<str>>,
    last: Segment,
    text: OnceLock<Arc<str>>,
}

/// Names of members are short: most are kept without an allocation.
type Name = SmallVec<[u8; 32]>;

#[derive(Clone, Default)]
enum Segment {
    #[default]
    None,
    Child(Name),
    Index(usize),
    Key(Name),
}

impl Path {
    pub fn root() -> Self {
        Self::default()
    }

    /// A path from dotted members: `Path::new("spec.template")`.
    pub fn new(path: &str) -> Self {
        Self { text: OnceLock::from(Arc::from(path)), ..Self::default() }
    }

    /// The member `name` of the object here.
    pub fn child(&self, name: &str) -> Self {
        self.then(Segment::Child(Name::from_slice(name.as_bytes())))
    }

    /// The item at a position of the list here.
    pub fn index(&self, index: usize) -> Self {
        self.then(Segment::Index(index))
    }

    /// The entry of the map here.
    pub fn key(&self, key: &str) -> Self {
        self.then(Segment::Key(Name::from_slice(key.as_bytes())))
    }

    pub fn as_str(&self) -> &str {
        self.text()
    }

    fn then(&self, last: Segment) -> Self {
        Self { parent: Some(self.text().clone()), last, text: OnceLock::new() }
    }

    fn text(&self) -> &Arc<str> {
        self.text.get_or_init(|| {
            let parent = self.parent.as_deref().unwrap_or_default();
            match &self.last {
                Segment::None => parent.into(),
                Segment::Child(child) if parent.is_empty() => String::from_utf8_lossy(child).into(),
                Segment::Child(child) => format!("{parent}.{}", String::from_utf8_lossy(child)).into(),
                Segment::Index(index) => format!("{parent}[{index}]").into(),
                Segment::Key(key) => format!("{parent}[{}]", String::from_utf8_lossy(key)).into(),
            }
        })
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Path {}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.as_str().is_empty() { "<nil>" } else { self.as_str() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_as_causes_name_them() {
        let spec = Path::root().child("spec");
        assert_eq!(spec.child("containers").index(0).child("name").to_string(), "spec.containers[0].name");
        assert_eq!(Path::new("metadata.annotations").key("foo").to_string(), "metadata.annotations[foo]");
        assert_eq!(Path::new("a.b"), Path::root().child("a").child("b"));
        let long = "x".repeat(100);
        assert_eq!(spec.key(&long).as_str(), format!("spec[{long}]"));
    }
}
