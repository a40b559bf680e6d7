//! Public keys that pods may ask certificates for, and proof that somebody holds the private one. (KEP-4317)

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};
use rsa::pkcs8::DecodePublicKey;
use rsa::{Pss, RsaPublicKey};
use sha2::{Digest, Sha256};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

/// Why a key or a proof is refused.
#[derive(Debug, PartialEq)]
pub enum Refusal {
    /// What is shown as the offending value, and the reason.
    Key(String, &'static str),
    Proof,
}

const HASH_BYTES: usize = 32;

/// Checks that `proof` is a signature of `message` by the key in `pkix` (DER): Ed25519 of the message itself, ECDSA (ASN.1) of its
/// SHA-256, or RSASSA-PSS with SHA-256.
pub fn check(pkix: &[u8], message: &[u8], proof: &[u8]) -> Result<(), Refusal> {
    let unreadable = || Refusal::Key(String::new(), "must be a valid PKIX-serialized public key");
    let Ok((rest, info)) = SubjectPublicKeyInfo::from_der(pkix) else { return Err(unreadable()) };
    if !rest.is_empty() {
        return Err(unreadable());
    }
    let algorithm = &info.algorithm.algorithm;
    let point = &*info.subject_public_key.data;
    if *algorithm == OID_SIG_ED25519 {
        return by_ring(&ED25519, point, message, proof);
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = info.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).ok_or_else(unreadable)?;
        return match curve {
            curve if curve == OID_EC_P256 => by_ring(&ECDSA_P256_SHA256_ASN1, point, message, proof),
            curve if curve == OID_NIST_EC_P384 => by_ring(&ECDSA_P384_SHA256_ASN1, point, message, proof),
            curve if curve == OID_NIST_EC_P521 => by_p521(point, message, proof),
            curve => Err(Refusal::Key(
                format!("elliptic curve {curve}"),
                "elliptic public keys must use curve P256, P384 or P521",
            )),
        };
    }
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        let key = RsaPublicKey::from_public_key_der(pkix).map_err(|_| unreadable())?;
        return by_rsa(&key, message, proof);
    }
    Err(Refusal::Key(
        "unknown public key type".into(),
        "unknown public key type; supported types are Ed25519, ECDSA, and RSA",
    ))
}

fn by_ring(
    algorithm: &'static dyn VerificationAlgorithm,
    point: &[u8],
    message: &[u8],
    proof: &[u8],
) -> Result<(), Refusal> {
    UnparsedPublicKey::new(algorithm, point).verify(message, proof).map_err(|_| Refusal::Proof)
}

fn by_p521(point: &[u8], message: &[u8], proof: &[u8]) -> Result<(), Refusal> {
    use p521::ecdsa::signature::hazmat::PrehashVerifier;
    use p521::ecdsa::{DerSignature, Signature, VerifyingKey};

    const FIELD_BYTES: usize = 66;
    // A hash shorter than the field counts as a number with zeros before it (SEC 1 §4.1.3).
    let mut hash = [0; FIELD_BYTES];
    hash[FIELD_BYTES - HASH_BYTES..].copy_from_slice(&Sha256::digest(message));
    let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| Refusal::Proof)?;
    let signature = DerSignature::try_from(proof).and_then(Signature::try_from).map_err(|_| Refusal::Proof)?;
    key.verify_prehash(&hash, &signature).map_err(|_| Refusal::Proof)
}

fn by_rsa(key: &RsaPublicKey, message: &[u8], proof: &[u8]) -> Result<(), Refusal> {
    use rsa::traits::PublicKeyParts;

    let bits = key.n().bits();
    if bits != 3072 && bits != 4096 {
        return Err(Refusal::Key(format!("{bits}-bit modulus"), "RSA keys must have modulus size 3072 or 4096"));
    }
    let hash = Sha256::digest(message);
    // Go signs with the longest salt there is room for; others with one as long as the hash.
    let longest = key.size() - 2 - HASH_BYTES;
    let holds = |salt| key.verify(Pss::new_with_salt::<Sha256>(salt), &hash, proof).is_ok();
    if [longest, HASH_BYTES].into_iter().any(holds) { Ok(()) } else { Err(Refusal::Proof) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    /// Made with openssl: key, and signature of `uid`.
    const SIGNED: &str = include_str!("proof.txt");

    #[test]
    fn each_type_of_key_proves_itself_and_nobody_else() {
        let mut types = Vec::new();
        for line in SIGNED.lines().filter(|line| !line.starts_with('#')) {
            let [name, key, proof] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] else { panic!("{line}") };
            let (key, mut proof) = (STANDARD.decode(key).unwrap(), STANDARD.decode(proof).unwrap());
            if name.starts_with('-') {
                assert!(matches!(check(&key, b"uid", &proof), Err(Refusal::Key(..))), "{name}");
                continue;
            }
            assert_eq!(check(&key, b"uid", &proof), Ok(()), "{name}");
            assert_eq!(check(&key, b"another", &proof), Err(Refusal::Proof), "{name}");
            *proof.last_mut().unwrap() ^= 1;
            assert_eq!(check(&key, b"uid", &proof), Err(Refusal::Proof), "{name}");
            types.push(name);
        }
        assert_eq!(types, ["ed25519", "p256", "p384", "p521", "rsa3072-longest", "rsa3072-hash", "rsa4096-longest"]);
        assert!(matches!(check(b"nonsense", b"uid", b""), Err(Refusal::Key(..))));
    }
}
