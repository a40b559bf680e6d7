//! Whether aggregated API servers can be reached. Asked when an APIService, its Service or the endpoints of that change, and
//! every now and then; the answer is a condition of the APIService, which is what everybody, this server too, goes by.

use super::Aggregator;
use super::discovery::resources;
use super::get::get;
use super::openapi::Documents;
use super::table::Remote;
use super::{GROUP, PLURAL, Said};
use apimachinery::Value;
use futures::{FutureExt, StreamExt};
use handlers::write::update::Preconditions;
use handlers::write::{Write, now_text};
use request::User;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use storage::object::{EventType, Object};
use storage::watchers::{Scope, Subscription};
use tokio_util::sync::CancellationToken;
use webhook::config::Place;
use webhook::resolver::port_of;

/// Between two looks at servers that are well, and at those that are not: first and last.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const RETRY_MIN: Duration = Duration::from_secs(1);
const DISCOVERY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Servers that are asked at once.
const CHECKS_MAX: usize = 8;

/// A condition of type Available.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Condition {
    fn no(reason: &'static str, message: String) -> Condition {
        Condition { status: "False", reason, message }
    }
}

/// The changes that matter.
struct Changes {
    services: Subscription,
    slices: Subscription,
    registrations: Subscription,
}

impl Changes {
    fn subscribe(aggregator: &Aggregator) -> Option<Changes> {
        let of = |group: &str, plural: &str| {
            let endpoint = aggregator.api.endpoint(group, "v1", plural)?;
            Some(endpoint.cache.as_ref()?.watch_with_state(Scope::All).1)
        };
        Some(Changes {
            services: of("", "services")?,
            slices: of("discovery.k8s.io", "endpointslices")?,
            registrations: of(GROUP, PLURAL)?,
        })
    }

    /// Waits for a change of an APIService or of a Service that one names. None when changes may have been missed.
    async fn next(&mut self, named: &BTreeSet<String>) -> Option<()> {
        loop {
            tokio::select! {
                event = self.registrations.next() => {
                    let event = event?;
                    // Not for what this loop writes itself, nor other servers' loops: the status.
                    let spec = |object: &Object| object.tree()["spec"].take();
                    let before = event.previous.as_ref().filter(|_| event.kind == EventType::Modified);
                    if before.is_none_or(|before| spec(before) != spec(&event.object)) {
                        return Some(());
                    }
                }
                event = self.services.next() => {
                    if named.contains(&*event?.object.key) {
                        return Some(());
                    }
                }
                event = self.slices.next() => {
                    let slice = event?.object.clone();
                    let service = slice.label("kubernetes.io/service-name").unwrap_or("");
                    if named.contains(&format!("{}/{service}", slice.namespace())) {
                        return Some(());
                    }
                }
            }
        }
    }
}

