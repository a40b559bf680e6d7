//! Who may approve and sign requests for certificates, who may speak for a signer in a trust bundle, and which subjects nobody
//! gets: the plugins of the group `certificates.k8s.io`.

use apimachinery::Value;
use apimachinery::validation::{FieldError, Path};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use component_base::tls::Subject;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use handlers::api::authorization::{Attributes as Access, Decision, ResourceAttributes};
use registry::edit::text;
use request::status::{Result, Status};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = request::user::MASTERS;

/// `/approval` needs the verb `approve` on the signer.
pub struct CertificateApproval;
/// `/status` that issues or fails needs the verb `sign` on the signer.
pub struct CertificateSigning;
/// A trust bundle of a signer needs the verb `attest` on the signer. (KEP-3257)
pub struct ClusterTrustBundleAttest;
/// The API server's client signer makes no masters.
pub struct CertificateSubjectRestriction;

fn updates(attributes: &Attributes<'_>, subresource: &str) -> bool {
    attributes.operation == Operation::Update
        && attributes.subresource == subresource
        && attributes.is_resource(GROUP, "certificatesigningrequests")
}

fn signer_of(object: Option<&Value>) -> &str {
    object.and_then(|object| object["spec"]["signerName"].as_str()).unwrap_or("")
}

/// Whether the user has `verb` on the signer, or on all signers of its domain.
async fn may(api: &Api, attributes: &Attributes<'_>, verb: &str, signer: &str) -> Result<bool> {
    let whole_domain = format!("{}/*", signer.split('/').next().unwrap_or(""));
    for name in [signer, &whole_domain] {
        let resource = ResourceAttributes {
            group: GROUP,
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
            ..Default::default()
        };
        let access = Access { user: attributes.user, verb, resource: Some(resource), path: "" };
        if let Some(authz) = api.authz.get()
            && matches!(authz.authorize(api, &access).await?, Decision::Allow(_))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn demand(api: &Api, attributes: &Attributes<'_>, verb: &str, phrase: &str, signer: &str) -> Result<()> {
    if may(api, attributes, verb, signer).await? {
        return Ok(());
    }
    Err(attributes.forbidden(&format!("user not permitted to {phrase} signerName {signer:?}")))
}

/// Who answers a PodCertificateRequest must be able to sign for the signer it names. Upstream's answer is that of validation.
async fn answers_for_signer(api: &Api, attributes: &Attributes<'_>) -> Result<()> {
    let signer = signer_of(attributes.old);
    if may(api, attributes, "sign", signer).await? {
        return Ok(());
    }
    let why = format!("User {:?} is not permitted to \"sign\" for signer {signer:?}", attributes.user.name);
    let kind = &attributes.endpoint.row.kind;
    let error = FieldError::forbidden(Path::new("spec.signerName"), why);
    Err(Status::invalid(&kind.group, &kind.kind, attributes.name, &[error]))
}

impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("", "U")
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !updates(attributes, "approval") {
                return Ok(());
            }
            demand(api, attributes, "approve", "approve requests with", signer_of(attributes.old)).await
        })
    }
}

impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("", "U")
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (Some(new), Some(old)) = (&attributes.object, attributes.old) else { return Ok(()) };
            if attributes.subresource == "status" && attributes.is_resource(GROUP, "podcertificaterequests") {
                return answers_for_signer(api, attributes).await;
            }
            let same = |name: &str| new["status"][name] == old["status"][name];
            if !updates(attributes, "status") || same("certificate") && same("conditions") {
                return Ok(());
            }
            demand(api, attributes, "sign", "sign requests with", signer_of(attributes.old)).await
        })
    }
}

impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("", "CU")
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let writes = matches!(attributes.operation, Operation::Create | Operation::Update)
                && attributes.is(attributes.operation, GROUP, "clustertrustbundles");
            let signer = signer_of(attributes.object.as_ref());
            let same = |new: &Value| attributes.old.is_some_and(|old| old["spec"] == new["spec"]);
            if !writes || signer.is_empty() || attributes.object.as_ref().is_some_and(same) {
                return Ok(());
            }
            demand(api, attributes, "attest", "attest for", signer).await
        })
    }
}

impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("", "C")
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

/// Whom a request asks a certificate for; none if it cannot be read.
pub(super) fn subject(request: &Value) -> Option<Subject> {
    let bytes = STANDARD.decode(text(request, "spec.request")).ok()?;
    let (_, pem) = parse_x509_pem(&bytes).ok()?;
    let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let name = &parsed.certification_request_info.subject;
    let texts = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let common = texts(name.iter_common_name().filter_map(|n| n.as_str().ok()).collect());
    let organizations = texts(name.iter_organization().filter_map(|n| n.as_str().ok()).collect());
    Some(Subject { common_name: common.into_iter().next().unwrap_or_default(), organizations })
}
