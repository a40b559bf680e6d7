//! What a request asks for, and what each signer allows
//! (docs/reference/access-authn-authz/certificate-signing-requests, "Kubernetes signers").

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(super) const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const NODE_SERVING: &str = "kubernetes.io/kubelet-serving";

const NODE_PREFIX: &str = "system:node:";
const NODES_GROUP: &str = "system:nodes";

/// The names in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// DNS names and addresses.
    pub hosts: usize,
    /// Other alternative names: mail addresses and URIs.
    pub other_names: usize,
}

impl Request {
    /// Reads the PKCS #10 request in a CertificateSigningRequest.
    pub fn read(csr: &CertificateSigningRequest) -> Result<Self, String> {
        let der = CertificateSigningRequestDer::from_pem_slice(&csr.spec.request.0)
            .map_err(|error| format!("spec.request holds no PEM block of a certificate request: {error}"))?;
        let (_, parsed) = X509CertificationRequest::from_der(&der)
            .map_err(|error| format!("spec.request holds no PKCS #10 request: {error}"))?;
        let subject = &parsed.certification_request_info.subject;
        let text =
            |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
        let mut request = Self {
            common_name: subject.iter_common_name().filter_map(text).last().unwrap_or_default(),
            organizations: subject.iter_organization().filter_map(text).collect(),
            ..Self::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                for name in &names.general_names {
                    match name {
                        GeneralName::DNSName(_) | GeneralName::IPAddress(_) => request.hosts += 1,
                        _ => request.other_names += 1,
                    }
                }
            }
        }
        Ok(request)
    }

    /// Whether the signer that `spec` names may sign this; an error says what it does not allow.
    pub fn check(&self, spec: &CertificateSigningRequestSpec) -> Result<(), String> {
        let usages: Vec<&str> = spec.usages.iter().flatten().map(String::as_str).collect();
        let only = |allowed: &[&str], required: &[&str]| {
            let foreign = usages.iter().find(|usage| !allowed.contains(usage));
            let missing = required.iter().find(|usage| !usages.contains(usage));
            match (foreign, missing) {
                (Some(usage), _) => Err(format!("usage {usage:?} is not allowed by signer {}", spec.signer_name)),
                (None, Some(usage)) => Err(format!("usage {usage:?} is required by signer {}", spec.signer_name)),
                (None, None) => Ok(()),
            }
        };
        // The certificate writer keeps one value per kind of name, and must not drop any in silence.
        if self.organizations.len() > 1 {
            return Err("several organizations in one certificate are not supported, ask for one".into());
        }
        let signing = ["digital signature", "key encipherment"];
        match spec.signer_name.as_str() {
            CLIENT => only(&[signing[0], signing[1], "client auth"], &["client auth"]),
            NODE_CLIENT => {
                self.is_node()?;
                if self.hosts + self.other_names > 0 {
                    return Err("subject alternative names are not allowed in a node's client certificate".into());
                }
                only(&[signing[0], signing[1], "client auth"], &[signing[0], "client auth"])
            }
            NODE_SERVING => {
                self.is_node()?;
                if self.hosts == 0 {
                    return Err("at least one DNS name or IP address is required in a serving certificate".into());
                }
                if self.other_names > 0 {
                    return Err("only DNS names and IP addresses are allowed in a serving certificate".into());
                }
                only(&[signing[0], signing[1], "server auth"], &[signing[0], "server auth"])
            }
            _ => Ok(()),
        }
    }

    fn is_node(&self) -> Result<(), String> {
        if self.organizations != [NODES_GROUP] {
            return Err(format!("the organization must be {NODES_GROUP} alone"));
        }
        match self.common_name.strip_prefix(NODE_PREFIX) {
            Some(name) if !name.is_empty() => Ok(()),
            _ => Err(format!("the common name must be {NODE_PREFIX} and the node's name")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_the_signers() {
        let node = Request {
            common_name: "system:node:n1".into(),
            organizations: vec!["system:nodes".into()],
            ..Request::default()
        };
        let user = Request { common_name: "jane".into(), ..Request::default() };
        let serving = Request { hosts: 1, ..node.clone() };
        for (name, request, signer, usages, good) in [
            ("a node's client", &node, NODE_CLIENT, &["digital signature", "client auth"][..], true),
            ("with an RSA key", &node, NODE_CLIENT, &["digital signature", "key encipherment", "client auth"], true),
            ("with a host name", &serving, NODE_CLIENT, &["digital signature", "client auth"], false),
            ("a user as node", &user, NODE_CLIENT, &["digital signature", "client auth"], false),
            ("client that does not sign", &node, NODE_CLIENT, &["client auth"], false),
            ("client without its usage", &node, NODE_CLIENT, &["digital signature"], false),
            ("client that serves", &node, NODE_CLIENT, &["digital signature", "client auth", "server auth"], false),
            ("a node's server", &serving, NODE_SERVING, &["digital signature", "server auth"], true),
            ("a server that does not sign", &serving, NODE_SERVING, &["key encipherment", "server auth"], false),
            ("a server without a name", &node, NODE_SERVING, &["digital signature", "server auth"], false),
            ("a user", &user, CLIENT, &["client auth"], true),
            ("a user that signs code", &user, CLIENT, &["client auth", "code signing"], false),
            ("anything", &user, "kubernetes.io/legacy-unknown", &["code signing"], true),
        ] {
            let spec = CertificateSigningRequestSpec {
                signer_name: signer.into(),
                usages: Some(usages.iter().map(|usage| (*usage).to_owned()).collect()),
                ..CertificateSigningRequestSpec::default()
            };
            assert_eq!(request.check(&spec).is_ok(), good, "{name}: {:?}", request.check(&spec));
        }
    }
}
