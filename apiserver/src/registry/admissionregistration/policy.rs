//! ValidatingAdmissionPolicies and MutatingAdmissionPolicies.

use apimachinery::Value;
use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, FieldError, names};
use kubernetes_cel::{Env, Type, Variable};

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
    validate: |policy| validate(policy, false),
    validate_update: |new, _| validate(new, false),
    subresources: &[STATUS],
    table: Some(Table {
        columns: &[
            NAME,
            integer("Validations", "How many expressions must hold."),
            column("ParamKind", ".spec.paramKind"),
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
    validate: |policy| validate(policy, true),
    validate_update: |new, _| validate(new, true),
    table: Some(Table {
        columns: &[
            NAME,
            integer("Mutations", "How many changes it makes."),
            column("ParamKind", ".spec.paramKind"),
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

fn validate(policy: &Cursor<'_>, mutating: bool) {
    let spec = policy.field("spec");
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
        let policy = matches.field("matchPolicy");
        if !["Equivalent", "Exact"].contains(&policy.str()) {
            policy.push(FieldError::not_supported(policy.path(), policy.str(), &["Equivalent", "Exact"]));
        }
    } else {
        matches.missing("");
    }
    let mut env = Env { mutation: mutating, ..environment(kind.exists()) };
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
    if mutating {
        return validate_mutations(&spec, &env);
    }
    if validations.is_empty() && annotations.is_empty() {
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
}

/// The rules of [`MUTATING`] besides those of all policies.
fn validate_mutations(spec: &Cursor<'_>, env: &Env) {
    spec.field("reinvocationPolicy").required_one_of(&["IfNeeded", "Never"]);
    let mutations = spec.field("mutations");
    if mutations.is_empty() {
        mutations.missing("mutations must contain at least one item");
    }
    for mutation in mutations.items() {
        let patch_type = mutation.field("patchType");
        patch_type.required_one_of(&["ApplyConfiguration", "JSONPatch"]);
        if !["ApplyConfiguration", "JSONPatch"].contains(&patch_type.str()) {
            continue;
        }
        let applies = patch_type.str() == "ApplyConfiguration";
        let (patch, other) = (mutation.field("applyConfiguration"), mutation.field("jsonPatch"));
        let (patch, other) = if applies { (patch, other) } else { (other, patch) };
        if other.exists() {
            other.forbid(format!("must not be specified when patchType is {}", patch_type.str()));
        }
        if !patch.exists() {
            patch.missing(&format!("must be specified when patchType is {}", patch_type.str()));
            continue;
        }
        let is_object = |ty: &Type| matches!(ty, Type::Object(object) if object.name == "Object");
        let is_patch =
            |ty: &Type| matches!(ty, Type::List(list, _) if matches!(list.item, Type::Opaque("JSONPatch") | Type::Dyn));
        let expression = patch.field("expression");
        if applies {
            rules::expression(&expression, env, "must evaluate to Object", is_object);
        } else {
            rules::expression(&expression, env, "must evaluate to list(JSONPatch)", is_patch);
        }
    }
}
