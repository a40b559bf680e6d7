//! Who may approve and sign requests for certificates, and which subjects nobody gets: three plugins on one kind.

use super::{Attributes, Operation, Plugin};
use crate::api::Api;
use crate::authz::{Attributes as Access, Decision, ResourceAttributes};
use crate::registry::certificates::certificate_signing_request::subject;
use crate::status::Result;
use apimachinery::Value;
use futures::future::BoxFuture;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = crate::authn::MASTERS;

/// `/approval` needs the verb `approve` on the signer.
pub struct CertificateApproval;
/// `/status` that issues or fails needs the verb `sign` on the signer.
pub struct CertificateSigning;
/// The API server's client signer makes no masters.
pub struct CertificateSubjectRestriction;

fn updates(attributes: &Attributes<'_>, subresource: &str) -> bool {
    attributes.operation == Operation::Update
        && attributes.subresource == subresource
        && attributes.is_resource(GROUP, "certificatesigningrequests")
}

/// Whether the user has `verb` on the signer, or on all signers of its domain.
async fn demand(api: &Api, attributes: &Attributes<'_>, verb: &str, phrase: &str) -> Result<()> {
    let signer = attributes.old.and_then(|old| old["spec"]["signerName"].as_str()).unwrap_or("");
    let whole_domain = format!("{}/*", signer.split('/').next().unwrap_or(""));
    for name in [signer, &whole_domain] {
        let resource = ResourceAttributes { group: GROUP, resource: "signers", subresource: "", namespace: "", name };
        let access = Access { user: attributes.user, verb, resource: Some(resource), path: "" };
        if let Some(authz) = api.authz.get()
            && matches!(authz.authorize(api, &access).await?, Decision::Allow(_))
        {
            return Ok(());
        }
    }
    Err(attributes.forbidden(&format!("user not permitted to {phrase} requests with signerName {signer:?}")))
}

impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !updates(attributes, "approval") {
                return Ok(());
            }
            demand(api, attributes, "approve", "approve").await
        })
    }
}

impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (Some(new), Some(old)) = (&attributes.object, attributes.old) else { return Ok(()) };
            let same = |name: &str| new["status"][name] == old["status"][name];
            if !updates(attributes, "status") || same("certificate") && same("conditions") {
                return Ok(());
            }
            demand(api, attributes, "sign", "sign").await
        })
    }
}

impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn validate<'a>(&'a self, _: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        let applies = attributes.is(Operation::Create, GROUP, "certificatesigningrequests");
        let asks_for_masters = |request: &Value| {
            request["spec"]["signerName"] == CLIENT_SIGNER
                && subject(request).is_some_and(|s| s.organizations.iter().any(|o| o == MASTERS))
        };
        let refused = applies && attributes.object.as_ref().is_some_and(asks_for_masters);
        let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
        let result = if refused { Err(attributes.forbidden(&why)) } else { Ok(()) };
        Box::pin(async { result })
    }
}
