//! Who may do what, asked from an expression; and keys of JSON pointers.

use super::{Call, Cost, Function, row, simple};
use crate::error::Error;
use crate::value::{Decision, Opaque, ResourceCheck, Value};
use apimachinery::validation::names;

/// Two checks fit into one run. (Upstream's price.)
const CHECK: Cost = Cost::Fixed(350_000);

macro_rules! refined {
    ($name:literal, $signatures:expr, $set:expr) => {
        simple(
            $name,
            $signatures,
            Call(|_, args| {
                let set: fn(&mut ResourceCheck, String) = $set;
                let text = args.get(1).and_then(Value::as_str).unwrap_or("").to_owned();
                let mut check = match opaque(&args[0])? {
                    Opaque::ResourceCheck(check) => check.clone(),
                    Opaque::Authorizer(account) => {
                        ResourceCheck { service_account: account.clone(), ..ResourceCheck::default() }
                    }
                    _ => return Err(Error::NoOverload),
                };
                set(&mut check, text);
                Ok(Value::opaque(Opaque::ResourceCheck(check)))
            }),
        )
    };
}

macro_rules! of_decision {
    ($name:literal, $result:literal, $part:expr) => {
        simple(
            $name,
            &[concat!("decision.() ", $result)],
            Call(|_, args| {
                let part: fn(&Decision) -> Value<'static> = $part;
                match opaque(&args[0])? {
                    Opaque::Decision(decision) => Ok(part(decision)),
                    _ => Err(Error::NoOverload),
                }
            }),
        )
    };
}

pub const FUNCTIONS: &[Function] = &[
    simple(
        "serviceAccount",
        &["authorizer.(string, string) authorizer"],
        Call(|_, args| {
            let [_, Value::String(namespace), Value::String(name)] = args else { return Err(Error::NoOverload) };
            let wrong = |what: &str| Error::new(format!("invalid service account {what}"));
            if !names::dns1123_label(namespace).is_empty() {
                return Err(wrong("namespace"));
            }
            if !names::dns1123_subdomain(name).is_empty() {
                return Err(wrong("name"));
            }
            Ok(Value::opaque(Opaque::Authorizer(Some((namespace.to_string(), name.to_string())))))
        }),
    ),
    simple(
        "path",
        &["authorizer.(string) path_check"],
        Call(|_, args| {
            let path = args[1].as_str().ok_or(Error::NoOverload)?;
            if path.is_empty() {
                return Err(Error::new("path must not be empty"));
            }
            let Opaque::Authorizer(account) = opaque(&args[0])? else { return Err(Error::NoOverload) };
            Ok(Value::opaque(Opaque::PathCheck(path.to_owned(), account.clone())))
        }),
    ),
    refined!("group", &["authorizer.(string) group_check"], |check, text| check.group = text),
    refined!("resource", &["group_check.(string) resource_check"], |check, text| check.resource = text),
    refined!("subresource", &["resource_check.(string) resource_check"], |check, text| check.subresource = text),
    refined!("namespace", &["resource_check.(string) resource_check"], |check, text| check.namespace = text),
    refined!("name", &["resource_check.(string) resource_check"], |check, text| check.name = text),
    refined!("fieldSelector", &["resource_check.(string) resource_check"], |check, text| check.field_selector = text),
    refined!("labelSelector", &["resource_check.(string) resource_check"], |check, text| check.label_selector = text),
    row(
        "check",
        &["path_check.(string) decision", "resource_check.(string) decision"],
        CHECK,
        Call(|meter, args| {
            let verb = args[1].as_str().ok_or(Error::NoOverload)?;
            let authorizer = meter.authorizer.ok_or_else(|| Error::new("no authorizer here"))?;
            let decision = match opaque(&args[0])? {
                Opaque::PathCheck(path, account) => authorizer.check_path(path, verb, account.as_ref()),
                Opaque::ResourceCheck(check) => authorizer.check_resource(check, verb),
                _ => return Err(Error::NoOverload),
            };
            Ok(Value::opaque(Opaque::Decision(decision)))
        }),
    ),
    of_decision!("allowed", "bool", |decision| Value::Bool(decision.allowed)),
    of_decision!("reason", "string", |decision| Value::text(decision.reason.as_str())),
    of_decision!("errored", "bool", |decision| Value::Bool(!decision.error.is_empty())),
    of_decision!("error", "string", |decision| Value::text(decision.error.as_str())),
    row(
        "jsonpatch.escapeKey",
        &["(string) string"],
        Cost::Scan(0, 2),
        Call(|_, args| {
            let key = args[0].as_str().ok_or(Error::NoOverload)?;
            Ok(Value::text(key.replace('~', "~0").replace('/', "~1")))
        }),
    ),
];

fn opaque<'v>(value: &'v Value<'_>) -> Result<&'v Opaque, Error> {
    match value {
        Value::Opaque(opaque) => Ok(opaque),
        _ => Err(Error::NoOverload),
    }
}
