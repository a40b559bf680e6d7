//! Formats by name: what Kubernetes calls a label, a date, a UUID.

use super::{Call, Cost, Function, row, simple};
use crate::error::Error;
use crate::time;
use crate::value::{NamedFormat, Opaque, Value};
use apimachinery::validation::names;

fn problems(found: names::Problems) -> Vec<String> {
    found.into_iter().collect()
}

fn unless(fits: bool, problem: &str) -> Vec<String> {
    if fits { Vec::new() } else { vec![problem.to_owned()] }
}

/// A name that is a prefix: it ends before what a server appends, so a dash at the end is none.
fn prefix(text: &str, check: fn(&str) -> names::Problems) -> Vec<String> {
    let whole = text.strip_suffix('-').map_or(text.to_owned(), |start| format!("{start}a"));
    problems(check(&whole))
}

const FORMATS: &[NamedFormat] = &[
    NamedFormat { name: "dns1123Label", check: |t| problems(names::dns1123_label(t)) },
    NamedFormat { name: "dns1123Subdomain", check: |t| problems(names::dns1123_subdomain(t)) },
    NamedFormat { name: "dns1035Label", check: |t| problems(names::dns1035_label(t)) },
    NamedFormat { name: "qualifiedName", check: |t| problems(names::qualified_name(t)) },
    NamedFormat { name: "dns1123LabelPrefix", check: |t| prefix(t, names::dns1123_label) },
    NamedFormat { name: "dns1123SubdomainPrefix", check: |t| prefix(t, names::dns1123_subdomain) },
    NamedFormat { name: "dns1035LabelPrefix", check: |t| prefix(t, names::dns1035_label) },
    NamedFormat { name: "labelValue", check: |t| problems(names::label_value(t)) },
    NamedFormat { name: "uri", check: |t| unless(url::Url::parse(t).is_ok() || t.starts_with('/'), "invalid URI") },
    NamedFormat { name: "uuid", check: |t| unless(is_uuid(t), "does not match the UUID format") },
    NamedFormat {
        name: "byte",
        check: |t| {
            use base64::Engine;
            unless(base64::engine::general_purpose::STANDARD.decode(t).is_ok(), "invalid base64")
        },
    },
    NamedFormat {
        name: "date",
        check: |t| unless(t.len() == 10 && time::parse_date_or_timestamp(t).is_some(), "invalid date"),
    },
    NamedFormat { name: "datetime", check: |t| unless(time::parse_timestamp(t).is_some(), "invalid datetime") },
];

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let hex = |group: &&str, length: usize| group.len() == length && group.bytes().all(|b| b.is_ascii_hexdigit());
    groups.len() == 5 && groups.iter().zip([8, 4, 4, 4, 12]).all(|(group, length)| hex(group, length))
        || groups.len() == 1 && hex(&groups[0], 32)
}

fn named(name: &str) -> Option<&'static NamedFormat> {
    FORMATS.iter().find(|format| format.name == name)
}

macro_rules! constant {
    ($name:literal) => {
        simple(
            concat!("format.", $name),
            &["() format"],
            Call(|_, _| Ok(named($name).map_or(Value::Null, |format| Value::opaque(Opaque::Format(format))))),
        )
    };
}

pub const FUNCTIONS: &[Function] = &[
    row(
        "validate",
        &["format.(string) optional<list<string>>"],
        Cost::Scan(1, 5),
        Call(|_, args| {
            let [Value::Opaque(opaque), Value::String(text)] = args else { return Err(Error::NoOverload) };
            let Opaque::Format(format) = &**opaque else { return Err(Error::NoOverload) };
            let problems = (format.check)(text);
            if problems.is_empty() {
                return Ok(Value::Optional(None));
            }
            Ok(Value::some(Value::list(problems.into_iter().map(Value::text).collect())))
        }),
    ),
    simple(
        "format.named",
        &["(string) optional<format>"],
        Call(|_, args| {
            let name = args[0].as_str().ok_or(Error::NoOverload)?;
            Ok(named(name).map_or(Value::Optional(None), |format| Value::some(Value::opaque(Opaque::Format(format)))))
        }),
    ),
    constant!("dns1123Label"),
    constant!("dns1123Subdomain"),
    constant!("dns1035Label"),
    constant!("qualifiedName"),
    constant!("dns1123LabelPrefix"),
    constant!("dns1123SubdomainPrefix"),
    constant!("dns1035LabelPrefix"),
    constant!("labelValue"),
    constant!("uri"),
    constant!("uuid"),
    constant!("byte"),
    constant!("date"),
    constant!("datetime"),
];
