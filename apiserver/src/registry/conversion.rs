//! Kinds that are served in more than one version: how an object gets from one to the other. Most pairs differ in the name of
//! the version only.

use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;

/// Turns an object in the normal form of `from` into the normal form of `to`.
pub fn convert(from: &GroupVersionKind, to: &GroupVersionKind, _object: &mut Value) {
    if from == to {}
}
