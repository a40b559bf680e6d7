//! ServiceCIDRs: ranges that addresses of services come from.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};

use crate::registry::edit::{copy, items};
use crate::registry::printing::{AGE, NAME, column, created, name};
use crate::registry::strategy::{Strategy, Subresource, Table};

pub const STRATEGY: Strategy = Strategy {
    validate,
    validate_update: |new, old| {
        new.dig("spec.cidrs").immutable(&old.dig("spec.cidrs"));
    },
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

fn validate(range: &Cursor<'_>) {
    let cidrs = range.dig("spec.cidrs");
    if !cidrs.required_because("at least one CIDR required") {
        return;
    }
    if cidrs.len() > 2 {
        cidrs.invalid("may only hold up to 2 values");
    }
    for cidr in cidrs.items() {
        cidr.shape(names::cidr);
    }
    let families: Vec<bool> = cidrs.items().map(|c| c.str().contains(':')).collect();
    if matches!(families[..], [a, b] if a == b) {
        cidrs.invalid("may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64");
    }
}
