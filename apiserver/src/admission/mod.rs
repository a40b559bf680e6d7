//! Admission: what happens to a write between authorization and storage. Plugins that change the object run first, then those
//! that judge it. One plugin, one file; the order is upstream's, in [`Chain::new`].

pub mod always_pull_images;
pub mod certificates;
pub mod configuration;
pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod extended_resource_toleration;
pub mod limit_ranger;
pub mod match_conditions;
pub mod metrics;
pub mod mutating_webhook;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod persistent_volume_claim_resize;
pub mod pod_certificate;
pub mod pod_security;
pub mod policy;
pub mod priority;
pub mod resource_quota;
pub mod rules;
pub mod runtime_class;
pub mod service_account;
pub mod storage_object_in_use_protection;
pub mod taint_nodes_by_condition;
pub mod validating_webhook;
pub mod webhook;

use crate::api::{Api, Endpoint};
use anyhow::Context;
use apimachinery::Value;
use component_base::feature_gates::FeatureGates;
use configuration::Configurations;
use default_toleration_seconds::DefaultTolerationSeconds;
use futures::future::BoxFuture;
use metrics::{ChainMetrics, Stage};
use pod_security::PodSecurity;
use request::User;
use request::options::{DeleteOptions, WriteOptions};
use request::status::{About, Result, Status};
use resource_quota::Charge;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;
use webhook::reinvocation::Reinvocation;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// Opening a stream to a pod, service or node. The object is the options of the stream.
    Connect,
}

impl Operation {
    /// As rules name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// The options of a request.
#[derive(Clone, Copy)]
pub enum RequestOptions<'a> {
    Write(&'a WriteOptions),
    Delete(&'a DeleteOptions),
    None,
}

/// A write as admission sees it.
pub struct Attributes<'a> {
    pub endpoint: &'a Arc<Endpoint>,
    pub operation: Operation,
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Empty for a create whose name is still to be generated.
    pub name: &'a str,
    pub user: &'a User,
    pub options: RequestOptions<'a>,
    /// What is to be written, in the version of the request; none on delete.
    pub object: Option<Value>,
    /// What is there now; none on create.
    pub old: Option<&'a Value>,
    pub dry_run: bool,
    /// Texts for the client's `Warning` header.
    pub warnings: Vec<String>,
    /// What quotas were charged for the write.
    pub charges: Vec<Charge>,
    /// For the audit log: key and value.
    pub audit_annotations: Vec<(String, String)>,
    /// Of webhooks.
    pub reinvocation: Reinvocation,
    /// Of policies.
    pub policy_reinvocation: Reinvocation,
}

impl<'a> Attributes<'a> {
    pub fn new(
        endpoint: &'a Arc<Endpoint>,
        operation: Operation,
        subresource: &'a str,
        (namespace, name): (&'a str, &'a str),
        user: &'a User,
    ) -> Attributes<'a> {
        Attributes {
            endpoint,
            operation,
            subresource,
            namespace,
            name,
            user,
            options: RequestOptions::None,
            object: None,
            old: None,
            dry_run: false,
            warnings: Vec::new(),
            charges: Vec::new(),
            audit_annotations: Vec::new(),
            reinvocation: Reinvocation::default(),
            policy_reinvocation: Reinvocation::default(),
        }
    }

    /// The options as an object of the operation's kind; null where it has none.
    pub fn options(&self) -> Value {
        match (self.options, self.operation) {
            (RequestOptions::Write(options), Operation::Create) => options.to_value("CreateOptions"),
            (RequestOptions::Write(options), _) => options.to_value("UpdateOptions"),
            (RequestOptions::Delete(options), _) => options.to_value(),
            (RequestOptions::None, _) => Value::Null,
        }
    }

    /// Object and old object as they are in another version of the resource.
    #[allow(clippy::type_complexity, reason = "two objects, each borrowed if it is in that version already")]
    pub async fn in_version<'b>(
        &'b self,
        api: &Api,
        endpoint: &Endpoint,
    ) -> Result<(Option<Cow<'b, Value>>, Option<Cow<'b, Value>>)> {
        let (own, other) = (self.endpoint.row.kind_of(self.subresource), endpoint.row.kind_of(self.subresource));
        let mut given = [self.object.as_ref(), self.old].map(|o| o.filter(|o| !o.is_null()).map(Cow::Borrowed));
        if own != other {
            let present: Vec<Value> = given.iter().flatten().map(|o| Value::clone(o)).collect();
            let mut converted = api.convert(&endpoint.row, own, other, present).await?.into_iter();
            for object in given.iter_mut().flatten() {
                *object = Cow::Owned(converted.next().unwrap_or_default());
            }
        }
        let [object, old] = given;
        Ok((object, old))
    }

    /// An object in another version of the resource as it is in the version of the request.
    pub async fn in_own_version(&self, api: &Api, endpoint: &Endpoint, object: Value) -> Result<Value> {
        let (own, other) = (self.endpoint.row.kind_of(self.subresource), endpoint.row.kind_of(self.subresource));
        if own == other {
            return Ok(object);
        }
        let mut converted = api.convert(&self.endpoint.row, other, own, vec![object]).await?;
        Ok(converted.pop().unwrap_or_default())
    }

    /// Notes what somebody who was asked wants the client and the audit log to know.
    pub fn heard(&mut self, by: &str, warnings: Vec<String>, audit_annotations: Vec<(String, String)>) {
        self.warnings.extend(warnings);
        self.audit_annotations.extend(audit_annotations.into_iter().map(|(key, value)| (format!("{by}/{key}"), value)));
    }

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
    metrics: ChainMetrics,
}

