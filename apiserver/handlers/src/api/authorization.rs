//! Who may do what. `--authorization-mode` names the authorizers in order; the first that says yes decides, and where none
//! does the answer is no.

use crate::api::Api;
use request::RequestInfo;
use request::status::{About, Result, Status};
use request::user::{MASTERS, User};
use std::sync::Arc;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a User,
    pub verb: &'a str,
    /// Resource requests have all of the next five, others a path.
    pub resource: Option<ResourceAttributes<'a>>,
    pub path: &'a str,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct ResourceAttributes<'a> {
    pub group: &'a str,
    /// Plural.
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Of a list or watch, as the client wrote it; empty where it selects by no field.
    pub field_selector: &'a str,
}

impl<'a> Attributes<'a> {
    pub fn of(user: &'a User, info: &'a RequestInfo) -> Attributes<'a> {
        let resource = info.is_resource.then_some(ResourceAttributes {
            group: &info.group,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            field_selector: &info.field_selector,
        });
        Attributes { user, verb: &info.verb, resource, path: &info.path }
    }
}

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Allow(String),
    /// It has nothing to say; others may.
    NoOpinion(String),
}

/// An entry of `--authorization-mode`.
pub trait Authorizer: Send + Sync {
    fn decide(&self, attributes: &Attributes<'_>) -> Decision;
}

/// The chain.
pub struct Authorizers {
    pub chain: Vec<Arc<dyn Authorizer>>,
}

impl Authorizers {
    /// Asks the chain on what the caches hold now.
    pub fn decide(&self, attributes: &Attributes) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        for authorizer in &self.chain {
            match authorizer.decide(attributes) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join(", "))
    }

    /// The decision; before it is a no, the caches are brought up to date, so that a role just granted counts.
    pub async fn authorize(&self, api: &Api, attributes: &Attributes<'_>) -> Result<Decision> {
        match self.decide(attributes) {
            Decision::NoOpinion(_) => {
                api.freshness.barrier().await?;
                Ok(self.decide(attributes))
            }
            decided => Ok(decided),
        }
    }

    /// Fails with upstream's 403 unless the user may.
    pub async fn demand(&self, api: &Api, attributes: &Attributes<'_>) -> Result<()> {
        match self.authorize(api, attributes).await? {
            Decision::Allow(_) => Ok(()),
            Decision::NoOpinion(reason) => Err(forbidden(attributes, &reason)),
        }
    }
}

/// The words of a refusal.
pub fn forbidden(attributes: &Attributes, reason: &str) -> Status {
    let user = &attributes.user.name;
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match &attributes.resource {
        None => {
            let why = format!("User \"{user}\" cannot {} path \"{}\"{because}", attributes.verb, attributes.path);
            Status::forbidden(About { group: "", resource: "", name: "" }, &why)
        }
        Some(r) => {
            let resource = if r.subresource.is_empty() {
                r.resource.to_owned()
            } else {
                format!("{}/{}", r.resource, r.subresource)
            };
            let place = if r.namespace.is_empty()
                || (r.resource == "namespaces" && r.group.is_empty())
                    && attributes.verb != "list"
                    && r.namespace == r.name
            {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace \"{}\"", r.namespace)
            };
            let why = format!(
                "User \"{user}\" cannot {} resource \"{resource}\" in API group \"{}\" {place}{because}",
                attributes.verb, r.group
            );
            Status::forbidden(About { group: r.group, resource: r.resource, name: r.name }, &why)
        }
    }
}
