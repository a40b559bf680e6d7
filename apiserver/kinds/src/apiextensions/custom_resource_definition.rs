//! CustomResourceDefinitions: names, versions and conversion. Whether a schema is structural is asked where schemas are read.

use super::ca_bundle;
use apimachinery::Value;
use apimachinery::validation::{Cursor, Errors, FieldError, names};
use serde_json::json;

use crate::admissionregistration::webhook::{client, review_versions};
use registry::edit::{at, copy, default, default_text, each, items, object, text};
use registry::expressions;
use registry::printing::{CREATED_AT, NAME, name};
use registry::strategy::{Context, Strategy, Subresource, Table};

pub const STRATEGY: Strategy = Strategy {
    hold: Some(registry::definition::hold),
    generation: true,
    unconditional_update: false,
    default: defaulted,
    prepare_for_create,
    prepare_for_update,
    validate: validate_new,
    validate_update,
    warnings,
    subresources: &[Subresource {
        name: "status",
        prepare: |definition, old, _| copy(definition, old, "spec"),
        validate: |_, _| {},
        reset_fields: &["metadata", "spec"],
    }],
    table: Some(Table {
        columns: &[NAME, CREATED_AT],
        cells: |definition, _| vec![name(definition), definition["metadata"]["creationTimestamp"].clone()],
    }),
    ..Strategy::GENERIC
};

fn defaulted(definition: &mut Value) {
    let spec = object(definition, "spec");
    let kind = text(spec, "names.kind").to_owned();
    let names = object(spec, "names");
    if !kind.is_empty() {
        default_text(names, "singular", &kind.to_lowercase());
        default_text(names, "listKind", &format!("{kind}List"));
    }
    default_text(object(spec, "conversion"), "strategy", "None");
    if let Some(service) = at(spec, "conversion.webhook.clientConfig.service") {
        default(service, "port", 443);
    }
    each(spec, "versions", |version| {
        each(version, "additionalPrinterColumns", |column| {
            default(column, "priority", 0);
            if column["priority"] == 0 {
                registry::edit::remove(column, "priority");
            }
        })
    });
}

fn stored_version(definition: &Value) -> Option<&str> {
    items(definition, "spec.versions").iter().find(|v| v["storage"] == true).map(|v| text(v, "name"))
}

fn prepare_for_create(definition: &mut Value, _: &Context<'_>) {
    let stored = stored_version(definition).map(|version| json!([version]));
    definition["status"] = json!({
        "conditions": null,
        "acceptedNames": {"plural": "", "kind": ""},
        "storedVersions": stored,
    });
}

fn prepare_for_update(definition: &mut Value, old: &Value, _: &Context<'_>) {
    copy(definition, old, "status");
    let Some(version) = stored_version(definition).map(str::to_owned) else { return };
    let status = object(definition, "status");
    if !items(status, "storedVersions").iter().any(|v| *v == version) {
        default(status, "storedVersions", Vec::<Value>::new());
        if let Some(list) = status["storedVersions"].as_array_mut() {
            list.push(version.into());
        }
    }
}

fn validate(definition: &Cursor<'_>, old: Option<&Cursor<'_>>) {
    approval(definition);
    spec(&definition.field("spec"), old.and_then(|old| old.field("spec").value()));
    stored_versions(definition);
}

/// The version that is stored, and what was, must be among the versions.
fn stored_versions(definition: &Cursor<'_>) {
    let (stored, versions) = (definition.dig("status.storedVersions"), definition.dig("spec.versions"));
    if stored.is_empty() {
        return stored.invalid("must have at least one stored version");
    }
    for version in versions.items().filter(|version| version.field("storage").bool()) {
        if !stored.items().any(|name| name.str() == version.field("name").str()) {
            stored.invalid(format!("must have the storage version {}", version.field("name").str()));
        }
    }
    for name in stored.items() {
        if !versions.items().any(|version| version.field("name").str() == name.str()) {
            name.invalid("missing from spec.versions: objects may still be stored in it");
        }
    }
}

