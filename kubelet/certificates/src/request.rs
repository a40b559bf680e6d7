//! Asking for a certificate.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use rcgen::{KeyPair, PublicKeyData as _};
use sha2::{Digest as _, Sha512_256};

use crate::{Error, Template};

/// How long one request may wait for its approval and signature, as upstream's certificate manager has it.
pub const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// After a watch that has ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Asks a signer for a certificate and waits until there is one; returns its PEM. The name of the request follows from key
/// and template, so that asking again finds the request of before.
pub async fn certificate(
    client: kube::Client,
    signer: &str,
    usages: &[&str],
    template: &Template,
    key: &KeyPair,
) -> Result<Vec<u8>, Error> {
    let name = digested_name(key, template, usages);
    let pem = template.params()?.serialize_request(key)?.pem()?;
    let mut object = CertificateSigningRequest {
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(usages.iter().map(|usage| (*usage).to_owned()).collect()),
            ..Default::default()
        },
        ..Default::default()
    };
    object.metadata.name = Some(name.clone());
    let api: Api<CertificateSigningRequest> = Api::all(client);
    tokio::time::timeout(WAIT_MAX, ask(&api, &name, &object))
        .await
        .map_err(|_| Error::Timeout { name: name.clone() })?
}

async fn ask(
    api: &Api<CertificateSigningRequest>,
    name: &str,
    object: &CertificateSigningRequest,
) -> Result<Vec<u8>, Error> {
    loop {
        match api.create(&PostParams::default(), object).await {
            Ok(_) => tracing::info!(csr = name, "Asked for a certificate, waiting for its approval"),
            // Only who has seen our public key can have made it in our stead, and a certificate that is not for our key is
            // refused when it comes.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                tracing::debug!(csr = name, "The certificate was asked for before, waiting for its approval");
            }
            Err(error) => return Err(error.into()),
        }
        let decided = |request: Option<&CertificateSigningRequest>| {
            request.is_none_or(|request| outcome(name, request).is_some())
        };
        let seen = match await_condition(api.clone(), name, decided).await {
            Ok(seen) => seen,
            // A watch may end at any time: when the client certificate is replaced, its connections are closed.
            Err(error) => {
                tracing::debug!(csr = name, %error, "Looking at the certificate request again");
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
        };
        match seen.and_then(|request| outcome(name, &request)) {
            Some(outcome) => return outcome,
            None => tracing::info!(csr = name, "The certificate request was deleted, asking anew"),
        }
    }
}

/// What became of a request; `None` as long as it waits.
fn outcome(name: &str, request: &CertificateSigningRequest) -> Option<Result<Vec<u8>, Error>> {
    let status = request.status.as_ref()?;
    let refused = status.conditions.iter().flatten().find(|c| matches!(c.type_.as_str(), "Denied" | "Failed"));
    if let Some(refused) = refused {
        let said = [refused.reason.as_deref(), refused.message.as_deref()];
        return Some(Err(Error::Refused {
            name: name.to_owned(),
            condition: refused.type_.clone(),
            message: said.into_iter().flatten().collect::<Vec<_>>().join(": "),
        }));
    }
    status
        .certificate
        .as_ref()
        .filter(|certificate| !certificate.0.is_empty())
        .map(|certificate| Ok(certificate.0.clone()))
}

/// `node-csr-` and a digest of all that makes one request differ from another, upstream's for what upstream digests.
fn digested_name(key: &KeyPair, template: &Template, usages: &[&str]) -> String {
    let mut hash = Sha512_256::new();
    // The delimiter is not in the alphabet of base64: no two lists give the same text.
    let mut write = |bytes: &[u8]| hash.update(format!("{}|", URL_SAFE_NO_PAD.encode(bytes)));
    write(&key.subject_public_key_info());
    write(template.common_name.as_bytes());
    template.organizations.iter().for_each(|organization| write(organization.as_bytes()));
    usages.iter().for_each(|usage| write(usage.as_bytes()));
    template.dns_names.iter().for_each(|name| write(format!("DNS:{name}").as_bytes()));
    template.ips.iter().for_each(|ip| write(format!("IP:{ip}").as_bytes()));
    format!("node-csr-{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::certificates::v1::{CertificateSigningRequestCondition, CertificateSigningRequestStatus};

    #[test]
    fn the_name_is_that_of_key_and_request() {
        let (key, other) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let template = Template::client("n1");
        let serving = Template { ips: [[10, 0, 0, 1].into()].into(), ..template.clone() };
        let name = digested_name(&key, &template, &["client auth"]);
        assert_eq!(name, digested_name(&key, &template, &["client auth"]));
        assert!(name.starts_with("node-csr-") && name.len() == 52, "{name}");
        for differs in [
            digested_name(&other, &template, &["client auth"]),
            digested_name(&key, &Template::client("n2"), &["client auth"]),
            digested_name(&key, &template, &["server auth"]),
            digested_name(&key, &serving, &["client auth"]),
        ] {
            assert_ne!(differs, name);
        }
    }

    #[test]
    fn a_request_waits_until_it_is_refused_or_signed() {
        let request = |conditions: &[&str], certificate: &str| CertificateSigningRequest {
            status: Some(CertificateSigningRequestStatus {
                certificate: (!certificate.is_empty()).then(|| ByteString(certificate.into())),
                conditions: Some(
                    conditions
                        .iter()
                        .map(|type_| CertificateSigningRequestCondition {
                            type_: (*type_).to_owned(),
                            reason: Some("Because".into()),
                            message: Some("so it is".into()),
                            ..Default::default()
                        })
                        .collect(),
                ),
            }),
            ..Default::default()
        };
        for (request, expected) in [
            (CertificateSigningRequest::default(), None),
            (request(&[], ""), None),
            (request(&["Approved"], ""), None),
            (request(&["Approved"], "PEM"), Some(Ok("PEM".to_owned()))),
            (request(&["Denied"], ""), Some(Err("certificate request r is Denied: Because: so it is".to_owned()))),
            (
                request(&["Approved", "Failed"], ""),
                Some(Err("certificate request r is Failed: Because: so it is".to_owned())),
            ),
        ] {
            let found = outcome("r", &request)
                .map(|outcome| outcome.map(|pem| String::from_utf8(pem).expect("text")).map_err(|e| e.to_string()));
            assert_eq!(found, expected);
        }
    }
}
