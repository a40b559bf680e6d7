//! ValidatingAdmissionPolicies and MutatingAdmissionPolicies.

use apimachinery::Value;
use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, names};
use kubernetes_cel::{Type, Variable};

use super::rules;
use crate::admission::policy::environment::environment;
use crate::registry::edit::{at, copy, default_text, get, object, text};
use crate::registry::printing::{AGE, NAME, UNSET, column, count, created, integer, name};
use crate::registry::strategy::{Strategy, Subresource, Table};

const STATUS: Subresource = Subresource {
    name: "status",
    prepare: |policy, old, _| copy(policy, old, "spec"),
    validate: |_, _| {},
    reset_fields: &["spec"],
};

pub const VALIDATING: Strategy = Strategy {
    generation: true,
    unconditional_update: false,
    default: |policy| defaults(policy, false),
    validate,
    validate_update: |new, _| validate(new),
    subresources: &[STATUS],
    table: Some(Table {
        columns: &[
            NAME,
            integer("Validations", "How many expressions must hold."),
            column("ParamKind", "The kind of objects that hold its settings."),
            AGE,
        ],
        cells: |policy, now| {
            vec![name(policy), count(policy, "spec.validations"), param_kind(policy), created(policy, now)]
        },
    }),
    ..Strategy::GENERIC
};

pub const MUTATING: Strategy = Strategy {
    generation: true,
    unconditional_update: false,
    default: |policy| defaults(policy, true),
    validate,
    validate_update: |new, _| validate(new),
    table: Some(Table {
        columns: &[
            NAME,
            integer("Mutations", "How many changes it makes."),
            column("ParamKind", "The kind of objects that hold its settings."),
            AGE,
        ],
        cells: |policy, now| {
            vec![name(policy), count(policy, "spec.mutations"), param_kind(policy), created(policy, now)]
        },
    }),
    ..Strategy::GENERIC
};

fn param_kind(policy: &Value) -> Value {
    match get(policy, "spec.paramKind") {
        Some(kind) => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")).into(),
        None => UNSET.into(),
    }
}

fn defaults(policy: &mut Value, mutating: bool) {
    let spec = object(policy, "spec");
    default_text(spec, "failurePolicy", "Fail");
    if mutating {
        default_text(spec, "reinvocationPolicy", "Never");
    }
    if let Some(matches) = at(spec, "matchConstraints") {
        rules::defaults(matches, "resourceRules");
    }
}

fn validate(policy: &Cursor<'_>) {
    let spec = policy.field("spec");
    let mutating = spec.field("mutations").exists();
    spec.field("failurePolicy").one_of(&["Fail", "Ignore"]);
    let kind = spec.field("paramKind");
    if kind.exists() {
        kind.field("apiVersion").required();
        kind.field("kind").required();
    }
    let matches = spec.field("matchConstraints");
    if matches.exists() {
        label_selector(&matches.field("namespaceSelector"));
        label_selector(&matches.field("objectSelector"));
        matches.field("resourceRules").required();
        for list in ["resourceRules", "excludeResourceRules"] {
            for rule in matches.field(list).items() {
                rules::rule(&rule);
            }
        }
    } else {
        matches.missing("");
    }
    let mut env = environment(kind.exists());
    rules::match_conditions(&spec.field("matchConditions"), &env);
    let mut seen = Vec::new();
    for variable in spec.field("variables").items() {
        let name = variable.field("name");
        let program = rules::expression(&variable.field("expression"), &env, "", |_| true);
        let ty = program.map_or(Type::Dyn, |program| program.result().clone());
        env.variables.push(Variable { name: format!("variables.{}", name.str()), ty });
        if name.required() {
            name.shape(names::c_identifier);
            if seen.contains(&name.str()) {
                name.duplicate();
            }
            seen.push(name.str());
        }
    }
    let (validations, annotations) = (spec.field("validations"), spec.field("auditAnnotations"));
    if !mutating && validations.is_empty() && annotations.is_empty() {
        validations.missing("validations or auditAnnotations must contain at least one item");
    }
    for validation in validations.items() {
        let is_bool = |ty: &Type| matches!(ty, Type::Bool | Type::Dyn);
        rules::expression(&validation.field("expression"), &env, "must evaluate to bool", is_bool);
        let message = validation.field("messageExpression");
        if message.exists() {
            let is_string = |ty: &Type| matches!(ty, Type::String(_) | Type::Dyn);
            rules::expression(&message, &env, "must evaluate to string", is_string);
        }
        validation.field("reason").one_of(&["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"]);
    }
    for annotation in annotations.items() {
        annotation.field("key").required_shape(names::qualified_name);
        let is_text = |ty: &Type| matches!(ty, Type::String(_) | Type::Null | Type::Dyn);
        rules::expression(
            &annotation.field("valueExpression"),
            &env,
            "must evaluate to one of [string null_type]",
            is_text,
        );
    }
    for mutation in spec.field("mutations").items() {
        mutation.field("patchType").required_one_of(&["ApplyConfiguration", "JSONPatch"]);
    }
}