fn validate_new(definition: &Cursor<'_>) {
    let spec = definition.field("spec");
    let required = format!("{}.{}", spec.dig("names.plural").str(), spec.field("group").str());
    let name = definition.dig("metadata.name");
    if !name.is_empty() && name.str() != required {
        name.invalid("must be spec.names.plural+\".\"+spec.group");
    }
    validate(definition, None);
    conversion_ca(definition, None);
}

fn spec(spec: &Cursor<'_>, old: Option<&Value>) {
    let (group, versions) = (spec.field("group"), spec.field("versions"));
    if group.required() {
        group.shape(names::dns1123_subdomain);
        if group.str().split('.').count() < 2 {
            group.invalid("should be a domain with at least one dot");
        }
    }
    spec.field("scope").required_one_of(&["Cluster", "Namespaced"]);
    versions.required();
    versions.unique(|v| v.field("name"));
    let stored = versions.items().filter(|v| v.field("storage").bool()).count();
    if stored != 1 && !versions.is_empty() {
        versions.invalid("must have exactly one version marked as storage version");
    }
    for version in versions.items() {
        version.field("name").shape(names::dns1035_label);
        scale(&version.dig("subresources.scale"));
        printer_columns(&version.field("additionalPrinterColumns"));
        deprecation_warning(&version.field("deprecationWarning"), version.field("deprecated").bool());
        selectable(&version);
    }
    schemas(spec, old);
    if spec.field("preserveUnknownFields").bool() {
        spec.field("preserveUnknownFields").invalid(
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
    self::names(&spec.field("names"));
    conversion(&spec.field("conversion"));
}

/// Upstream's errors name what all versions have alike as if it stood above them.
fn shared<'a>(spec: &Cursor<'a>, member: &str, above: &str) -> Option<Cursor<'a>> {
    let versions = spec.field("versions").array();
    let first = versions.first()?.get(member);
    let same = versions.iter().all(|v| v.get(member) == first);
    same.then(|| Cursor::at(first, spec.path().child(above), spec.errors()))
}

fn schemas(spec: &Cursor<'_>, old: Option<&Value>) {
    let defaults = !spec.field("preserveUnknownFields").bool();
    let has_status = |version: &Cursor<'_>| version.dig("subresources.status").exists();
    // Whether a version had the schema before: what its rules cost was checked then.
    let had = |version: &str, schema: Option<&Value>| {
        let versions = old.and_then(|old| old["versions"].as_array()).into_iter().flatten();
        let mut before = versions.filter(|v| v["name"] == version).map(|v| &v["schema"]["openAPIV3Schema"]);
        schema.is_some() && before.any(|before| Some(before) == schema)
    };
    let one = |schema: &Cursor<'_>, version: &str, status: bool| {
        let errors = Errors::new();
        let at = Cursor::at(schema.value(), schema.path(), &errors);
        super::schema::validate(&at, status, defaults);
        // Expressions are compiled against schemas in which nothing is wrong.
        if errors.is_empty() && !had(version, schema.value()) {
            expressions::definition::validate(&at);
        }
        schema.errors().extend(errors.into_vec());
    };
    let versions: Vec<Cursor<'_>> = spec.field("versions").items().collect();
    let shared = shared(spec, "schema", "validation").map(|schema| schema.field("openAPIV3Schema"));
    if let (Some(schema), Some(first)) = (shared.filter(Cursor::exists), versions.first()) {
        return one(&schema, first.field("name").str(), versions.iter().any(has_status));
    }
    for version in &versions {
        let schema = version.dig("schema.openAPIV3Schema");
        if schema.exists() {
            one(&schema, version.field("name").str(), has_status(version));
        } else {
            schema.missing("");
        }
    }
}

fn formats(definition: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for version in items(definition, "spec.versions") {
        super::schema::unrecognized_formats(&version["schema"]["openAPIV3Schema"], &mut found);
    }
    found
}

