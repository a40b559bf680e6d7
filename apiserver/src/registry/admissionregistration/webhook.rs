//! ValidatingWebhookConfigurations and MutatingWebhookConfigurations.

use apimachinery::Value;
use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, names};

use super::rules;
use crate::admission::policy::environment::environment;
use crate::registry::edit::{at, default, default_text, each};
use crate::registry::printing::{AGE, NAME, count, created, integer, name};
use crate::registry::strategy::{Strategy, Table};

/// Versions of the review that this server speaks.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

const SHARED: Strategy = Strategy {
    generation: true,
    unconditional_update: false,
    validate,
    validate_update: |new, _| validate(new),
    table: Some(Table {
        columns: &[NAME, integer("Webhooks", "How many webhooks it names."), AGE],
        cells: |configuration, now| {
            vec![name(configuration), count(configuration, "webhooks"), created(configuration, now)]
        },
    }),
    ..Strategy::GENERIC
};

pub const VALIDATING: Strategy = Strategy { default: |c| each(c, "webhooks", webhook_defaults), ..SHARED };

pub const MUTATING: Strategy = Strategy {
    default: |configuration| {
        each(configuration, "webhooks", |webhook| {
            webhook_defaults(webhook);
            default_text(webhook, "reinvocationPolicy", "Never");
        });
    },
    ..SHARED
};

fn webhook_defaults(webhook: &mut Value) {
    default_text(webhook, "failurePolicy", "Fail");
    default(webhook, "timeoutSeconds", 10);
    rules::defaults(webhook, "rules");
    if let Some(service) = at(webhook, "clientConfig.service") {
        default(service, "port", 443);
    }
}

fn validate(configuration: &Cursor<'_>) {
    let webhooks = configuration.field("webhooks");
    let mut seen = Vec::new();
    for webhook in webhooks.items() {
        let field = |name| webhook.field(name);
        field("name").shape(names::fully_qualified_name);
        if seen.contains(&field("name").str()) {
            field("name").duplicate();
        }
        seen.push(field("name").str());
        review_versions(&field("admissionReviewVersions"), "must specify one of v1, v1beta1");
        for rule in field("rules").items() {
            rules::rule(&rule);
        }
        field("failurePolicy").one_of(&["Fail", "Ignore"]);
        field("matchPolicy").one_of(&["Equivalent", "Exact"]);
        if field("sideEffects").required_because("must specify one of None, NoneOnDryRun") {
            field("sideEffects").one_of(&["None", "NoneOnDryRun"]);
        }
        if field("timeoutSeconds").i64().is_some_and(|t| !(1..=30).contains(&t)) {
            field("timeoutSeconds").invalid("the timeout value must be between 1 and 30 seconds");
        }
        label_selector(&field("namespaceSelector"));
        label_selector(&field("objectSelector"));
        client(&field("clientConfig"));
        field("reinvocationPolicy").one_of(&["IfNeeded", "Never"]);
        rules::match_conditions(&field("matchConditions"), &environment(false));
    }
}

/// Checks the versions of reviews that a webhook understands; `missing` is said when there are none.
pub fn review_versions(list: &Cursor<'_>, missing: &str) {
    if !list.required_because(missing) {
        return;
    }
    let mut seen = Vec::new();
    for version in list.items() {
        version.shape(names::dns1035_label);
        if seen.contains(&version.str()) {
            version.invalid("duplicate version");
        }
        seen.push(version.str());
    }
    if !seen.iter().any(|v| REVIEW_VERSIONS.contains(v)) {
        list.invalid("must include at least one of v1, v1beta1");
    }
}

/// Checks how a webhook is called: by URL or through a Service.
pub fn client(client: &Cursor<'_>) {
    let (url, service) = (client.field("url"), client.field("service"));
    match (url.exists(), service.exists()) {
        (true, false) => self::url(&url),
        (false, true) => {
            for name in ["name", "namespace"] {
                service.field(name).required();
            }
            service_path(&service.field("path"));
            service.field("port").port();
        }
        _ => client.missing("exactly one of url or service is required"),
    }
}

fn service_path(path: &Cursor<'_>) {
    let text = path.str();
    if matches!(text, "" | "/") {
        return;
    }
    let Some(rest) = text.strip_prefix('/') else { return path.invalid("must start with a '/'") };
    for (i, segment) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if segment.is_empty() {
            path.invalid(format!("segment[{i}] may not be empty"));
        } else {
            let problems = names::dns1123_subdomain(segment);
            problems.into_iter().for_each(|problem| path.invalid(format!("segment[{i}]: {problem}")));
        }
    }
}

fn url(url: &Cursor<'_>) {
    let Some(rest) = url.str().strip_prefix("https://") else {
        return url.invalid("'https' is the only allowed URL scheme");
    };
    if rest.split('/').next().is_none_or(str::is_empty) {
        url.invalid("host must be specified");
    } else if rest.contains('@') {
        url.invalid("user information is not permitted in the URL");
    } else if rest.contains(['?', '#']) {
        url.invalid("neither fragments nor query parameters are permitted in the URL");
    }
}
