//! Service account tokens: signed by us, bound to an account and perhaps to a pod, secret or node, good for certain audiences
//! until they expire. (KEP-1205; RFC 7519.)

mod legacy_token;
pub mod token_cache;

use anyhow::Context;
use apimachinery::Value;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use handlers::api::Api;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use request::User;
use request::status::{Result, Status};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use token_cache::TokenCache;

/// A key that tokens are verified with.
struct Verifier {
    id: String,
    key: DecodingKey,
    algorithm: Algorithm,
    jwk: Value,
}

/// Signs and verifies tokens.
pub struct Issuer {
    /// The first signs, all are accepted.
    issuers: Vec<String>,
    pub audiences: Vec<String>,
    signer: Option<(EncodingKey, Algorithm, String)>,
    verifiers: Vec<Verifier>,
    pub max_expiration_seconds: Option<i64>,
    verified: TokenCache,
}

/// What a token is bound to besides its account.
#[derive(Debug, Clone)]
pub struct Bound {
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// Whom a token is for, and for how long.
pub struct Claims<'a> {
    pub namespace: &'a str,
    pub account: &'a str,
    pub account_uid: &'a str,
    pub audiences: &'a [String],
    pub seconds: i64,
    pub bound: Option<&'a Bound>,
    /// Name and uid of the node of a bound pod.
    pub node: Option<(&'a str, &'a str)>,
}

const PREFIX: &str = "kubernetes.io";

impl Issuer {
    /// Reads the keys; `audiences` empty means the issuer itself.
    pub fn new(
        issuers: Vec<String>,
        audiences: Vec<String>,
        key_files: &[impl AsRef<Path>],
        signing_key: Option<&Path>,
    ) -> anyhow::Result<Issuer> {
        let mut verifiers = Vec::new();
        for file in key_files {
            let path = file.as_ref();
            let pem = std::fs::read_to_string(path)
                .with_context(|| format!("reading the service account key {}", path.display()))?;
            verifiers
                .extend(read_public(&pem).with_context(|| format!("in the service account key {}", path.display()))?);
        }
        let mut signer = None;
        if let Some(path) = signing_key {
            let pem =
                std::fs::read_to_string(path).with_context(|| format!("reading the signing key {}", path.display()))?;
            let public = read_public(&pem).with_context(|| format!("in the signing key {}", path.display()))?;
            let own = public.into_iter().next().with_context(|| format!("{} holds no key", path.display()))?;
            let key = match own.algorithm {
                Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
                _ => EncodingKey::from_ec_pem(pem.as_bytes()),
            };
            let key = key.with_context(|| format!("{} is no private key that can sign", path.display()))?;
            signer = Some((key, own.algorithm, own.id.clone()));
            if !verifiers.iter().any(|v| v.id == own.id) {
                verifiers.push(own);
            }
        }
        let audiences = if audiences.is_empty() { issuers.iter().take(1).cloned().collect() } else { audiences };
        Ok(Issuer {
            issuers,
            audiences,
            signer,
            verifiers,
            max_expiration_seconds: None,
            verified: TokenCache::default(),
        })
    }

    pub fn issuer(&self) -> &str {
        self.issuers.first().map_or("", String::as_str)
    }

    /// The public keys, as `/openid/v1/jwks` publishes them. (RFC 7517.)
    pub fn jwks(&self) -> Value {
        json!({"keys": self.verifiers.iter().map(|v| v.jwk.clone()).collect::<Vec<_>>()})
    }