/// Formats that no value is held against, where an update brings them.
fn warnings(definition: &Value, old: Option<&Value>) -> Vec<String> {
    let before = old.map(formats).unwrap_or_default();
    let new = formats(definition).into_iter().filter(|format| !before.contains(format));
    new.map(|format| format!("unrecognized format {format:?}")).collect()
}

/// Fields that selectors may name: scalars that the schema knows, found without lists on the way.
fn selectable(version: &Cursor<'_>) {
    const FIELDS_MAX: usize = 8;
    let fields = version.field("selectableFields");
    let schema = version.dig("schema.openAPIV3Schema");
    if !fields.is_empty() && !schema.exists() {
        fields
            .invalid_value("", "selectableFields may only be set when version.schema.openAPIV3Schema is not included");
        return;
    }
    let mut seen = Vec::new();
    for field in fields.items() {
        let path = field.field("jsonPath");
        if !path.required() {
            continue;
        }
        let simple = path
            .str()
            .strip_prefix('.')
            .is_some_and(|p| p.split('.').all(|n| !n.is_empty() && !n.contains(['[', '*', '\''])));
        if !simple {
            path.invalid("is an invalid path: must be a simple path, such as .spec.color");
            continue;
        }
        if path.str() == ".metadata" || path.str().starts_with(".metadata.") {
            path.invalid("must not point to fields in metadata");
        }
        let Some(found) = schema.value().and_then(|s| super::schema::at_path(s, path.str())) else {
            path.invalid("is an invalid path: does not refer to a valid field");
            continue;
        };
        if !matches!(found["type"].as_str(), Some("string" | "boolean" | "integer")) {
            path.invalid("must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.");
        }
        if seen.contains(&path.str()) {
            path.duplicate();
        } else {
            seen.push(path.str());
        }
    }
    if seen.len() > FIELDS_MAX {
        fields.push(FieldError::too_many(fields.path(), seen.len(), FIELDS_MAX));
    }
}

/// Groups of the project itself need a word from those who review its API.
fn approval(definition: &Cursor<'_>) {
    const ANNOTATION: &str = "api-approved.kubernetes.io";
    let group = definition.dig("spec.group").str();
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|p| group == *p || group.ends_with(&format!(".{p}")));
    let at = definition.dig("metadata.annotations");
    let value = at.value().and_then(|a| a[ANNOTATION].as_str()).unwrap_or("");
    let at = Cursor::at(at.value().and_then(|a| a.get(ANNOTATION)), at.path().key(ANNOTATION), at.errors());
    match value {
        _ if !protected => {}
        "" => at.missing(&format!(
            "protected groups must have approval annotation {ANNOTATION:?}, see https://github.com/kubernetes/enhancements/pull/1111"
        )),
        text if text.starts_with("unapproved") || text.starts_with("http://") || text.starts_with("https://") => {}
        _ => at.invalid(format!(
            "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
        )),
    }
}

fn names(names: &Cursor<'_>) {
    names.field("plural").required_shape(names::dns1035_label);
    names.field("singular").required_shape(names::dns1035_label);
    for kind in ["kind", "listKind"].map(|n| names.field(n)) {
        if kind.required() {
            names::dns1035_label(&kind.str().to_lowercase()).into_iter().for_each(|problem| kind.invalid(problem));
        }
    }
    for list in ["shortNames", "categories"] {
        for short in names.field(list).items() {
            short.shape(names::dns1035_label);
        }
    }
    let (kind, list) = (names.field("kind"), names.field("listKind"));
    if !list.is_empty() && kind.str() == list.str() {
        list.invalid("kind and listKind may not be the same");
    }
}

fn scale(scale: &Cursor<'_>) {
    if !scale.exists() {
        return;
    }
    for (name, prefixes, required) in [
        ("specReplicasPath", &[".spec."][..], true),
        ("statusReplicasPath", &[".status."], true),
        ("labelSelectorPath", &[".spec.", ".status."], false),
    ] {
        let path = scale.field(name);
        if required && !path.required() || path.is_empty() {
            continue;
        }
        if !path.str().starts_with('.') {
            path.invalid("must be a simple json path starting with .");
        } else if !prefixes.iter().any(|prefix| path.str().starts_with(prefix)) {
            let places: Vec<&str> = prefixes.iter().map(|prefix| prefix.trim_end_matches('.')).collect();
            let either = if places.len() > 1 { "either " } else { "" };
            path.invalid(format!("should be a json path under {either}{}", places.join(" or ")));
        }
    }
}

