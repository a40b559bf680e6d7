//! Secrets.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::config_map::{DATA_BYTES_MAX, decoded_len, immutable};
use registry::edit::{copy, default_text, object, remove, text};
use registry::printing::{AGE, NAME, column, count, created, name};
use registry::strategy::{SelectableField, Strategy, Table};

const TLS: &str = "kubernetes.io/tls";
const SERVICE_ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";
const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

/// Types of secrets and the keys that they can't be without.
const KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    (TLS, &["tls.crt", "tls.key"]),
];

pub const STRATEGY: Strategy = Strategy {
    default,
    prepare_for_update: |secret, old, _| {
        if text(secret, "type").is_empty() {
            copy(secret, old, "type");
        }
    },
    validate,
    validate_update,
    warnings: |secret, _| match text(secret, "type") {
        TLS => key_pair_problem(&secret["data"]).into_iter().collect(),
        _ => Vec::new(),
    },
    fields: &[SelectableField { name: "type", value: |secret| text(secret, "type").into() }],
    table: Some(Table {
        columns: &[NAME, column("Type", ".type"), column("Data", ".data"), AGE],
        cells: |secret, now| {
            let keys = count(secret, "data").to_string();
            vec![name(secret), secret["type"].clone(), keys.into(), created(secret, now)]
        },
    }),
    ..Strategy::GENERIC
};

/// Why certificate and key of a secret do not make a pair that a server could use.
fn key_pair_problem(data: &Value) -> Option<String> {
    let bytes = |name: &str| STANDARD.decode(data[name].as_str().unwrap_or_default()).unwrap_or_default();
    let chain: Vec<CertificateDer<'_>> =
        CertificateDer::pem_slice_iter(&bytes("tls.crt")).filter_map(Result::ok).collect();
    if chain.is_empty() {
        return Some("tls: failed to find any PEM data in certificate input".into());
    }
    let Ok(key) = PrivateKeyDer::from_pem_slice(&bytes("tls.key")) else {
        return Some("tls: failed to find any PEM data in key input".into());
    };
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).err().map(|e| format!("tls: private key and certificate: {e}"))
}

/// `stringData` is a way to write `data` without base64; it is never read back.
fn default(secret: &mut Value) {
    default_text(secret, "type", "Opaque");
    if let Some(Value::Object(texts)) =
        remove(secret, "stringData").filter(|t| t.as_object().is_some_and(|t| !t.is_empty()))
    {
        let data = object(secret, "data");
        for (key, value) in texts {
            data[key] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
        }
    }
}

fn validate(secret: &Cursor<'_>) {
    let data = secret.field("data");
    let mut bytes = 0;
    for (key, value) in data.entries() {
        names::config_map_key(key).into_iter().for_each(|problem| value.invalid_value(key, problem));
        bytes += decoded_len(value.str());
    }
    if bytes > DATA_BYTES_MAX {
        data.too_long(DATA_BYTES_MAX);
    }
    let at = |key: &'static str| Cursor::at(data.field(key).value(), data.path().key(key), data.errors());
    let kind = secret.field("type").str();
    let keys = KEYS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| keys);
    for key in keys {
        if !at(key).exists() {
            at(key).missing("");
        } else if key.starts_with(".docker") && !is_json(at(key).str()) {
            at(key).invalid_value("<secret contents redacted>", "must be valid JSON");
        }
    }
    if kind == "kubernetes.io/basic-auth" && !at("username").exists() && !at("password").exists() {
        at("username").missing("");
        at("password").missing("");
    }
    if kind == SERVICE_ACCOUNT_TOKEN {
        let annotations = secret.dig("metadata.annotations");
        let account = annotations.field(SERVICE_ACCOUNT_NAME);
        Cursor::at(account.value(), annotations.path().key(SERVICE_ACCOUNT_NAME), secret.errors()).required();
    }
}

fn is_json(base64: &str) -> bool {
    STANDARD.decode(base64).is_ok_and(|bytes| serde_json::from_slice::<Value>(&bytes).is_ok())
}

fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    new.field("type").immutable(&old.field("type"));
    immutable(new, old, &["data"]);
    validate(new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn string_data_becomes_data() {
        let mut secret = json!({"data": {"a": "eA=="}, "stringData": {"a": "y", "b": "z"}});
        default(&mut secret);
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "eQ==", "b": "eg=="}}));
    }
}
