//! Admission: what happens to a write between authorization and storage. Plugins that change the object run first, then those
//! that judge it. One plugin, one file; the order is upstream's, in [`Chain::new`].

pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod namespace_lifecycle;
pub mod priority;
pub mod service_account;
pub mod storage_object_in_use_protection;
pub mod taint_nodes_by_condition;

use crate::api::{Api, Endpoint};
use crate::authn::User;
use crate::status::Result;
use apimachinery::Value;
use futures::future::BoxFuture;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
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
    /// The options of the request, as an object.
    pub options: &'a Value,
    pub dry_run: bool,
    /// Texts for the client's `Warning` header.
    pub warnings: Vec<String>,
}

impl Attributes<'_> {
    /// `pods` in the core group and the like.
    pub fn is_resource(&self, group: &str, plural: &str) -> bool {
        self.endpoint.row.kind.group == group && self.endpoint.row.plural == plural
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

/// The plugins that are on.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Chain {
    /// All plugins in upstream's order, less those in `disabled`.
    pub fn new(disabled: &[String]) -> Chain {
        let mut plugins: Vec<Box<dyn Plugin>> = vec![
            Box::new(namespace_lifecycle::NamespaceLifecycle),
            Box::new(service_account::ServiceAccount),
            Box::new(taint_nodes_by_condition::TaintNodesByCondition),
            Box::new(priority::Priority),
            Box::new(default_toleration_seconds::DefaultTolerationSeconds),
            Box::new(default_storage_class::DefaultStorageClass),
            Box::new(storage_object_in_use_protection::StorageObjectInUseProtection),
        ];
        plugins.retain(|p| !disabled.iter().any(|d| d == p.name()));
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
