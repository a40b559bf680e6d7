//! ValidatingAdmissionPolicies and MutatingAdmissionPolicies.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};
use kubernetes_cel::{Env, Type, Variable};

use super::rules;
use registry::edit::{at, copy, default, default_text, get, object, text};
use registry::expressions::admission_environment;
use registry::printing::{AGE, NAME, UNSET, column, count, created, integer, name};
use registry::strategy::{Strategy, Subresource, Table};

const AUDIT_ANNOTATIONS_MAX: usize = 20;
const VALUE_EXPRESSION_BYTES_MAX: usize = 5 * 1024;
/// Words that CEL keeps for itself.
const CEL_RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

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
    default(spec, "failurePolicy", "Fail");
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
        self::kind(&kind);
    }
    let matches = spec.field("matchConstraints");
    if matches.exists() {
        rules::match_resources(&matches);
        matches.field("resourceRules").required();
    } else {
        matches.missing("");
    }
    let mut env = Env { mutation: mutating, ..admission_environment(kind.exists()) };
    rules::match_conditions(&spec.field("matchConditions"), &env);
    for variable in spec.field("variables").items() {
        let name = variable.field("name");
        let program = rules::expression(&variable.field("expression"), &env, "", |_| true);
        let ty = program.map_or(Type::Dyn, |program| program.result().clone());
        env.variables.push(Variable { name: format!("variables.{}", name.str()), ty });
        if name.str().trim().is_empty() {
            name.missing("name is not specified");
        } else if !names::c_identifier(name.str()).is_empty() || CEL_RESERVED.contains(&name.str()) {
            name.invalid("must be a valid CEL identifier");
        }
    }
    if mutating {
        return validate_mutations(&spec, &env);
    }
    let (validations, annotations) = (spec.field("validations"), spec.field("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        for list in [&validations, &annotations] {
            list.missing("validations or auditAnnotations must contain at least one item");
        }
    }
    for validation in validations.items() {
        self::validation(&validation, &env);
    }
    audit_annotations(&annotations, policy.dig("metadata.name").str(), &env);
}

/// The kind of a policy's parameters.
fn kind(kind: &Cursor<'_>) {
    let (api_version, name) = (kind.field("apiVersion"), kind.field("kind"));
    let told = |problems: names::Problems| problems.into_iter().for_each(|problem| api_version.invalid(problem));
    if api_version.required() {
        match api_version.str().split('/').collect::<Vec<_>>()[..] {
            [version] | [_, version] if version.is_empty() => api_version.invalid("version must be specified"),
            [version] | ["", version] => told(names::dns1035_label(version)),
            [group, version] => {
                told(names::dns1123_subdomain(group));
                told(names::dns1035_label(version));
            }
            _ => api_version.invalid("must be group/version or version"),
        }
    }
    if name.required() {
        names::dns1035_label(&name.str().to_lowercase()).into_iter().for_each(|problem| name.invalid(problem));
    }
}

fn validation(validation: &Cursor<'_>, env: &Env) {
    let is_bool = |ty: &Type| matches!(ty, Type::Bool | Type::Dyn);
    rules::expression(&validation.field("expression"), env, "must evaluate to bool", is_bool);
    for text in [validation.field("message"), validation.field("messageExpression")] {
        if !text.is_empty() && text.str().trim().is_empty() {
            text.invalid("must be non-empty if specified");
        }
    }
    let (message, computed) = (validation.field("message"), validation.field("messageExpression"));
    if message.str().trim().contains(['\n', '\r']) {
        message.invalid("must not contain line breaks");
    }
    if !computed.str().trim().is_empty() {
        // What a message says must not depend on what else its reader may do.
        let mut env = env.clone();
        env.variables.retain(|variable| !variable.name.starts_with("authorizer"));
        let is_string = |ty: &Type| matches!(ty, Type::String(_) | Type::Dyn);
        rules::expression(&computed, &env, "must evaluate to string", is_string);
    }
    validation.field("reason").one_of(&["Forbidden", "Invalid", "RequestEntityTooLarge"]);
}

/// What a policy adds to the audit log, under its own name and a key.
fn audit_annotations(list: &Cursor<'_>, policy: &str, env: &Env) {
    if list.len() > AUDIT_ANNOTATIONS_MAX {
        list.invalid(format!("must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations"));
    }
    let mut seen = Vec::new();
    for annotation in list.items() {
        let (key, value) = (annotation.field("key"), annotation.field("valueExpression"));
        if policy.is_empty() {
            key.invalid_value(key.str(), "requires metadata.name be non-empty");
        } else {
            let full = format!("{policy}/{}", key.str());
            names::qualified_name(&full).into_iter().for_each(|problem| key.invalid_value(full.as_str(), problem));
        }
        if seen.contains(&key.str()) {
            key.duplicate();
        }
        seen.push(key.str());
        let is_text = |ty: &Type| matches!(ty, Type::String(_) | Type::Null | Type::Dyn);
        if value.str().trim().len() > VALUE_EXPRESSION_BYTES_MAX {
            value.missing(&format!("must not exceed {VALUE_EXPRESSION_BYTES_MAX} bytes in length"));
        } else {
            rules::expression(&value, env, "must evaluate to one of [string null_type]", is_text);
        }
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
