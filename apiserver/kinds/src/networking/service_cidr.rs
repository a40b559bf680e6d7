//! ServiceCIDRs: ranges that addresses of services come from.

use apimachinery::Value;
use apimachinery::validation::{Cursor, addresses};

use registry::edit::{copy, items};
use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{Strategy, Subresource, Table};

pub const STRATEGY: Strategy = Strategy {
    validate,
    validate_update: update,
    subresources: &[Subresource {
        name: "status",
        prepare: |range, old, _| copy(range, old, "spec"),
        validate: |_, _| {},
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[NAME, column("CIDRs", ".spec.cidrs"), AGE],
        cells: |range, now| {
            let cidrs: Vec<_> = items(range, "spec.cidrs").iter().filter_map(Value::as_str).collect();
            vec![name(range), cidrs.join(",").into(), created(range, now)]
        },
    }),
    ..Strategy::GENERIC
};

/// A range of the other family may be added; nothing else changes.
fn update(new: &Cursor<'_>, old: &Cursor<'_>) {
    let (cidrs, before) = (new.dig("spec.cidrs"), old.dig("spec.cidrs"));
    let added = (before.len(), cidrs.len()) == (1, 2);
    if !added && before.len() != cidrs.len() {
        return cidrs.invalid("field is immutable");
    }
    for (cidr, was) in cidrs.items().zip(before.items()) {
        cidr.immutable(&was);
    }
    if added {
        validate(new);
    }
}

fn validate(range: &Cursor<'_>) {
    let cidrs = range.dig("spec.cidrs");
    if !cidrs.required_because("at least one CIDR required") {
        return;
    }
    if cidrs.len() > 2 {
        return cidrs.invalid("may only hold up to 2 values");
    }
    for cidr in cidrs.items() {
        cidr.shape(addresses::cidr);
    }
    let families: Vec<_> = cidrs.items().map(|c| addresses::parse_cidr(c.str()).map(|(ip, _)| ip.is_ipv4())).collect();
    if matches!(families[..], [Some(a), Some(b)] if a == b) {
        cidrs.invalid("may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64");
    }
}
