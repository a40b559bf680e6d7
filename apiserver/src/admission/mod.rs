//! Admission: what happens to a write between authorization and storage. Plugins that change the object run first, then those
//! that judge it. One plugin, one file; the order is upstream's, in [`Chain::new`].

pub mod always_pull_images;
pub mod certificates;
pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod extended_resource_toleration;
pub mod limit_ranger;
pub mod match_conditions;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod persistent_volume_claim_resize;
pub mod pod_security;
pub mod policy;
pub mod priority;
pub mod resource_quota;
pub mod rules;
pub mod runtime_class;
pub mod service_account;
pub mod storage_object_in_use_protection;
pub mod taint_nodes_by_condition;

use crate::api::{Api, Endpoint};
use crate::authn::User;
use crate::status::{About, Result, Status};
use apimachinery::Value;
use futures::future::BoxFuture;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// A write as admission sees it.
pub struct Attributes<'a> {
    pub endpoint: &'a Endpoint,
    pub operation: Operation,
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Empty for a create whose name is still to be generated.
    pub name: &'a str,
    pub user: &'a User,
    /// What is to be written, in the version of the request; none on delete.
    pub object: Option<Value>,
    /// What is there now; none on create.
    pub old: Option<&'a Value>,
    pub dry_run: bool,
    /// Texts for the client's `Warning` header.
    pub warnings: Vec<String>,
}

impl Attributes<'_> {
    /// `pods` in the core group and the like.
    pub fn is_resource(&self, group: &str, plural: &str) -> bool {
        self.endpoint.row.kind.group == group && self.endpoint.row.plural == plural
    }

    /// `operation` on an object of that resource itself, not on a subresource of it.
    pub fn is(&self, operation: Operation, group: &str, plural: &str) -> bool {
        self.operation == operation && self.subresource.is_empty() && self.is_resource(group, plural)
    }

    /// The refusal of this request.
    pub fn forbidden(&self, why: &str) -> Status {
        let row = &self.endpoint.row;
        Status::forbidden(About { group: &row.kind.group, resource: &row.plural, name: self.name }, why)
    }
}

/// One admission plugin. The defaults let everything pass.
pub trait Plugin: Send + Sync {
    /// As `--enable-admission-plugins` names it.
    fn name(&self) -> &'static str;

    /// May change the object.
    fn admit<'a>(&'a self, _api: &'a Api, _attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// Judges the object as it will be stored.
    fn validate<'a>(&'a self, _api: &'a Api, _attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// Plugins that only `--enable-admission-plugins` switches on.
const OFF_BY_DEFAULT: [&str; 3] = ["AlwaysPullImages", "ExtendedResourceToleration", "NodeRestriction"];

/// The plugins that are on.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Chain {
    /// The plugins in upstream's order: those that are on by default or in `enabled`, less those in `disabled`.
    pub fn new(enabled: &[String], disabled: &[String]) -> Chain {
        let mut plugins: Vec<Box<dyn Plugin>> = vec![
            Box::new(namespace_lifecycle::NamespaceLifecycle),
            Box::new(limit_ranger::LimitRanger),
            Box::new(service_account::ServiceAccount),
            Box::new(node_restriction::NodeRestriction),
            Box::new(taint_nodes_by_condition::TaintNodesByCondition),
            Box::new(always_pull_images::AlwaysPullImages),
            Box::new(pod_security::PodSecurity),
            Box::new(priority::Priority),
            Box::new(default_toleration_seconds::DefaultTolerationSeconds),
            Box::new(extended_resource_toleration::ExtendedResourceToleration),
            Box::new(default_storage_class::DefaultStorageClass),
            Box::new(storage_object_in_use_protection::StorageObjectInUseProtection),
            Box::new(persistent_volume_claim_resize::PersistentVolumeClaimResize),
            Box::new(runtime_class::RuntimeClass),
            Box::new(certificates::CertificateApproval),
            Box::new(certificates::CertificateSigning),
            Box::new(certificates::CertificateSubjectRestriction),
            Box::new(default_ingress_class::DefaultIngressClass),
            Box::new(policy::validating::ValidatingAdmissionPolicy::default()),
            Box::new(resource_quota::ResourceQuota),
        ];
        let named = |list: &[String], name: &str| list.iter().any(|n| n == name);
        plugins.retain(|p| {
            let on = !OFF_BY_DEFAULT.contains(&p.name()) || named(enabled, p.name());
            on && !named(disabled, p.name())
        });
        Chain { plugins }
    }

    pub async fn admit(&self, api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
        for plugin in &self.plugins {
            plugin.admit(api, attributes).await?;
        }
        Ok(())
    }

    pub async fn validate(&self, api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
        for plugin in &self.plugins {
            plugin.validate(api, attributes).await?;
        }
        Ok(())
    }
}
