//! What the expressions of admission policies and match conditions may name.

use crate::types::{Field, ObjectType, Size};
use crate::{Env, Type, Variable};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The variables that every expression has, in order. A policy's own follow.
pub const FIXED: [&str; 7] =
    ["object", "oldObject", "request", "namespaceObject", "authorizer", "authorizer.requestResource", "params"];

/// The environment of an expression about objects of a type; `params` are there for policies that have a kind of them.
pub fn environment(object: Type, params: Option<Type>) -> Env {
    let has_params = params.is_some();
    let types = [
        object.clone(),
        object,
        declare("kubernetes.AdmissionRequest", REQUEST),
        declare("kubernetes.Namespace", NAMESPACE),
        Type::named("authorizer").unwrap_or(Type::Dyn),
        Type::named("resource_check").unwrap_or(Type::Dyn),
        params.unwrap_or(Type::Dyn),
    ];
    let variables = FIXED.iter().zip(types).map(|(name, ty)| {
        // What is not there keeps its place, under a name that nobody can write.
        let name = if *name == "params" && !has_params { "" } else { name };
        Variable { name: name.to_owned(), ty }
    });
    Env { variables: variables.collect(), mutation: false }
}

/// Fields of `request`: name and type, or the fields of an object below it.
const REQUEST: &[(&str, &str)] = &[
    ("kind", "group version kind"),
    ("resource", "group version resource"),
    ("subResource", ""),
    ("requestKind", "group version kind"),
    ("requestResource", "group version resource"),
    ("requestSubResource", ""),
    ("name", ""),
    ("namespace", ""),
    ("operation", ""),
    ("userInfo", "username uid groups:list extra:lists"),
    ("dryRun", ":bool"),
    ("options", ":dyn"),
];

const NAMESPACE: &[(&str, &str)] = &[
    (
        "metadata",
        "name generateName namespace labels:map annotations:map uid creationTimestamp:time deletionGracePeriodSeconds:int \
         deletionTimestamp:time generation:int resourceVersion finalizers:list",
    ),
    ("spec", "finalizers:list"),
    ("status", "phase"),
];

fn field_type(word: &str) -> Type {
    match word {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "time" => Type::Timestamp,
        "dyn" => Type::Dyn,
        "list" => Type::list(Type::STRING),
        "map" => Type::map(Type::STRING, Type::STRING),
        "lists" => Type::map(Type::STRING, Type::list(Type::STRING)),
        _ => Type::String(Size::UNKNOWN),
    }
}

fn declare(name: &str, fields: &[(&str, &str)]) -> Type {
    let field = |member: &str, ty: Type| (member.to_owned(), Field { member: member.to_owned(), ty });
    let of = |(member, ty): &(&str, &str)| match ty.strip_prefix(':') {
        Some(word) => field(member, field_type(word)),
        None if ty.is_empty() => field(member, Type::STRING),
        None => {
            let below = ty.split_ascii_whitespace().map(|entry| {
                let (member, word) = entry.split_once(':').unwrap_or((entry, ""));
                field(member, field_type(word))
            });
            let object = ObjectType { name: format!("{name}.{member}"), fields: below.collect(), open: false };
            field(member, Type::Object(Arc::new(object)))
        }
    };
    let fields: BTreeMap<String, Field> = fields.iter().map(of).collect();
    Type::Object(Arc::new(ObjectType { name: name.into(), fields, open: false }))
}
