//! Signing of the tokens that lie in Secrets. They have no end, and name the Secret that takes them along when it goes.

use std::{fs, path::Path, sync::Arc};

use anyhow::Context as _;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use rustls::{SignatureScheme, crypto::ring::sign::any_supported_type, sign};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::json;

use crate::common::meta;

const ISSUER: &str = "kubernetes/serviceaccount";

/// What rustls calls a signature, what JOSE calls it (RFC 7518 §3.1), and how long each half of an ECDSA signature is.
const ALGORITHMS: [(SignatureScheme, &str, Option<usize>); 3] = [
    (SignatureScheme::RSA_PKCS1_SHA256, "RS256", None),
    (SignatureScheme::ECDSA_NISTP256_SHA256, "ES256", Some(32)),
    (SignatureScheme::ECDSA_NISTP384_SHA384, "ES384", Some(48)),
];

/// A private key, and how tokens name it.
pub(super) struct Signer {
    key: Arc<dyn sign::SigningKey>,
    id: String,
}

impl Signer {
    /// Reads the first private key of a PEM file: RSA, P-256 or P-384.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let pem = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::from_pem(&pem).with_context(|| format!("{} holds no private key that can sign", path.display()))
    }

    fn from_pem(pem: &[u8]) -> anyhow::Result<Self> {
        let key = any_supported_type(&PrivateKeyDer::from_pem_slice(pem)?)?;
        let public = key.public_key().context("the key does not tell its public half")?;
        // The API server names its keys so too.
        let id = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &public));
        Ok(Self { key, id })
    }

    /// The token of an account that lies in a Secret.
    pub fn token(&self, account: &ServiceAccount, secret: &Secret) -> anyhow::Result<String> {
        let offered = ALGORITHMS.map(|(scheme, _, _)| scheme);
        let signer = self.key.choose_scheme(&offered).context("only RSA, P-256 and P-384 keys sign tokens")?;
        let (_, name, half_len) =
            ALGORITHMS.into_iter().find(|(scheme, _, _)| *scheme == signer.scheme()).context("not what was offered")?;
        let (namespace, account_name) = (meta::namespace(account), meta::name(account));
        let header = json!({"alg": name, "kid": self.id});
        let claims = json!({
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{namespace}:{account_name}"),
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": meta::name(secret),
            "kubernetes.io/serviceaccount/service-account.name": account_name,
            "kubernetes.io/serviceaccount/service-account.uid": meta::uid(account),
        });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let input = format!("{header}.{claims}");
        let mut signature = signer.sign(input.as_bytes())?;
        if let Some(len) = half_len {
            signature = halves(&signature, len).context("the signature is malformed")?;
        }
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The two numbers of an ASN.1 ECDSA signature, each with `len` bytes, as JOSE has them. (RFC 7518 §3.4.)
fn halves(der: &[u8], len: usize) -> Option<Vec<u8>> {
    // SEQUENCE { INTEGER, INTEGER }; both curves' signatures are shorter than 128 bytes, so each length is one byte.
    let mut rest = der.strip_prefix(&[0x30])?.get(1..)?;
    let mut out = Vec::with_capacity(2 * len);
    for _ in 0..2 {
        let size = usize::from(*rest.strip_prefix(&[0x02])?.first()?);
        let number = rest.get(2..2 + size)?;
        rest = &rest[2 + size..];
        let digits = &number[number.iter().position(|byte| *byte != 0).unwrap_or(size)..];
        out.extend(std::iter::repeat_n(0, len.checked_sub(digits.len())?));
        out.extend(digits);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_token_says_whose_it_is_and_its_signature_holds() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let signer = Signer::from_pem(pair.serialize_pem().as_bytes()).unwrap();
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "n", "uid": "u"}})).unwrap();
        let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "s"}})).unwrap();
        // Several, for numbers with leading zeros.
        for _ in 0..64 {
            let token = signer.token(&account, &secret).unwrap();
            let (input, signature) = token.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key_raw());
            public.verify(input.as_bytes(), &signature).unwrap();
        }
        let token = signer.token(&account, &secret).unwrap();
        let part = |index: usize| -> Value {
            let text = token.split('.').nth(index).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
        };
        assert_eq!(part(0)["alg"], "ES256");
        let claims = json!({
            "iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:n:a",
            "kubernetes.io/serviceaccount/namespace": "n", "kubernetes.io/serviceaccount/secret.name": "s",
            "kubernetes.io/serviceaccount/service-account.name": "a",
            "kubernetes.io/serviceaccount/service-account.uid": "u",
        });
        assert_eq!(part(1), claims);
    }

    #[test]
    fn malformed_signatures_are_none() {
        for der in [&b""[..], b"\x30", b"\x30\x06\x02\x01", b"\x30\x06\x02\x09\x01\x02\x01\x01"] {
            assert_eq!(halves(der, 32), None, "{der:?}");
        }
        assert_eq!(halves(b"\x30\x07\x02\x02\x00\x81\x02\x01\x05", 2), Some(vec![0, 0x81, 0, 5]));
    }
}
