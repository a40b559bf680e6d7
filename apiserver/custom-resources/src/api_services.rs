//! APIServices for groups of custom resources: made with the first definition that serves a group and version, removed with the
//! last. Those of built-in groups are made at start, with the other objects that every cluster has.

use apimachinery::Value;
use handlers::api::Api;
use handlers::decode::finish;
use handlers::write::Write;
use handlers::write::update::Preconditions;
use request::User;
use request::options::{DeleteOptions, FieldValidation};
use request::status::Result;
use serde_json::json;
use std::collections::BTreeMap;

const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";
/// Marks what is kept here; the value says that it follows what is served, not only the start.
const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Brings the APIServices in step with the custom resources that are served. One that somebody else made is left alone.
pub async fn reconcile(api: &Api) -> Result<()> {
    let Some(endpoint) = api.endpoint(GROUP, "v1", PLURAL) else { return Ok(()) };
    let served = api.served.load_full();
    let custom = served.versions.iter().filter(|(_, table)| table.values().any(|e| e.row.is_custom()));
    let wanted: BTreeMap<String, Value> =
        custom.map(|((group, version), _)| (format!("{version}.{group}"), spec(group, version))).collect();
    let user = User::apiserver();
    let snapshot = endpoint.cache()?.snapshot();
    for (name, spec) in &wanted {
        let mut write = Write::internal(api, &endpoint, &user, "", name);
        match snapshot.get(name).map(|there| there.tree()) {
            None => {
                let object = json!({"metadata": {"name": name, "labels": {LABEL: "true"}}, "spec": spec});
                let (kind, form) = (&endpoint.row.kind, &endpoint.row.form);
                let object = finish(object, Vec::new(), kind, form, FieldValidation::Ignore)?.object;
                match write.create(object, Vec::new()).await {
                    Err(status) if status.reason != "AlreadyExists" => return Err(status),
                    _ => {}
                }
            }
            Some(there) if is_ours(&there) && !same(&there["spec"], spec) => {
                let mut restore = |current: &Value| {
                    let mut new = current.clone();
                    new["spec"] = spec.clone();
                    Ok(new)
                };
                write.update(&Preconditions::default(), &mut Vec::new(), &mut restore).await?;
            }
            Some(_) => {}
        }
    }
    for object in snapshot.objects.iter().map(|e| &e.0) {
        if object.label(LABEL) == Some("true") && !wanted.contains_key(object.name()) {
            let write = Write::internal(api, &endpoint, &user, "", object.name());
            match write.delete(&DeleteOptions::default(), &mut Vec::new()).await {
                Err(status) if status.reason != "NotFound" => return Err(status),
                _ => {}
            }
        }
    }
    Ok(())
}

fn is_ours(service: &Value) -> bool {
    service["metadata"]["labels"][LABEL] == "true"
}

fn same(there: &Value, wanted: &Value) -> bool {
    let members = ["group", "version", "groupPriorityMinimum", "versionPriority", "service"];
    members.iter().all(|name| there[name] == wanted[name])
}

/// Custom resources come after everything built in. (Upstream's priorities.)
fn spec(group: &str, version: &str) -> Value {
    json!({"group": group, "version": version, "groupPriorityMinimum": 1000, "versionPriority": 100})
}
