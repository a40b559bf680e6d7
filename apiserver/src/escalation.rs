//! Nobody gives what they do not have: who writes a role must hold its rules, who writes a binding those of its role, unless
//! the verbs `escalate` and `bind` allow it.

use crate::server::Server;
use apimachinery::Value;
use authorization::rbac::{Rule, covers};
use handlers::api::Endpoint;
use handlers::api::authorization::{Attributes, Decision, ResourceAttributes};
use request::RequestInfo;
use request::status::{About, Result, Status};
use request::user::{MASTERS, User};
use std::sync::Arc;

const GROUP: &str = "rbac.authorization.k8s.io";

pub async fn check(
    server: &Arc<Server>,
    endpoint: &Endpoint,
    user: &User,
    object: &Value,
    info: &RequestInfo,
) -> Result<()> {
    let row = &endpoint.row;
    let Some(rbac) = &server.rbac else { return Ok(()) };
    if row.kind.group != GROUP || user.is_in(MASTERS) {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or(&info.name);
    let may = async |verb: &str, resource: &str, name: &str| {
        let attributes = Attributes {
            user,
            verb,
            resource: Some(ResourceAttributes {
                group: GROUP,
                resource,
                subresource: "",
                namespace: &info.namespace,
                name,
                ..Default::default()
            }),
            path: "",
        };
        Ok::<_, Status>(matches!(server.authz.authorize(&server.api, &attributes).await?, Decision::Allow(_)))
    };
    let wanted: Vec<Rule> = match row.plural.as_str() {
        "roles" | "clusterroles" => {
            if may("escalate", &row.plural, name).await? {
                return Ok(());
            }
            serde_json::from_value(object["rules"].clone()).unwrap_or_default()
        }
        _ => {
            let reference = &object["roleRef"];
            let role = reference["name"].as_str().unwrap_or("");
            let cluster = reference["kind"] == "ClusterRole";
            if may("bind", if cluster { "clusterroles" } else { "roles" }, role).await? {
                return Ok(());
            }
            let key = if cluster { role.to_owned() } else { format!("{}/{role}", info.namespace) };
            match rbac.role(&key) {
                Some(rules) => rules.to_vec(),
                None => {
                    let plural = if cluster { "clusterroles" } else { "roles" };
                    return Err(Status::not_found(About { group: GROUP, resource: plural, name: role }));
                }
            }
        }
    };
    let owned = rbac.rules(user, &info.namespace);
    let missing: Vec<String> = wanted.iter().filter(|rule| !covers(&owned, rule)).map(describe).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let why = format!(
        "user \"{}\" (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        user.groups,
        missing.join("\n")
    );
    Err(Status::forbidden(About { group: GROUP, resource: &row.plural, name }, &why))
}

fn describe(rule: &Rule) -> String {
    if rule.non_resource_urls.is_empty() {
        format!("{{APIGroups:{:?}, Resources:{:?}, Verbs:{:?}}}", rule.api_groups, rule.resources, rule.verbs)
    } else {
        format!("{{NonResourceURLs:{:?}, Verbs:{:?}}}", rule.non_resource_urls, rule.verbs)
    }
}
