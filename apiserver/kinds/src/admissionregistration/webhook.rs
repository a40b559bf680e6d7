//! ValidatingWebhookConfigurations and MutatingWebhookConfigurations.

use apimachinery::Value;
use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, names};

use super::{rules, url};
use registry::edit::{at, default, each};
use registry::expressions::admission_environment;
use registry::printing::{AGE, NAME, count, created, integer, name};
use registry::strategy::{Strategy, Table};

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
            default(webhook, "reinvocationPolicy", "Never");
        });
    },
    ..SHARED
};

fn webhook_defaults(webhook: &mut Value) {
    default(webhook, "failurePolicy", "Fail");
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
        field("name").required_shape(names::fully_qualified_name);
        if !field("name").is_empty() && seen.contains(&field("name").str()) {
            field("name").duplicate();
        }
        seen.push(field("name").str());
        review_versions(&field("admissionReviewVersions"), "must specify one of v1, v1beta1");
        for rule in field("rules").items() {
            rules::rule(&rule);
        }
        field("failurePolicy").one_of(&["Fail", "Ignore"]);
        field("matchPolicy").one_of(&["Equivalent", "Exact"]);
        if !field("sideEffects").exists() {
            field("sideEffects").missing("must specify one of None, NoneOnDryRun");
        }
        field("sideEffects").one_of(&["None", "NoneOnDryRun"]);
        if field("timeoutSeconds").i64().is_some_and(|t| !(1..=30).contains(&t)) {
            field("timeoutSeconds").invalid("the timeout value must be between 1 and 30 seconds");
        }
        label_selector(&field("namespaceSelector"));
        label_selector(&field("objectSelector"));
        client(&field("clientConfig"));
        field("reinvocationPolicy").one_of(&["IfNeeded", "Never"]);
        rules::match_conditions(&field("matchConditions"), &admission_environment(false));
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
            // Upstream takes the one for the other, and so do those who read its errors.
            for (name, told) in [("name", "namespace"), ("namespace", "name")] {
                service.field(told).with_value(service.field(name).value()).required();
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
    let text = url.str();
    if !url::is_readable(text) {
        return url.missing("url must be a valid URL; desired format: https://host[/path]");
    }
    if !text.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:")) {
        url.invalid("'https' is the only allowed URL scheme; desired format: https://host[/path]");
    }
    let rest = text.split_once(':').map_or("", |(_, rest)| rest);
    let host = rest.strip_prefix("//").and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if host.is_empty() {
        url.invalid("host must be specified; desired format: https://host[/path]");
    }
    if host.contains('@') {
        url.invalid("user information is not permitted in the URL");
    }
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    if !fragment.is_empty() || before.split_once('?').is_some_and(|(_, query)| !query.is_empty()) {
        url.invalid("neither fragments nor query parameters are permitted in the URL");
    }
}
