//! Descriptions of columns that are the documentation of a field. What is asked for is kept, so that the documentation of all
//! types is read seldom and dropped at once.

use api_documentation::Texts;
use apimachinery::schema::{Schema, Shape, Type};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// The type of all objects' metadata, as the type table names it.
pub const OBJECT_META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The name in OpenAPI (`io.k8s.api.core.v1.Pod`) of a type that the type table calls `k8s.io.api.core.v1.Pod`.
pub fn open_name(name: &str) -> String {
    match name.strip_prefix("k8s.io.") {
        Some(rest) => format!("io.k8s.{rest}"),
        None => name.to_owned(),
    }
}

/// A type and the JSON name of one of its fields.
type Place = (&'static str, &'static str);

/// Texts asked for so far: at most one for each column that names a field.
static KEPT: Mutex<Option<HashMap<Place, Arc<str>>>> = Mutex::new(None);

/// The documentation of the fields that `paths` lead to from a type; empty where there is none. A path is that of a column
/// (`.spec.containers.image`): items of lists and values of maps have no step of their own.
pub fn of_fields<'a>(ty: &'static Type, paths: impl Iterator<Item = &'a str>) -> Vec<Arc<str>> {
    let places: Vec<Option<Place>> = paths.map(|path| place(ty, path)).collect();
    let mut kept = KEPT.lock();
    let kept = kept.get_or_insert_default();
    if places.iter().flatten().any(|place| !kept.contains_key(place)) {
        let texts = Texts::inflate();
        let documentation = texts.index();
        for (of, field) in places.iter().flatten() {
            let text = documentation.of_field(&open_name(of), field).unwrap_or_default();
            kept.entry((of, field)).or_insert_with(|| text.into());
        }
    }
    places.iter().map(|place| place.and_then(|place| kept.get(&place).cloned()).unwrap_or_default()).collect()
}

/// The field that a path leads to.
fn place(ty: &'static Type, path: &str) -> Option<Place> {
    let schema = Schema::builtin();
    let (mut of, mut found) = (Some(ty), None);
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let holder = of?;
        let field = schema.member(holder, name)?;
        found = Some((holder.name.as_str(), field.name));
        let mut shape = &field.shape;
        while let Shape::List(inner) | Shape::Map(inner) = shape {
            shape = inner;
        }
        of = match shape {
            Shape::Struct(id) => Some(schema.get(*id)),
            _ => None,
        };
    }
    found
}