    pub fn algorithms(&self) -> Vec<&'static str> {
        let mut names: Vec<_> =
            self.verifiers.iter().map(|v| if v.algorithm == Algorithm::RS256 { "RS256" } else { "ES256" }).collect();
        names.dedup();
        names
    }

    /// Signs a token; returns it and when it expires (seconds since the epoch).
    pub fn sign(&self, claims: &Claims) -> Result<(String, i64)> {
        let (key, algorithm, id) =
            self.signer.as_ref().ok_or_else(|| Status::internal("no service account signing key is configured"))?;
        let now = jiff::Timestamp::now().as_second();
        let expires = now + claims.seconds;
        let mut private = json!({
            "namespace": claims.namespace,
            "serviceaccount": {"name": claims.account, "uid": claims.account_uid},
        });
        if let Some(bound) = claims.bound {
            private[bound.kind.to_ascii_lowercase()] = json!({"name": bound.name, "uid": bound.uid});
        }
        if let Some((name, uid)) = claims.node {
            private["node"] = json!({"name": name, "uid": uid});
        }
        let body = json!({
            "iss": self.issuer(),
            "sub": format!("system:serviceaccount:{}:{}", claims.namespace, claims.account),
            "aud": claims.audiences,
            "exp": expires, "iat": now, "nbf": now,
            "jti": uuid::Uuid::new_v4().to_string(),
            PREFIX: private,
        });
        let header = Header { kid: Some(id.clone()), typ: None, ..Header::new(*algorithm) };
        let token =
            jsonwebtoken::encode(&header, &body, key).map_err(|e| Status::internal(format!("signing a token: {e}")))?;
        Ok((token, expires))
    }

    /// The account of a token and its audiences; none if it is none of ours. What the token is bound to must still be there.
    pub async fn authenticate(&self, api: &Api, token: &str) -> Result<Option<(User, Vec<String>)>> {
        let Some(claims) = self.verified.claims(token, || self.verify(token)) else { return Ok(None) };
        if claims["iss"] == legacy_token::ISSUER {
            // They say no audience: they are for this server.
            let user = legacy_token::authenticate(api, token, &claims).await;
            return Ok(user.map(|user| (user, self.audiences.clone())));
        }
        let audiences: Vec<String> = match &claims["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let audiences: Vec<String> = audiences.into_iter().filter(|a| self.audiences.contains(a)).collect();
        if audiences.is_empty() {
            return Ok(None);
        }
        Ok(self.user(api, &claims).await.map(|user| (user, audiences)))
    }

    /// Claims of a token that we signed and that is in its time; audiences are the caller's matter.
    fn verify(&self, token: &str) -> Option<Value> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let mut verifiers: Vec<&Verifier> = self.verifiers.iter().collect();
        if let Some(id) = &header.kid {
            verifiers.sort_by_key(|v| v.id != *id);
        }
        for verifier in verifiers.into_iter().filter(|v| v.algorithm == header.alg) {
            let mut validation = Validation::new(verifier.algorithm);
            validation.validate_aud = false;
            validation.validate_nbf = true;
            validation.leeway = 0;
            let issuers = self.issuers.iter().map(String::as_str).chain([legacy_token::ISSUER]);
            validation.set_issuer(&issuers.collect::<Vec<_>>());
            validation.set_required_spec_claims(&["iss"]);
            if let Ok(data) = jsonwebtoken::decode::<Value>(token, &verifier.key, &validation) {
                // Only tokens of Secrets have no end.
                let ends = data.claims["exp"].is_number() || data.claims["iss"] == legacy_token::ISSUER;
                return ends.then_some(data.claims);
            }
        }
        None
    }

    /// Checks that account and bound object are those that the token was made for.
    async fn user(&self, api: &Api, claims: &Value) -> Option<User> {
        let private = &claims[PREFIX];
        let namespace = private["namespace"].as_str()?;
        let account = private["serviceaccount"]["name"].as_str()?;
        let uid = private["serviceaccount"]["uid"].as_str()?;
        same_object(api, "serviceaccounts", namespace, account, uid).await?;
        let mut extra = BTreeMap::new();
        if let Some(jti) = claims["jti"].as_str() {
            extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("JTI={jti}")]);
        }
        for (kind, plural) in [("pod", "pods"), ("secret", "secrets"), ("node", "nodes")] {
            let (Some(name), Some(uid)) = (private[kind]["name"].as_str(), private[kind]["uid"].as_str()) else {
                continue;
            };
            // A pod's node is told for information; only a token bound to the node alone depends on it.
            if kind != "node" || private["pod"].is_null() {
                let namespace = if kind == "node" { "" } else { namespace };
                same_object(api, plural, namespace, name, uid).await?;
            }
            if kind != "secret" {
                extra.insert(format!("authentication.kubernetes.io/{kind}-name"), vec![name.to_owned()]);
                extra.insert(format!("authentication.kubernetes.io/{kind}-uid"), vec![uid.to_owned()]);
            }
        }
        Some(User { extra, ..self::account(namespace, account, uid) })
    }
}

/// A service account as a user.
pub(super) fn account(namespace: &str, name: &str, uid: &str) -> User {
    User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        uid: uid.to_owned(),
        groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")],
        ..User::default()
    }
}

