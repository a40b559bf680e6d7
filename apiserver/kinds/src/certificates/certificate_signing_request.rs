//! CertificateSigningRequests. Who asks (`spec.username`, groups, uid, extra) is written by the server when one is made.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use registry::edit::{copy, get, items, object, remove, text};
use registry::printing::{AGE, NAME, NONE, column, created, human_duration, name};
use registry::strategy::{Context, NameRule, SelectableField, Strategy, Subresource, Table};
use request::User;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const SECONDS_MIN: i64 = 600;
/// Shorter RSA keys are not verified by the library.
const RSA_BITS_CHECKED: usize = 2048;

pub const STRATEGY: Strategy = Strategy {
    // Nobody minds what a request is called.
    name: NameRule::PathSegment,
    prepare_for_create: |request, context| {
        request["status"] = Value::Object(Default::default());
        sign_with(object(request, "spec"), context.user);
    },
    prepare_for_update: |request, old, _| {
        for name in ["spec", "status"] {
            copy(request, old, name);
        }
    },
    validate,
    validate_update: |_, _| {},
    fields: &[SelectableField { name: "spec.signerName", value: |request| text(request, "spec.signerName").into() }],
    subresources: &[
        Subresource { name: "status", prepare: keep_approval, validate: conditions, reset_fields: &["spec"] },
        Subresource {
            name: "approval",
            prepare: only_approval,
            validate: conditions,
            reset_fields: &["spec", "status.certificate"],
        },
    ],
    table: Some(Table {
        columns: &[
            NAME,
            AGE,
            column("SignerName", ".spec.signerName"),
            column("Requestor", ".spec.username"),
            column("RequestedDuration", ".spec.expirationSeconds"),
            column("Condition", ".status.conditions"),
        ],
        cells: |request, now| {
            let seconds = get(request, "spec.expirationSeconds").and_then(Value::as_i64);
            vec![
                name(request),
                created(request, now),
                text(request, "spec.signerName").into(),
                text(request, "spec.username").into(),
                seconds.map_or(NONE.into(), human_duration).into(),
                state(request).into(),
            ]
        },
    }),
    ..Strategy::GENERIC
};

