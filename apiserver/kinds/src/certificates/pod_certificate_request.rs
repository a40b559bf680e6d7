//! PodCertificateRequests: a kubelet asks a signer for a certificate that a pod on its node is to have. (KEP-4317)
//!
//! That the pod is on that node is the matter of NodeRestriction; that whoever answers may sign, of CertificateSigning.

use apimachinery::time;
use apimachinery::validation::names::Problems;
use apimachinery::validation::object_meta::annotations;
use apimachinery::validation::{Cursor, names};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;

use super::{pem, proof};
use apimachinery::validation::conditions::conditions;
use registry::edit::{copy, default, items, object, text};
use registry::printing::{NAME, column, name};
use registry::strategy::{SelectableField, Strategy, Subresource, Table};

const HOUR: i64 = 3600;
/// How long a certificate may last, for signers of others and for those of Kubernetes.
const SECONDS_MAX: i64 = 91 * 24 * HOUR;
const SECONDS_MAX_KUBERNETES: i64 = 24 * HOUR;
const SECONDS_DEFAULT: i64 = 24 * HOUR;
/// Of key and proof each.
const KEY_BYTES_MAX: usize = 10 << 10;
const CHAIN_BYTES_MAX: usize = 100 << 10;
const UID_BYTES_MAX: usize = 128;
/// How far the begin of a certificate may be from now.
const SKEW_SECONDS: i64 = 5 * 60;
/// How far from both ends of a certificate its renewal may begin.
const REFRESH_MARGIN_SECONDS: i64 = 10 * 60;
/// Conditions that say how it went. One of them ends the request.
const ENDS: [&str; 3] = ["Denied", "Failed", "Issued"];