impl Chain {
    /// The plugins in upstream's order: those that are on by default or in `enabled`, less those in `disabled`.
    /// Policies that mutate need their gate as well. Fails on a configuration that its plugin does not understand.
    pub fn new(
        enabled: &[String],
        disabled: &[String],
        configured: &Configurations,
        gates: &FeatureGates,
        tolerations: DefaultTolerationSeconds,
    ) -> anyhow::Result<Chain> {
        let pod_security = PodSecurity::new(configured.get("PodSecurity"));
        let pod_security = pod_security.context("the configuration of the admission plugin PodSecurity")?;
        let mut plugins: Vec<Box<dyn Plugin>> = vec![
            Box::new(namespace_lifecycle::NamespaceLifecycle),
            Box::new(limit_ranger::LimitRanger),
            Box::new(service_account::ServiceAccount),
            Box::new(node_restriction::NodeRestriction),
            Box::new(taint_nodes_by_condition::TaintNodesByCondition),
            Box::new(always_pull_images::AlwaysPullImages),
            Box::new(pod_security),
            Box::new(priority::Priority),
            Box::new(tolerations),
            Box::new(extended_resource_toleration::ExtendedResourceToleration),
            Box::new(default_storage_class::DefaultStorageClass),
            Box::new(storage_object_in_use_protection::StorageObjectInUseProtection),
            Box::new(persistent_volume_claim_resize::PersistentVolumeClaimResize),
            Box::new(runtime_class::RuntimeClass),
            Box::new(certificates::CertificateApproval),
            Box::new(certificates::CertificateSigning),
            Box::new(certificates::ClusterTrustBundleAttest),
            Box::new(certificates::CertificateSubjectRestriction),
            Box::new(default_ingress_class::DefaultIngressClass),
            Box::new(policy::mutating::MutatingAdmissionPolicy::default()),
            Box::new(mutating_webhook::MutatingWebhook::new()),
            Box::new(policy::validating::ValidatingAdmissionPolicy::default()),
            Box::new(validating_webhook::ValidatingWebhook::new()),
            Box::new(resource_quota::ResourceQuota),
        ];
        let named = |list: &[String], name: &str| list.iter().any(|n| n == name);
        plugins.retain(|p| {
            let on = !OFF_BY_DEFAULT.contains(&p.name()) || named(enabled, p.name());
            let gated = p.name() == "MutatingAdmissionPolicy" && !gates.enabled(p.name());
            on && !gated && !named(disabled, p.name())
        });
        let metrics = ChainMetrics::new(plugins.iter().map(|plugin| plugin.name()));
        Ok(Chain { plugins, metrics })
    }

    /// Lets the plugins change the object. What a webhook or policy changed the others see in a second round.
    pub async fn admit(&self, api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
        let started = Instant::now();
        let mut admitted = self.admit_once(api, attributes).await;
        if admitted.is_ok() && (attributes.reinvocation.wanted || attributes.policy_reinvocation.wanted) {
            attributes.reinvocation.again = true;
            attributes.policy_reinvocation.again = true;
            admitted = self.admit_once(api, attributes).await;
        }
        self.metrics.step(Stage::Admit, attributes.operation, started, admitted.is_err());
        admitted
    }

    async fn admit_once(&self, api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
        let mut clock = self.metrics.clock(Stage::Admit, attributes.operation);
        for (place, plugin) in self.plugins.iter().enumerate() {
            let admitted = plugin.admit(api, attributes).await;
            clock.passed(place, admitted.is_err());
            admitted.map_err(|status| status.with_warnings(&mut attributes.warnings))?;
        }
        Ok(())
    }

    pub async fn validate(&self, api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
        let mut clock = self.metrics.clock(Stage::Validate, attributes.operation);
        let started = clock.started();
        let mut judged = Ok(());
        for (place, plugin) in self.plugins.iter().enumerate() {
            judged = plugin.validate(api, attributes).await;
            clock.passed(place, judged.is_err());
            if judged.is_err() {
                break;
            }
        }
        self.metrics.step(Stage::Validate, attributes.operation, started, judged.is_err());
        judged.map_err(|status| status.with_warnings(&mut attributes.warnings))
    }

    /// Both stages, for requests that store nothing themselves.
    pub async fn pass(&self, api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
        self.admit(api, attributes).await?;
        self.validate(api, attributes).await
    }
}