/// Keeps the conditions, until `shutdown`.
pub async fn run(aggregator: Arc<Aggregator>, shutdown: CancellationToken) {
    let Some(mut changes) = Changes::subscribe(&aggregator) else { return };
    let mut retry = RETRY_MIN;
    while !shutdown.is_cancelled() {
        let table = aggregator.table();
        aggregator.said.write().retain(|name, _| table.remotes.iter().any(|r| r.name == *name));
        let checks: Vec<_> = table.remotes.iter().map(|remote| look(&aggregator, remote).boxed()).collect();
        for name in &table.untold {
            let message = "Local APIServices are always available".into();
            let local = Condition { status: "True", reason: "Local", message };
            if let Err(status) = tell(&aggregator, name, &local).await {
                tracing::warn!(api_service = name, error = status.message, "cannot write the status");
            }
        }
        let well: Vec<bool> = futures::stream::iter(checks).buffer_unordered(CHECKS_MAX).collect().await;
        retry = if well.contains(&false) { retry } else { RETRY_MIN };
        let pause = async {
            match (table.remotes.is_empty(), well.contains(&false)) {
                (true, _) => std::future::pending().await,
                (_, true) => tokio::time::sleep(retry).await,
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        let named: BTreeSet<String> = table
            .remotes
            .iter()
            .filter_map(|r| match &r.destination.place {
                Place::Service { namespace, name, .. } => Some(format!("{namespace}/{name}")),
                Place::Host { .. } => None,
            })
            .collect();
        tokio::select! {
            change = changes.next(&named) => {
                retry = RETRY_MIN;
                if change.is_none() {
                    match Changes::subscribe(&aggregator) {
                        Some(again) => changes = again,
                        None => return,
                    }
                }
            }
            () = pause => retry = (retry * 2).min(LOOK_EVERY),
            () = shutdown.cancelled() => return,
        }
    }
}

/// One look at one server; whether it is well.
async fn look(aggregator: &Aggregator, remote: &Remote) -> bool {
    let (condition, found) = match ready(aggregator, remote) {
        Err(condition) => (condition, None),
        Ok(()) => match ask(aggregator, remote).await {
            Ok(found) => {
                (Condition { status: "True", reason: "Passed", message: "all checks passed".into() }, Some(found))
            }
            Err(why) => (Condition::no("FailedDiscoveryCheck", why), None),
        },
    };
    let well = found.is_some();
    let before = aggregator.said(&remote.name);
    let said = match found {
        Some(list) => {
            let documents = Documents::fetch(aggregator, remote, &before.documents).await;
            Said { resources: Arc::new(resources(&list, &remote.group, &remote.version)), fresh: true, documents }
        }
        None => Said { fresh: false, ..before },
    };
    aggregator.said.write().insert(remote.name.clone(), said);
    match tell(aggregator, &remote.name, &condition).await {
        Ok(()) => well,
        Err(status) => {
            tracing::warn!(api_service = remote.name, error = status.message, "cannot write the status");
            false
        }
    }
}

/// What the Service and its endpoints say.
fn ready(aggregator: &Aggregator, remote: &Remote) -> Result<(), Condition> {
    let Place::Service { namespace, name, port } = &remote.destination.place else { return Ok(()) };
    let resolver = &aggregator.api.callout.resolver;
    let Some(service) = resolver.service(namespace, name) else {
        return Err(Condition::no("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    };
    if !matches!(service["spec"]["type"].as_str(), None | Some("ClusterIP")) {
        return Ok(());
    }
    let Some(port) = port_of(&service, *port) else {
        let why = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Err(Condition::no("ServicePortError", why));
    };
    if !resolver.has_slices(namespace, name) {
        let why = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Err(Condition::no("EndpointsNotFound", why));
    }
    let port_name = port["name"].as_str().unwrap_or("");
    if resolver.endpoints(namespace, name, port_name).is_empty() {
        let why = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        return Err(Condition::no("MissingEndpoints", why));
    }
    Ok(())
}

/// Asks the server what it serves in the group and version: an `APIResourceList`.
async fn ask(aggregator: &Aggregator, remote: &Remote) -> Result<Value, String> {
    let (host, port) = aggregator.api.callout.address(&remote.destination).map_err(|e| e.to_string())?;
    let path = format!("/apis/{}/{}", remote.group, remote.version);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let url = format!("https://{host}:{port}{path}");
    match get(aggregator, remote, &path, "application/json", DISCOVERY_BYTES_MAX).await {
        Err(why) => Err(format!("failing or missing response from {url}: {why}")),
        Ok((code, ..)) if !code.is_success() => {
            Err(format!("failing or missing response from {url}: bad status from {url}: {}", code.as_u16()))
        }
        Ok((_, bytes, _)) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
    }
}

/// Writes the condition, if it is another than before.
async fn tell(aggregator: &Aggregator, name: &str, condition: &Condition) -> request::status::Result<()> {
    let endpoint = aggregator.api.builtin(GROUP, "v1", PLURAL)?;
    let Ok(object) = aggregator.api.cached(&endpoint, "", name) else { return Ok(()) };
    let now = now_text();
    if with_condition(&object.tree(), condition, &now).is_none() {
        return Ok(());
    }
    let user = User::apiserver();
    let mut write = Write::internal(&aggregator.api, &endpoint, &user, "", name);
    write.subresource = "status".into();
    let mut set = |current: &Value| Ok(with_condition(current, condition, &now).unwrap_or_else(|| current.clone()));
    match write.update(&Preconditions::default(), &mut Vec::new(), &mut set).await {
        Err(status) if status.reason != "NotFound" => Err(status),
        _ => Ok(()),
    }
}

/// The APIService with the condition in place of the one it had; none if it had the same.
fn with_condition(service: &Value, condition: &Condition, now: &str) -> Option<Value> {
    let mut new = json!({"type": "Available", "status": condition.status, "lastTransitionTime": now,
        "reason": condition.reason, "message": condition.message});
    let mut list = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
    match list.iter_mut().find(|c| c["type"] == "Available") {
        Some(old) => {
            if old["status"] == new["status"] {
                new["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            if *old == new {
                return None;
            }
            *old = new;
        }
        None => list.push(new),
    }
    let mut service = service.clone();
    service["status"]["conditions"] = list.into();
    Some(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let down = |why: &str| Condition::no("FailedDiscoveryCheck", why.into());
        let first = with_condition(&json!({}), &down("a"), "t1").unwrap();
        assert!(with_condition(&first, &down("a"), "t2").is_none());
        let second = with_condition(&first, &down("b"), "t2").unwrap();
        assert_eq!(second["status"]["conditions"][0]["lastTransitionTime"], "t1");
        let up = Condition { status: "True", reason: "Passed", message: String::new() };
        let third = with_condition(&second, &up, "t3").unwrap();
        assert_eq!(third["status"]["conditions"][0]["lastTransitionTime"], "t3");
        assert_eq!(third["status"]["conditions"].as_array().unwrap().len(), 1);
    }
}
