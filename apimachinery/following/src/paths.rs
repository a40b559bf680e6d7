//! Resources and verbs as the paths of a document tell them.

use crate::api::{GroupVersion, Kind, Resource};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    version: GroupVersion,
    /// `pods` or `pods/status`.
    resource: String,
    namespaced: bool,
    /// The path names one object.
    one: bool,
    /// The path is one of the old ones that watch.
    watch: bool,
}

/// Adds what can be done under each path, and says whether any of them watches.
pub fn add(resources: &mut BTreeMap<GroupVersion, BTreeMap<String, Resource>>, paths: &Map<String, Value>) -> bool {
    let mut watches = false;
    for (path, methods) in paths {
        let Some(place) = place(path) else { continue };
        let resource = resources.entry(place.version.clone()).or_default().entry(place.resource.clone()).or_default();
        resource.namespaced |= place.namespaced;
        watches |= place.watch;
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let action = operation.get("x-kubernetes-action").and_then(Value::as_str).unwrap_or_default();
            resource.verbs.extend(verb(method, action, &place).map(str::to_owned));
            if let Some(kind) = operation.get("x-kubernetes-group-version-kind").and_then(Kind::read) {
                resource.kind = Some(kind);
            }
        }
    }
    watches
}

/// Takes a path apart; none if it leads to no resource, or to resources of which only a client knows the names.
fn place(path: &str) -> Option<Place> {
    let mut rest: Vec<&str> = path.trim_matches('/').split('/').collect();
    let version = match rest[..] {
        ["api", version, _, ..] => {
            rest.drain(..2);
            GroupVersion::new("", version)
        }
        ["apis", group, version, _, ..] => {
            rest.drain(..3);
            GroupVersion::new(group, version)
        }
        _ => return None,
    };
    if [&version.group, &version.version].iter().any(|name| name.starts_with('{')) {
        return None;
    }
    let watch = rest[0] == "watch";
    if watch {
        rest.remove(0);
    }
    let namespaced = matches!(rest[..], ["namespaces", "{namespace}", _, ..]);
    if namespaced {
        rest.drain(..2);
    }
    let (resource, one) = match rest[..] {
        [name] => (name.to_owned(), false),
        [name, _] => (name.to_owned(), true),
        // What stands behind a subresource is a path for the proxy.
        [name, _, sub, ..] => (format!("{name}/{sub}"), true),
        [] => return None,
    };
    Some(Place { version, resource, namespaced, one, watch })
}

/// The verb of an operation, as authorization knows it. A document that does not tell the action tells the method.
fn verb(method: &str, action: &str, place: &Place) -> Option<&'static str> {
    if place.watch {
        return (method == "get").then_some("watch");
    }
    Some(match (action, method) {
        ("list", _) => "list",
        ("deletecollection", _) => "deletecollection",
        ("", "get") if !place.one => "list",
        ("", "delete") if !place.one => "deletecollection",
        (_, "get") => "get",
        (_, "post") => "create",
        (_, "put") => "update",
        (_, "patch") => "patch",
        (_, "delete") => "delete",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(path: &str) -> String {
        let told = |place: Place| {
            let scope = if place.namespaced { "namespaced" } else { "" };
            format!("{} {} {scope}", place.version, place.resource)
        };
        place(path).map(told).unwrap_or_default()
    }

    #[test]
    fn paths_lead_to_resources() {
        assert_eq!(at("/api/v1/namespaces/{namespace}/pods/{name}/status"), "core/v1 pods/status namespaced");
        assert_eq!(
            at("/api/v1/namespaces/{namespace}/services/{name}/proxy/{path}"),
            "core/v1 services/proxy namespaced"
        );
        assert_eq!(at("/api/v1/namespaces/{name}/finalize"), "core/v1 namespaces/finalize ");
        assert_eq!(at("/apis/apps/v1/watch/deployments"), "apps/v1 deployments ");
        for nothing in ["/version", "/api/v1/", "/apis/apps/v1/", "/apis/", "", "/apis/{group}/{version}/{plural}"] {
            assert_eq!(at(nothing), "", "{nothing}");
        }
    }

    #[test]
    fn verbs_are_those_of_authorization() {
        let toy = json!({"group": "toys.k8s.io", "version": "v1", "kind": "Toy"});
        let operation = |action: &str| json!({"x-kubernetes-action": action, "x-kubernetes-group-version-kind": toy});
        let paths = json!({
            "/apis/toys.k8s.io/v1/toys": {"get": operation("list"), "post": operation("post"), "parameters": []},
            "/apis/toys.k8s.io/v1/toys/{name}": {"get": {}, "delete": {}},
            "/apis/toys.k8s.io/v1/watch/toys": {"get": operation("watchlist")},
            "/apis/toys.k8s.io/v1/toys/{name}/play": {"get": operation("connect"), "head": operation("connect")},
        });
        let mut all = BTreeMap::new();
        assert!(add(&mut all, paths.as_object().unwrap()));
        let toys = &all[&GroupVersion::new("toys.k8s.io", "v1")];
        assert_eq!(toys["toys"].verbs, ["create", "delete", "get", "list", "watch"].map(str::to_owned).into());
        assert_eq!(toys["toys"].kind.as_ref().unwrap().to_string(), "toys.k8s.io/v1/Toy");
        assert_eq!(toys["toys/play"].verbs, ["get".to_owned()].into());
    }
}
