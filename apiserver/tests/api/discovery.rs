//! What clients ask first: groups, versions, resources, the server's own version; and what no table can be made of.

use crate::stand::Stand;
use serde_json::{Value, json};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn find<'a>(list: &'a Value, member: &str, value: &str) -> &'a Value {
    let found = list.as_array().into_iter().flatten().find(|item| item[member] == value);
    found.unwrap_or(&Value::Null)
}

#[tokio::test]
async fn each_group_prefers_a_version_it_has_and_each_version_has_resources() {
    let stand = Stand::start().await;
    let groups = stand.get("/apis").await;
    for group in groups["groups"].as_array().unwrap() {
        let (name, versions) = (group["name"].as_str().unwrap(), group["versions"].as_array().unwrap());
        assert!(versions.contains(&group["preferredVersion"]), "{group}");
        let alone = stand.get(&format!("/apis/{name}")).await;
        assert_eq!((&alone["kind"], &alone["preferredVersion"]), (&json!("APIGroup"), &group["preferredVersion"]));
        for version in versions {
            let group_version = version["groupVersion"].as_str().unwrap();
            let list = stand.get(&format!("/apis/{group_version}")).await;
            assert_eq!((&list["kind"], &list["groupVersion"]), (&json!("APIResourceList"), &json!(group_version)));
            let first = &list["resources"][0];
            assert!(
                first["name"].is_string() && first["kind"].is_string() && first["verbs"].is_array(),
                "{group_version}"
            );
        }
    }
}

#[tokio::test]
async fn resources_of_built_in_groups_are_in_the_documents() {
    let stand = Stand::start().await;
    let groups = stand.get("/apis").await;
    for (group, resources) in [
        ("apiextensions.k8s.io", vec!["customresourcedefinitions", "customresourcedefinitions/status"]),
        (
            "flowcontrol.apiserver.k8s.io",
            vec![
                "flowschemas",
                "flowschemas/status",
                "prioritylevelconfigurations",
                "prioritylevelconfigurations/status",
            ],
        ),
        (
            "admissionregistration.k8s.io",
            vec![
                "mutatingwebhookconfigurations",
                "validatingwebhookconfigurations",
                "validatingadmissionpolicies",
                "validatingadmissionpolicies/status",
                "validatingadmissionpolicybindings",
            ],
        ),
    ] {
        assert!(find(&groups["groups"], "name", group).is_object(), "{group}");
        let alone = stand.get(&format!("/apis/{group}")).await;
        assert!(find(&alone["versions"], "version", "v1").is_object(), "{alone}");
        let list = stand.get(&format!("/apis/{group}/v1")).await;
        for resource in resources {
            assert!(find(&list["resources"], "name", resource).is_object(), "{group} {resource}");
        }
    }
}

#[tokio::test]
async fn aggregated_discovery_has_built_in_and_custom_resources() {
    let stand = Stand::start().await;
    let definition = json!({"metadata": {"name": "things.discovered.example.com"}, "spec": {
        "group": "discovered.example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    stand.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    stand.until("/apis/discovered.example.com/v1", |code, _| code == 200).await;
    for (path, group, version, resource) in [
        ("/api", "", "v1", "pods"),
        ("/apis", "apps", "v1", "deployments"),
        ("/apis", "discovered.example.com", "v1", "things"),
    ] {
        for accept in [
            AGGREGATED.to_owned(),
            format!(
                "{AGGREGATED},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
            ),
        ] {
            let (code, all) = stand.call("GET", path, "", &accept, &Value::Null).await;
            assert_eq!(
                (code, &all["kind"], &all["apiVersion"]),
                (200, &json!("APIGroupDiscoveryList"), &json!("apidiscovery.k8s.io/v2"))
            );
            let groups = all["items"].as_array().unwrap();
            let found = groups.iter().find(|g| g["metadata"]["name"].as_str().unwrap_or_default() == group);
            let version = find(&found.unwrap()["versions"], "version", version);
            let found = find(&version["resources"], "resource", resource);
            assert_eq!(found["scope"], "Namespaced", "{group}/{resource}: {version}");
            assert!(found["verbs"].as_array().unwrap().contains(&json!("list")));
        }
        let (_, plain) = stand.call("GET", path, "", "application/json", &Value::Null).await;
        assert!(["APIVersions", "APIGroupList"].contains(&plain["kind"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn the_version_is_made_of_integers_and_reviews_make_no_tables() {
    let stand = Stand::start().await;
    let version = stand.get("/version").await;
    for part in ["major", "minor"] {
        assert!(version[part].as_str().unwrap().parse::<u32>().is_ok(), "{version}");
    }
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, refused) = stand.call("POST", path, "application/json", TABLE, &review).await;
    assert_eq!((code, &refused["reason"]), (406, &json!("NotAcceptable")), "{refused}");
    let (code, table) = stand.call("GET", "/api/v1/namespaces", "", TABLE, &Value::Null).await;
    assert_eq!((code, &table["kind"]), (200, &json!("Table")));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
}

#[tokio::test]
async fn health_is_told_check_by_check_under_upstreams_names() {
    let stand = Stand::start().await;
    let text = async |path: &str| {
        let answer = stand.send(http::Request::get(path).body(Vec::new()).unwrap()).await;
        (answer.status().as_u16(), String::from_utf8(answer.into_body()).unwrap())
    };
    for endpoint in ["healthz", "livez", "readyz"] {
        stand.until(&format!("/{endpoint}"), |code, _| code == 200).await;
        assert_eq!(text(&format!("/{endpoint}")).await, (200, "ok".into()));
        let (code, verbose) = text(&format!("/{endpoint}?verbose")).await;
        assert!(code == 200 && verbose.ends_with(&format!("\n{endpoint} check passed\n")), "{verbose}");
        for name in ["ping", "log", "etcd", "poststarthook/rbac/bootstrap-roles", "autoregister-completion"] {
            assert!(verbose.contains(&format!("[+]{name} ok\n")), "{name}: {verbose}");
            assert_eq!(text(&format!("/{endpoint}/{name}")).await, (200, "ok".into()), "{name}");
        }
        for name in ["shutdown", "informer-sync", "etcd-readiness"] {
            assert_eq!(verbose.contains(&format!("[+]{name} ok\n")), endpoint == "readyz", "{verbose}");
            let code = if endpoint == "readyz" { 200 } else { 404 };
            assert_eq!(text(&format!("/{endpoint}/{name}")).await.0, code, "{endpoint}/{name}");
        }
    }
    assert_eq!(text("/readyz?verbose&exclude=ping").await.1.lines().next(), Some("[+]ping excluded: ok"));
}
