//! Resource quantities of API objects as integers: what cgroups, admission and eviction reckon with.

use std::collections::BTreeMap;

use apimachinery::quantity::Quantity as Exact;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Amounts by resource name.
pub type ResourceList = BTreeMap<String, Quantity>;

/// Whole units of text such as "100Mi", rounded up; `None` where malformed.
pub fn parse(text: &str) -> Option<i64> {
    Exact::parse(text).ok().map(|exact| exact.value())
}

/// Thousandths of text such as "250m", rounded up; `None` where malformed.
pub fn parse_milli(text: &str) -> Option<i64> {
    Exact::parse(text).ok().map(|exact| exact.milli_value())
}

/// What admission and QoS count of resource `name`: thousandths for cpu, whole units for all else. Malformed quantities
/// count as zero: the API server refuses them.
pub fn amount(name: &str, quantity: &Quantity) -> i64 {
    let amount = if name == "cpu" { parse_milli(&quantity.0) } else { parse(&quantity.0) };
    amount.unwrap_or(0)
}

/// The amount of `name` in a list, 0 where absent.
pub fn of(list: Option<&ResourceList>, name: &str) -> i64 {
    list.and_then(|list| list.get(name)).map_or(0, |quantity| amount(name, quantity))
}

/// Thousandths of a core as upstream prints them.
pub fn cpu(milli: i64) -> Quantity {
    Quantity(if milli % 1000 == 0 { format!("{}", milli / 1000) } else { format!("{milli}m") })
}

/// Bytes as upstream prints a node's memory: in Ki where exact.
pub fn bytes(bytes: i64) -> Quantity {
    Quantity(if bytes != 0 && bytes % 1024 == 0 { format!("{}Ki", bytes / 1024) } else { bytes.to_string() })
}

/// A plain count.
pub fn count(count: i64) -> Quantity {
    Quantity(count.to_string())
}