/// Some when the object exists with this uid and is not being deleted. A miss in the cache is looked up afresh: the token may
/// be younger than the cache.
pub(super) async fn same_object(api: &Api, plural: &str, namespace: &str, name: &str, uid: &str) -> Option<()> {
    let endpoint = api.endpoint("", "v1", plural)?;
    let is = |tree: &Value| tree["metadata"]["uid"] == uid && tree["metadata"]["deletionTimestamp"].is_null();
    if let Ok(object) = api.cached(&endpoint, namespace, name)
        && is(&object.tree())
    {
        return Some(());
    }
    let object = api.fetch(&endpoint, namespace, name).await.ok()?;
    is(&object.tree()).then_some(())
}

/// The public halves of all keys in a PEM file, private or public, RSA or P-256.
fn read_public(pem: &str) -> anyhow::Result<Vec<Verifier>> {
    let mut verifiers = Vec::new();
    for block in x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.context("not PEM")?;
        let spki = match block.label.as_str() {
            "PUBLIC KEY" => block.contents.clone(),
            "RSA PUBLIC KEY" => rsa_spki(&block.contents),
            "CERTIFICATE" => {
                let (_, cert) = x509_parser::parse_x509_certificate(&block.contents).context("not a certificate")?;
                cert.public_key().raw.to_vec()
            }
            label if label.ends_with("PRIVATE KEY") => public_of(&block.label, &block.contents)?,
            _ => continue,
        };
        verifiers.push(verifier(&spki)?);
    }
    anyhow::ensure!(!verifiers.is_empty(), "no key found; want PEM with a public or private RSA or ECDSA key");
    Ok(verifiers)
}

/// SubjectPublicKeyInfo of a private key.
fn public_of(label: &str, der: &[u8]) -> anyhow::Result<Vec<u8>> {
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
    let key: PrivateKeyDer = match label {
        "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(der).into(),
        "EC PRIVATE KEY" => PrivateSec1KeyDer::from(der).into(),
        _ => PrivatePkcs8KeyDer::from(der).into(),
    };
    let key =
        rustls::crypto::ring::sign::any_supported_type(&key).context("this kind of private key is not supported")?;
    Ok(key.public_key().context("the key does not tell its public half")?.to_vec())
}

/// Wraps a PKCS#1 public key: SEQUENCE { SEQUENCE { rsaEncryption, NULL }, BIT STRING { key } }. (RFC 3279 §2.3.1.)
fn rsa_spki(pkcs1: &[u8]) -> Vec<u8> {
    const ALGORITHM: &[u8] =
        &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let length = |n: usize| match n {
        0..0x80 => vec![n as u8],
        0x80..0x100 => vec![0x81, n as u8],
        _ => vec![0x82, (n >> 8) as u8, n as u8],
    };
    let mut bits = vec![0x03];
    bits.extend(length(pkcs1.len() + 1));
    bits.push(0);
    bits.extend(pkcs1);
    let mut out = vec![0x30];
    out.extend(length(ALGORITHM.len() + bits.len()));
    out.extend(ALGORITHM);
    out.extend(bits);
    out
}

fn verifier(spki: &[u8]) -> anyhow::Result<Verifier> {
    use sha2::Digest;
    use x509_parser::prelude::FromDer;
    use x509_parser::public_key::PublicKey;
    // Upstream names a key by the hash of its SubjectPublicKeyInfo.
    let id = URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(spki));
    let (_, info) = x509_parser::x509::SubjectPublicKeyInfo::from_der(spki).context("not a public key")?;
    match info.parsed().context("not a public key")? {
        PublicKey::RSA(rsa) => {
            let trim = |b: &[u8]| b.iter().skip_while(|b| **b == 0).copied().collect::<Vec<u8>>();
            let (n, e) = (URL_SAFE_NO_PAD.encode(trim(rsa.modulus)), URL_SAFE_NO_PAD.encode(trim(rsa.exponent)));
            Ok(Verifier {
                key: DecodingKey::from_rsa_components(&n, &e)?,
                algorithm: Algorithm::RS256,
                jwk: json!({"use": "sig", "kty": "RSA", "kid": id, "alg": "RS256", "n": n, "e": e}),
                id,
            })
        }
        PublicKey::EC(point) if point.data().len() == 65 => {
            let (x, y) = (URL_SAFE_NO_PAD.encode(&point.data()[1..33]), URL_SAFE_NO_PAD.encode(&point.data()[33..]));
            Ok(Verifier {
                key: DecodingKey::from_ec_components(&x, &y)?,
                algorithm: Algorithm::ES256,
                jwk: json!({"use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256", "x": x, "y": y}),
                id,
            })
        }
        _ => anyhow::bail!("only RSA and P-256 keys are supported"),
    }
}