fn printer_columns(columns: &Cursor<'_>) {
    for column in columns.items() {
        column.field("name").required();
        if column.field("type").required() {
            one_of(&column.field("type"), &["boolean", "date", "integer", "number", "string"]);
        }
        const FORMATS: [&str; 9] =
            ["binary", "byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
        if !column.field("format").is_empty() {
            one_of(&column.field("format"), &FORMATS);
        }
        // Upstream's name of the member. Whether the rest is a path shows when columns are made.
        let path = column.field("jsonPath");
        let path = Cursor::at(path.value(), column.path().child("JSONPath"), column.errors());
        if path.required() && !path.str().starts_with('.') {
            path.invalid("must be a simple json path starting with .");
        }
    }
}

/// One of some words; upstream calls another invalid here and not unsupported.
fn one_of(word: &Cursor<'_>, words: &[&str]) {
    if !words.contains(&word.str()) {
        word.invalid(format!("must be one of {}", words.join(",")));
    }
}

/// What clients of a version are told.
fn deprecation_warning(warning: &Cursor<'_>, deprecated: bool) {
    const BYTES_MAX: usize = 256;
    if !warning.exists() {
        return;
    }
    if !deprecated {
        return warning.invalid("can only be set for deprecated versions");
    }
    if warning.len() > BYTES_MAX {
        warning.invalid(format!("must be <= {BYTES_MAX} characters long"));
    }
    if warning.is_empty() {
        warning.invalid("must not be an empty string");
    }
    if warning.str().chars().any(char::is_control) {
        warning.invalid("must only contain printable UTF-8 characters");
    }
}

fn conversion(conversion: &Cursor<'_>) {
    let webhook = conversion.field("webhook");
    // Upstream names these as they were called before v1.
    let path = |name: &str| conversion.path().child(name);
    let config = Cursor::at(webhook.field("clientConfig").value(), path("webhookClientConfig"), conversion.errors());
    let versions = webhook.field("conversionReviewVersions");
    let versions = Cursor::at(versions.value(), path("conversionReviewVersions"), conversion.errors());
    match conversion.field("strategy").str() {
        "None" => {
            for given in [config, versions].iter().filter(|given| given.exists() && !given.is_empty()) {
                given.forbid("should not be set when strategy is not set to Webhook");
            }
        }
        "Webhook" => {
            if config.exists() {
                client(&config);
            } else {
                config.missing("required when strategy is set to Webhook");
            }
            review_versions(&versions, "");
        }
        "" => conversion.field("strategy").missing(""),
        _ => conversion.field("strategy").not_supported(&["None", "Webhook"]),
    }
}

/// Upstream names the bundle as it was called before v1.
fn conversion_ca(definition: &Cursor<'_>, old: Option<&Cursor<'_>>) {
    const BUNDLE: &str = "spec.conversion.webhook.clientConfig.caBundle";
    if definition.dig("spec.conversion.strategy").str() == "Webhook" {
        let path = definition.dig("spec.conversion").path().child("webhookClientConfig").child("caBundle");
        let bundle = Cursor::at(definition.dig(BUNDLE).value(), path, definition.errors());
        ca_bundle::validate(&bundle, old.map(|old| old.dig(BUNDLE).str()));
    }
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    validate(new, Some(old));
    conversion_ca(new, Some(old));
    let established =
        old.dig("status.conditions").array().iter().any(|c| c["type"] == "Established" && c["status"] == "True");
    for path in ["spec.group", "spec.names.plural"] {
        new.dig(path).immutable(&old.dig(path));
    }
    if established {
        for path in ["spec.scope", "spec.names.kind"] {
            new.dig(path).immutable(&old.dig(path));
        }
    }
}
