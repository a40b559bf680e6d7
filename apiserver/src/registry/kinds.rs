//! Which file holds what is special to which row. A kind that is not named here is generic.

use super::strategy::Strategy;

/// The strategy of a resource.
pub fn strategy(group: &str, version: &str, plural: &str) -> &'static Strategy {
    static GENERIC: Strategy = Strategy::GENERIC;
    #[allow(clippy::match_single_binding)]
    match (group, version, plural) {
        _ => &GENERIC,
    }
}