pub const STRATEGY: Strategy = Strategy {
    unconditional_update: false,
    default: |request| default(object(request, "spec"), "maxExpirationSeconds", SECONDS_DEFAULT),
    validate,
    validate_update: |new, old| {
        new.field("spec").immutable(&old.field("spec"));
    },
    fields: &[
        SelectableField { name: "spec.signerName", value: |request| text(request, "spec.signerName").into() },
        SelectableField { name: "spec.podName", value: |request| text(request, "spec.podName").into() },
        SelectableField { name: "spec.nodeName", value: |request| text(request, "spec.nodeName").into() },
    ],
    subresources: &[Subresource {
        name: "status",
        prepare: |request, old, _| copy(request, old, "spec"),
        validate: status,
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("PodName", ".spec.podName"),
            column("ServiceAccountName", ".spec.serviceAccountName"),
            column("NodeName", ".spec.nodeName"),
            column("SignerName", ".spec.signerName"),
            column("State", "Pending, or how it went: Issued, Denied or Failed."),
        ],
        cells: |request, _| {
            let spec = |member: &str| text(request, &format!("spec.{member}")).into();
            let mut kinds = items(request, "status.conditions").iter().filter_map(|c| c["type"].as_str());
            let state = kinds.rfind(|kind| ENDS.contains(kind)).unwrap_or("Pending");
            vec![
                name(request),
                spec("podName"),
                spec("serviceAccountName"),
                spec("nodeName"),
                spec("signerName"),
                state.into(),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn validate(request: &Cursor<'_>) {
    let spec = request.field("spec");
    let signer = spec.field("signerName");
    if signer.required() {
        signer.shape(names::domain_prefixed_path);
    }
    for (name, uid) in [("podName", "podUID"), ("serviceAccountName", "serviceAccountUID"), ("nodeName", "nodeUID")] {
        spec.field(name).shape(names::dns1123_subdomain);
        let uid = spec.field(uid);
        match uid.str().len() {
            0 => uid.invalid("must not be empty"),
            1..=UID_BYTES_MAX => {}
            _ => uid.too_long(UID_BYTES_MAX),
        }
    }
    if spec.field("maxExpirationSeconds").exists() {
        lifetime(&spec, signer.str());
    } else {
        spec.field("maxExpirationSeconds").missing("must be set");
    }
    user_annotations(&spec.field("unverifiedUserAnnotations"));
    proven(&spec);
}

/// Checks the source of a projected volume that makes a kubelet write such a request.
pub fn projection(source: &Cursor<'_>) {
    source.field("signerName").required_shape(names::domain_prefixed_path);
    source.field("keyType").required_one_of(&["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"]);
    lifetime(source, source.field("signerName").str());
    user_annotations(&source.field("userAnnotations"));
}

/// Checks how long a certificate may last, where that is said.
fn lifetime(holder: &Cursor<'_>, signer: &str) {
    let seconds = holder.field("maxExpirationSeconds");
    let domain = signer.split('/').next().unwrap_or_default();
    let of_kubernetes = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    let most = if of_kubernetes { SECONDS_MAX_KUBERNETES } else { SECONDS_MAX };
    if seconds.i64().is_some_and(|n| !(HOUR..=most).contains(&n)) {
        seconds.invalid(format!("must be in the range [{HOUR}, {most}]"));
    }
}

/// Annotations for a signer: like those of metadata, but every key has a domain.
fn user_annotations(map: &Cursor<'_>) {
    annotations(map);
    for (key, _) in map.entries() {
        domain_prefixed_key(key).into_iter().for_each(|problem| map.invalid_value(key, problem));
    }
}

fn domain_prefixed_key(key: &str) -> Problems {
    names::domain_prefixed_path(&key.to_lowercase())
}

fn proven(spec: &Cursor<'_>) {
    let (key, signature) = (spec.field("pkixPublicKey"), spec.field("proofOfPossession"));
    let [key_bytes, signature_bytes] = [&key, &signature].map(|c| STANDARD.decode(c.str()).unwrap_or_default());
    for (cursor, bytes) in [(&key, &key_bytes), (&signature, &signature_bytes)] {
        if bytes.len() > KEY_BYTES_MAX {
            return cursor.too_long(KEY_BYTES_MAX);
        }
    }
    match proof::check(&key_bytes, spec.field("podUID").str().as_bytes(), &signature_bytes) {
        Ok(()) => {}
        Err(proof::Refusal::Key(shown, why)) if shown.is_empty() => key.invalid(why),
        Err(proof::Refusal::Key(shown, why)) => key.invalid_value(shown, why),
        Err(proof::Refusal::Proof) => {
            signature.invalid_value("<value omitted>", "could not verify proof-of-possession signature");
        }
    }
}

/// What a signer answers: one condition that ends the request, and with `Issued` a certificate.
fn status(new: &Cursor<'_>, old: &Cursor<'_>) {
    let (status, was) = (new.field("status"), old.field("status"));
    let list = status.field("conditions");
    conditions(&list);
    let ends = |status: &Cursor<'_>| -> Vec<String> {
        let kinds = status.field("conditions").array().iter().filter_map(|c| c["type"].as_str());
        kinds.filter(|kind| ENDS.contains(kind)).map(str::to_owned).collect()
    };
    for condition in list.items().filter(|c| ENDS.contains(&c.field("type").str())) {
        if condition.field("status").str() != "True" {
            condition.field("status").not_supported(&["True"]);
        }
    }
    let ended = ends(&status);
    if ended.len() > 1 {
        list.invalid("There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"");
    }
    if !ends(&was).is_empty() {
        status.immutable_because(&was, "immutable after issuance, denial, or failure");
        return;
    }
    if ended.iter().any(|kind| kind == "Issued") {
        issued(&new.field("spec"), &status);
    } else {
        for name in ["certificateChain", "notBefore", "beginRefreshAt", "notAfter"] {
            if !status.field(name).is_empty() {
                status.field(name).invalid("may only be set together with the condition \"Issued\"");
            }
        }
    }
}

fn issued(spec: &Cursor<'_>, status: &Cursor<'_>) {
    let chain = status.field("certificateChain");
    if chain.str().len() > CHAIN_BYTES_MAX {
        return chain.too_long(CHAIN_BYTES_MAX);
    }
    let blocks = match pem::certificates(chain.str()) {
        Err(problem) => return chain.invalid(problem),
        Ok(blocks) if blocks.is_empty() => return chain.invalid("must contain at least one certificate"),
        Ok(blocks) => blocks,
    };
    let parsed: Result<Vec<X509Certificate<'_>>, _> = blocks.iter().map(|block| block.parse_x509()).collect();
    let Ok(certificates) = parsed else { return chain.invalid("must consist of certificates that parse as X.509") };
    let leaf = &certificates[0];
    if STANDARD.encode(leaf.public_key().raw) != spec.field("pkixPublicKey").str() {
        chain.invalid("leaf certificate was not issued to the requested public key");
    }
    for pair in certificates.windows(2) {
        if pair[0].verify_signature(Some(pair[1].public_key())).is_err() {
            chain.invalid("each certificate must be signed by the one after it");
        }
    }
    let (begin, end) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    let lasts = end - begin;
    let most = spec.field("maxExpirationSeconds").i64().unwrap_or_default();
    if lasts < HOUR {
        chain.invalid("leaf certificate lifetime must be >= 1 hour");
    } else if lasts > most {
        chain.invalid(format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})"));
    }
    let seconds = |cursor: &Cursor<'_>| time::parse(cursor.str()).map(Timestamp::as_second);
    let (not_before, not_after) = (status.field("notBefore"), status.field("notAfter"));
    match seconds(&not_before) {
        None => not_before.missing("must be present and consistent with the issued certificate"),
        Some(at) if at != begin => {
            not_before.invalid("must be set to the NotBefore time encoded in the leaf certificate")
        }
        // The one rule that looks at the clock: a signer whose clock is wrong is told so.
        Some(at) if (at - Timestamp::now().as_second()).abs() > SKEW_SECONDS => {
            not_before.invalid("must be set to within 5 minutes of kube-apiserver's current time");
        }
        Some(_) => {}
    }
    match seconds(&not_after) {
        None => not_after.missing("must be present and consistent with the issued certificate"),
        Some(at) if at != end => not_after.invalid("must be set to the NotAfter time encoded in the leaf certificate"),
        Some(_) => {}
    }
    let refresh = status.field("beginRefreshAt");
    match seconds(&refresh) {
        None => refresh.missing("must be present and consistent with the issued certificate"),
        Some(at) if at < begin + REFRESH_MARGIN_SECONDS => {
            refresh.invalid("must be at least 10 minutes after status.notBefore");
        }
        Some(at) if at > end - REFRESH_MARGIN_SECONDS => {
            refresh.invalid("must be at least 10 minutes before status.notAfter");
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::Value;
    use apimachinery::validation::Errors;
    use serde_json::json;

    /// A request that is right, and the key it is about.
    fn request() -> (Value, rcgen::KeyPair) {
        use rcgen::SigningKey;
        let key = rcgen::KeyPair::generate().unwrap();
        let request = json!({"metadata": {"name": "r", "namespace": "n"}, "spec": {
            "signerName": "example.com/s", "podName": "p", "podUID": "uid", "serviceAccountName": "sa",
            "serviceAccountUID": "u2", "nodeName": "n1", "nodeUID": "u3", "maxExpirationSeconds": 86400,
            "pkixPublicKey": STANDARD.encode(rcgen::PublicKeyData::subject_public_key_info(&key)),
            "proofOfPossession": STANDARD.encode(key.sign(b"uid").unwrap()),
        }});
        (request, key)
    }

    fn fields(rules: impl Fn(&Errors)) -> Vec<String> {
        let errors = Errors::new();
        rules(&errors);
        errors.into_vec().iter().map(|e| e.field.to_string()).collect()
    }

    #[test]
    fn requests_are_proven() {
        for (member, value, want) in [
            ("podName", json!("p"), vec![]),
            ("signerName", json!("s"), vec!["spec.signerName"]),
            ("podUID", json!("other"), vec!["spec.proofOfPossession"]),
            ("nodeUID", json!(""), vec!["spec.nodeUID"]),
            ("nodeName", json!("A B"), vec!["spec.nodeName"]),
            ("maxExpirationSeconds", json!(3599), vec!["spec.maxExpirationSeconds"]),
            ("maxExpirationSeconds", json!(SECONDS_MAX + 1), vec!["spec.maxExpirationSeconds"]),
            ("pkixPublicKey", json!("AAAA"), vec!["spec.pkixPublicKey"]),
            ("unverifiedUserAnnotations", json!({"example.com/a": "b"}), vec![]),
            ("unverifiedUserAnnotations", json!({"a": "b"}), vec!["spec.unverifiedUserAnnotations"]),
        ] {
            let (mut request, _) = request();
            request["spec"][member] = value.clone();
            let got = fields(|errors| validate(&Cursor::root(&request, errors)));
            assert_eq!(got, want, "{member}={value}");
        }
    }

    #[test]
    fn a_certificate_fits_its_request_and_ends_it() {
        let (request, key) = request();
        let now = Timestamp::now().as_second();
        let rfc = |seconds: i64| time::format(Timestamp::from_second(seconds).unwrap());
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        let date = |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds as u64);
        (params.not_before, params.not_after) = (date(now), date(now + 2 * HOUR));
        let chain = params.self_signed(&key).unwrap().pem();
        let condition = |kind: &str| {
            json!({"type": kind, "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": rfc(now)})
        };
        let good = json!({"conditions": [condition("Issued")], "certificateChain": chain, "notBefore": rfc(now),
            "notAfter": rfc(now + 2 * HOUR), "beginRefreshAt": rfc(now + HOUR)});
        let cases: [(&str, Value, Vec<&str>); 6] = [
            ("notBefore", json!(rfc(now)), vec![]),
            ("notBefore", json!(rfc(now + 1)), vec!["status.notBefore"]),
            ("beginRefreshAt", json!(rfc(now + 60)), vec!["status.beginRefreshAt"]),
            ("notAfter", Value::Null, vec!["status.notAfter"]),
            ("certificateChain", json!("nothing"), vec!["status.certificateChain"]),
            (
                "conditions",
                json!([condition("Denied")]),
                vec!["status.certificateChain", "status.notBefore", "status.beginRefreshAt", "status.notAfter"],
            ),
        ];
        for (member, value, want) in cases {
            let mut answered = request.clone();
            answered["status"] = good.clone();
            answered["status"][member] = value.clone();
            let got = fields(|errors| status(&Cursor::root(&answered, errors), &Cursor::root(&request, errors)));
            assert_eq!(got, want, "{member}={value}");
        }
        let mut answered = request.clone();
        answered["status"] = good;
        let mut again = answered.clone();
        again["status"]["conditions"][0]["reason"] = json!("Other");
        let got = fields(|errors| status(&Cursor::root(&again, errors), &Cursor::root(&answered, errors)));
        assert_eq!(got, ["status"]);
    }
}
