//! Certificates from requests.

use std::{fs, path::Path, time::Duration};

use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use time::OffsetDateTime;

use crate::common::{Error, Result};

/// Clocks of those who verify may be behind.
const BACKDATE: Duration = Duration::from_secs(300);
/// The shortest life that can be asked for.
const LIFE_MIN: Duration = Duration::from_secs(600);

/// A CA.
pub(super) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    not_after: OffsetDateTime,
    life: Duration,
}

impl Signer {
    /// The CA in these PEM files; its certificates live for `life` if nothing shorter is asked for.
    pub fn new(cert: &Path, key: &Path, life: Duration) -> Result<Self> {
        let unusable = |path: &Path, error: String| {
            Error::Invalid(format!("{} cannot be used to sign certificates: {error}", path.display()))
        };
        let text = fs::read_to_string(cert).map_err(|error| unusable(cert, error.to_string()))?;
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| unusable(cert, error.to_string()))?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&der).map_err(|error| unusable(cert, error.to_string()))?;
        let not_after = parsed.validity().not_after.to_datetime();
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error.to_string()))?;
        let pair = KeyPair::try_from(&private)
            .or_else(|_| KeyPair::from_der_and_sign_algo(&private, &rcgen::PKCS_RSA_SHA256))
            .map_err(|error| unusable(key, error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(|error| unusable(cert, error.to_string()))?;
        Ok(Self { issuer, not_after, life })
    }

    /// The certificate that a checked request asks for, as PEM.
    pub fn sign(&self, spec: &CertificateSigningRequestSpec) -> std::result::Result<String, String> {
        let text = std::str::from_utf8(&spec.request.0).map_err(|_| "spec.request is no text".to_owned())?;
        let mut request = CertificateSigningRequestParams::from_pem(text).map_err(|error| error.to_string())?;
        let now = OffsetDateTime::now_utc();
        let asked = spec.expiration_seconds.and_then(|secs| u64::try_from(secs).ok()).map(Duration::from_secs);
        let life = asked.map_or(self.life, |asked| asked.clamp(LIFE_MIN.min(self.life), self.life));
        let params = &mut request.params;
        params.not_before = now - BACKDATE;
        params.not_after = (now + life).min(self.not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.serial_number = Some(SerialNumber::from_slice(&serial()));
        params.use_authority_key_identifier_extension = true;
        (params.key_usages, params.extended_key_usages) = usages(spec)?;
        request.signed_by(&self.issuer).map(|cert| cert.pem()).map_err(|error| error.to_string())
    }
}

/// 127 random bits: positive, and never the same twice.
fn serial() -> [u8; 16] {
    let mut bytes = rand::random::<[u8; 16]>();
    bytes[0] &= 0x7f;
    bytes
}

fn usages(
    spec: &CertificateSigningRequestSpec,
) -> std::result::Result<(Vec<KeyUsagePurpose>, Vec<ExtendedKeyUsagePurpose>), String> {
    let (mut usages, mut extended) = (Vec::new(), Vec::new());
    for usage in spec.usages.iter().flatten() {
        match usage.as_str() {
            "signing" | "digital signature" => usages.push(KeyUsagePurpose::DigitalSignature),
            "content commitment" => usages.push(KeyUsagePurpose::ContentCommitment),
            "key encipherment" => usages.push(KeyUsagePurpose::KeyEncipherment),
            "key agreement" => usages.push(KeyUsagePurpose::KeyAgreement),
            "data encipherment" => usages.push(KeyUsagePurpose::DataEncipherment),
            "encipher only" => usages.push(KeyUsagePurpose::EncipherOnly),
            "decipher only" => usages.push(KeyUsagePurpose::DecipherOnly),
            "any" => extended.push(ExtendedKeyUsagePurpose::Any),
            "server auth" => extended.push(ExtendedKeyUsagePurpose::ServerAuth),
            "client auth" => extended.push(ExtendedKeyUsagePurpose::ClientAuth),
            "code signing" => extended.push(ExtendedKeyUsagePurpose::CodeSigning),
            "email protection" | "s/mime" => extended.push(ExtendedKeyUsagePurpose::EmailProtection),
            "timestamping" => extended.push(ExtendedKeyUsagePurpose::TimeStamping),
            "ocsp signing" => extended.push(ExtendedKeyUsagePurpose::OcspSigning),
            // A CA's own rights ("cert sign", "crl sign") are not handed out.
            other => return Err(format!("usage {other:?} is not granted")),
        }
    }
    Ok((usages, extended))
}
