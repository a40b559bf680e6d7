//! Which values fields of the string type may have (`enums.txt`): `kubectl explain` lists them, generators of clients make
//! constants of them. Only said: validation has rules of its own, which name a wrong value and where it stands.

use apimachinery::schema::Type;
use std::collections::HashMap;
use std::sync::LazyLock;

const TABLE: &str = include_str!("enums.txt");

/// Values by field, such as `core.v1.ServiceSpec.type`.
static ENUMS: LazyLock<HashMap<String, Vec<&str>>> = LazyLock::new(|| rows().collect());

fn rows() -> impl Iterator<Item = (String, Vec<&'static str>)> {
    let mut package = "";
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| {
        let Some(row) = line.strip_prefix("  ") else {
            package = line;
            return None;
        };
        let (field, values) = row.split_once(' ')?;
        Some((format!("{package}.{field}"), values.split('|').collect()))
    })
}

/// The values of a field, or of its items; none if it may have any.
pub fn values(ty: &Type, field: &str) -> Option<&'static [&'static str]> {
    // `core.v1.Pod` of `k8s.io.api.core.v1.Pod`.
    let (at, _) = ty.name.rmatch_indices('.').nth(2)?;
    ENUMS.get(&format!("{}.{field}", &ty.name[at + 1..])).map(Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::schema::{Schema, Shape};
    use std::collections::HashSet;

    #[test]
    fn every_row_is_of_a_field_of_strings() {
        let schema = Schema::builtin();
        let mut seen = HashSet::new();
        for (row, listed) in rows() {
            let (of, field) = row.rsplit_once('.').unwrap();
            let root = ["k8s.io.api", "k8s.io.apimachinery.pkg.apis", "k8s.io.apiextensions-apiserver.pkg.apis"];
            let ty = root.iter().find_map(|root| schema.by_name(&format!("{root}.{of}")));
            let ty = ty.unwrap_or_else(|| panic!("there is no type {of}"));
            let of_field = schema.member(ty, field).unwrap_or_else(|| panic!("{of} has no {field}"));
            let shape = match &of_field.shape {
                Shape::List(items) | Shape::Map(items) => items,
                shape => shape,
            };
            assert!(matches!(shape, Shape::String), "{row} is {shape:?}");
            assert!(listed.is_sorted() && listed.len() > 1, "{row}: {listed:?}");
            assert_eq!(values(ty, field), Some(listed.as_slice()));
            assert!(seen.insert(row.clone()), "{row} is there twice");
        }
        assert!(seen.len() > 100);
        let service = schema.by_name("k8s.io.api.core.v1.ServiceSpec").unwrap();
        let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        assert_eq!(values(service, "type"), Some(&types[..]));
        assert_eq!(values(service, "clusterIP"), None);
    }
}
