//! Bindings of admission policies.

use apimachinery::Value;
use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, names};

use super::rules;
use registry::edit::{at, get, text};
use registry::printing::{AGE, NAME, UNSET, column, created, name};
use registry::strategy::{Strategy, Table};

const SHARED: Strategy = Strategy {
    generation: true,
    unconditional_update: false,
    default: |binding| {
        if let Some(matches) = at(binding, "spec.matchResources") {
            rules::defaults(matches, "resourceRules");
        }
    },
    table: Some(Table {
        columns: &[NAME, column("PolicyName", ".spec.policyName"), column("ParamRef", ".spec.paramRef"), AGE],
        cells: |binding, now| {
            let policy = text(binding, "spec.policyName").into();
            vec![name(binding), policy, param_ref(binding), created(binding, now)]
        },
    }),
    ..Strategy::GENERIC
};

pub const VALIDATING: Strategy =
    Strategy { validate: |binding| validate(binding, true), validate_update: |new, _| validate(new, true), ..SHARED };

pub const MUTATING: Strategy =
    Strategy { validate: |binding| validate(binding, false), validate_update: |new, _| validate(new, false), ..SHARED };

fn param_ref(binding: &Value) -> Value {
    let Some(reference) = get(binding, "spec.paramRef") else { return UNSET.into() };
    let (namespace, name) = (text(reference, "namespace"), text(reference, "name"));
    match (namespace, name) {
        (_, "") => "*".into(),
        ("", name) => name.into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    }
}

fn validate(binding: &Cursor<'_>, validating: bool) {
    let spec = binding.field("spec");
    spec.field("policyName").required_shape(names::dns1123_subdomain);
    let reference = spec.field("paramRef");
    if reference.exists() {
        reference.field("name").optional_shape(names::path_segment);
        let (name, selector) = (reference.field("name"), reference.field("selector"));
        label_selector(&selector);
        match (!name.is_empty(), selector.exists()) {
            (true, true) => [name, selector].iter().for_each(|c| c.forbid("name and selector are mutually exclusive")),
            (false, false) => reference.missing("one of name or selector must be specified"),
            _ => {}
        }
        reference.field("parameterNotFoundAction").required_one_of(&["Allow", "Deny"]);
    }
    let matches = spec.field("matchResources");
    if matches.exists() {
        rules::match_resources(&matches);
    }
    if !validating {
        return;
    }
    let actions = spec.field("validationActions");
    if actions.required() {
        for action in actions.items() {
            action.one_of(&["Audit", "Deny", "Warn"]);
        }
        actions.unique(Cursor::clone);
        let has = |name: &str| actions.array().iter().any(|a| a == name);
        if has("Deny") && has("Warn") {
            actions.invalid("must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
        }
    }
}
