//! Admission as the generic verbs know it: what a write is ([`Attributes`]), what a plugin may do ([`Plugin`]), and the plugins that
//! are on, in their order ([`Chain`]). The plugins themselves are in a crate that builds on this one.

pub mod metrics;
pub mod reinvocation;

use crate::api::{Api, Endpoint};
use apimachinery::Value;
use futures::future::BoxFuture;
use metrics::{ChainMetrics, Stage};
use reinvocation::Reinvocation;
use request::User;
use request::options::{DeleteOptions, WriteOptions};
use request::status::{About, Result, Status};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

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
    /// What plugins have set aside for the write.
    pub charges: Vec<Box<dyn Charge>>,
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

    /// Records what a webhook or policy wants the client and the audit log to know.
    pub fn record(&mut self, by: &str, warnings: Vec<String>, audit_annotations: Vec<(String, String)>) {
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

/// What a plugin has set aside for a write, in a quota for one.
pub trait Charge: Send + Sync {
    /// Gives it back, for the write has failed.
    fn give_back<'a>(self: Box<Self>, api: &'a Api, namespace: &'a str) -> BoxFuture<'a, ()>;
}

/// One admission plugin. The defaults let everything pass.
pub trait Plugin: Send + Sync {
    /// As `--enable-admission-plugins` names it.
    fn name(&self) -> &'static str;

    /// The operations in which it changes objects and those in which it validates them, as metrics count them: Create, Update,
    /// Delete, cOnnect.
    fn operations(&self) -> (&'static str, &'static str);

    /// May change the object.
    fn admit<'a>(&'a self, _api: &'a Api, _attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// Validates the object as it will be stored.
    fn validate<'a>(&'a self, _api: &'a Api, _attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// The plugins that are on.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
    metrics: ChainMetrics,
}

impl Chain {
    /// `plugins` in the order in which they are asked.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Chain {
        let metrics = ChainMetrics::new(plugins.iter().map(|plugin| (plugin.name(), plugin.operations())));
        Chain { plugins, metrics }
    }

    /// The plugins that are on, in their order.
    pub fn plugins(&self) -> impl Iterator<Item = &dyn Plugin> {
        self.plugins.iter().map(|plugin| &**plugin)
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
        let mut verdict = Ok(());
        for (place, plugin) in self.plugins.iter().enumerate() {
            verdict = plugin.validate(api, attributes).await;
            clock.passed(place, verdict.is_err());
            if verdict.is_err() {
                break;
            }
        }
        self.metrics.step(Stage::Validate, attributes.operation, started, verdict.is_err());
        verdict.map_err(|status| status.with_warnings(&mut attributes.warnings))
    }

    /// Both stages, for requests that store nothing themselves.
    pub async fn pass(&self, api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
        self.admit(api, attributes).await?;
        self.validate(api, attributes).await
    }
}