/// Approvers check by who asks, so the server writes that, whatever the client says.
fn sign_with(spec: &mut Value, user: &User) {
    for name in ["username", "uid", "groups", "extra"] {
        remove(spec, name);
    }
    spec["username"] = user.name.as_str().into();
    if !user.uid.is_empty() {
        spec["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        spec["groups"] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        spec["extra"] = serde_json::json!(user.extra);
    }
}

fn is_approval(condition: &Value) -> bool {
    matches!(text(condition, "type"), "Approved" | "Denied")
}

/// Conditions with the decisions taken from one object and all others from another.
fn merged_conditions(decisions: &Value, others: &Value) -> Vec<Value> {
    let mut list: Vec<_> = items(decisions, "status.conditions").iter().filter(|c| is_approval(c)).cloned().collect();
    list.extend(items(others, "status.conditions").iter().filter(|c| !is_approval(c)).cloned());
    list
}

/// Of a write to `/status`, the decisions stay as they were.
fn keep_approval(request: &mut Value, old: &Value, context: &Context<'_>) {
    copy(request, old, "spec");
    let conditions = merged_conditions(old, request);
    set_conditions(request, conditions, context.now);
}

/// Of a write to `/approval`, only the conditions are taken.
fn only_approval(request: &mut Value, old: &Value, context: &Context<'_>) {
    let conditions = items(request, "status.conditions").to_vec();
    for name in ["spec", "status"] {
        copy(request, old, name);
    }
    set_conditions(request, conditions, context.now);
}

fn set_conditions(request: &mut Value, mut conditions: Vec<Value>, now: &str) {
    for condition in &mut conditions {
        for name in ["lastUpdateTime", "lastTransitionTime"] {
            registry::edit::default(condition, name, now);
        }
    }
    if !conditions.is_empty() {
        object(request, "status")["conditions"] = conditions.into();
    }
}

fn validate(request: &Cursor<'_>) {
    let spec = request.field("spec");
    if let Some(problem) = problem_of(spec.field("request").str()) {
        spec.field("request").invalid_value(spec.field("request").str(), problem);
    }
    let usages = spec.field("usages");
    usages.required_because("usages must be provided");
    for usage in usages.items() {
        if !USAGES.contains(&usage.str()) {
            usage.not_supported(&USAGES);
        }
    }
    usages.unique(Cursor::clone);
    let signer = spec.field("signerName");
    if signer.required_because("signerName must be provided") {
        signer_name(&signer);
        if signer.str() == "kubernetes.io/legacy-unknown" {
            signer.invalid("the legacy signerName is not allowed via this API version");
        }
    }
    spec.field("expirationSeconds")
        .at_least(SECONDS_MIN, "may not specify a duration less than 600 seconds (10 minutes)");
}

/// A domain of two labels or more, and a path that can stand in the name of a resource.
fn signer_name(signer: &Cursor<'_>) {
    const BYTES_MAX: usize = names::SUBDOMAIN_MAX + 1 + names::SUBDOMAIN_MAX + 1 + names::LABEL_MAX;
    let [domain, path] = signer.str().split('/').collect::<Vec<_>>()[..] else {
        return signer.invalid("must be a fully qualified domain and path of the form 'example.com/signer-name'");
    };
    if domain.len() > names::SUBDOMAIN_MAX {
        signer.too_long(names::SUBDOMAIN_MAX);
    }
    domain.split('.').flat_map(names::dns1123_label).for_each(|problem| signer.invalid_value(domain, problem));
    if !domain.contains('.') {
        signer.invalid_value(domain, "should be a domain with at least two segments separated by dots");
    }
    path.split('.').flat_map(names::dns1123_subdomain).for_each(|problem| signer.invalid_value(path, problem));
    signer.bytes_max(BYTES_MAX);
}

/// Why a text is no request, if it is none.
fn problem_of(base64: &str) -> Option<String> {
    const NOT_A_REQUEST: &str = "PEM block type must be CERTIFICATE REQUEST";
    let bytes = STANDARD.decode(base64).ok()?;
    let Ok((_, pem)) = parse_x509_pem(&bytes) else { return Some(NOT_A_REQUEST.into()) };
    if pem.label != "CERTIFICATE REQUEST" {
        return Some(NOT_A_REQUEST.into());
    }
    match X509CertificationRequest::from_der(&pem.contents) {
        Err(e) => Some(format!("the PEM block holds no certificate request: {e}")),
        Ok((_, request)) if !is_signed(&request) => Some("the request is not signed with its own key".into()),
        Ok(_) => None,
    }
}

/// Whether a request is signed with the key that it is for. What cannot be checked here is left to the signer: small keys and
/// algorithms that the library does not know.
fn is_signed(request: &X509CertificationRequest<'_>) -> bool {
    let small = match request.certification_request_info.subject_pki.parsed() {
        Ok(PublicKey::RSA(key)) => key.key_size() < RSA_BITS_CHECKED,
        _ => false,
    };
    small || !matches!(request.verify_signature(), Err(X509Error::SignatureVerificationError))
}

fn conditions(new: &Cursor<'_>, old: &Cursor<'_>) {
    let list = new.dig("status.conditions");
    let mut seen = Vec::new();
    for condition in list.items() {
        let kind = condition.field("type");
        kind.required();
        if seen.contains(&kind.str()) {
            kind.duplicate();
        }
        seen.push(kind.str());
        condition.field("status").required();
        if matches!(kind.str(), "Approved" | "Denied" | "Failed") && condition.field("status").str() != "True" {
            condition.field("status").not_supported(&["True"]);
        }
    }
    if seen.contains(&"Approved") && seen.contains(&"Denied") {
        list.invalid("Approved and Denied conditions are mutually exclusive");
    }
    for kind in ["Approved", "Denied", "Failed"] {
        let had = old.dig("status.conditions").array().iter().any(|c| c["type"] == kind);
        if had && !seen.contains(&kind) {
            list.forbid(format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    let (certificate, before) = (new.dig("status.certificate"), old.dig("status.certificate"));
    if !before.is_empty() {
        certificate.immutable(&before);
    }
}

fn state(request: &Value) -> String {
    let has = |kind: &str| items(request, "status.conditions").iter().any(|c| c["type"] == kind);
    let mut words = Vec::new();
    words.push(if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    });
    if has("Failed") {
        words.push("Failed");
    }
    if !text(request, "status.certificate").is_empty() {
        words.push("Issued");
    }
    words.join(",")
}
