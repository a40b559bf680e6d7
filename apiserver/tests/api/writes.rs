//! What creates and updates make of an object, where it surprises.

use crate::stand::Stand;
use http::Request;
use serde_json::{Value, json};

async fn send(stand: &Stand, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let answer = stand.send(request.body(body.to_string().into_bytes()).unwrap()).await;
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
}

#[tokio::test]
async fn a_version_of_a_new_object_is_noticed_last() {
    let stand = Stand::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = |name: &str, version: &str| json!({"metadata": {"name": name, "resourceVersion": version}});
    let (code, status) = send(&stand, "POST", maps, map("a", "7")).await;
    let message = "resourceVersion should not be set on objects to be created";
    assert_eq!((code, &status["message"], &status["reason"]), (500, &json!(message), &Value::Null));
    assert_eq!(send(&stand, "POST", maps, map("A_", "7")).await.0, 422, "other faults come first");
    // What is no version counts as none.
    for (name, version) in [("b", "0"), ("c", "x")] {
        let (code, made) = send(&stand, "POST", maps, map(name, version)).await;
        assert!(code == 201 && made["metadata"]["resourceVersion"] != version, "{code} {made}");
    }
}

#[tokio::test]
async fn a_limit_range_without_a_name_gets_one() {
    let stand = Stand::start().await;
    let ranges = "/api/v1/namespaces/default/limitranges";
    let made = stand.create(ranges, json!({"spec": {"limits": []}})).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    assert_eq!(stand.get(&format!("{ranges}/{name}")).await["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(send(&stand, "POST", "/api/v1/namespaces/default/configmaps", json!({})).await.0, 422);
}

#[tokio::test]
async fn empty_lists_count_as_a_change_of_a_network_policy() {
    let stand = Stand::start().await;
    let path = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let policy = |egress: Value| json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, "egress": egress}});
    stand.create(path, policy(json!([{}]))).await;
    let generation = async |egress: Value| {
        let (code, updated) = send(&stand, "PUT", &format!("{path}/p"), policy(egress)).await;
        assert_eq!(code, 200, "{updated}");
        updated["metadata"]["generation"].clone()
    };
    assert_eq!(generation(json!([{}])).await, 1);
    assert_eq!(generation(json!([{"to": [], "ports": []}])).await, 2);
    assert_eq!(generation(json!([{"to": [], "ports": []}])).await, 3);
    assert_eq!(generation(json!([{}])).await, 3);
}

#[tokio::test]
async fn a_dry_update_shows_what_would_be_allocated() {
    let stand = Stand::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service = |ty: &str| json!({"metadata": {"name": "s"}, "spec": {"type": ty, "externalName": "a.example", "ports": [{"port": 80}]}});
    let made = stand.create(services, service("ExternalName")).await;
    let (code, dry) = send(&stand, "PUT", &format!("{services}/s?dryRun=All"), service("NodePort")).await;
    assert!(
        code == 200 && dry["spec"]["clusterIP"].is_string() && dry["spec"]["ports"][0]["nodePort"].is_u64(),
        "{dry}"
    );
    assert_eq!(stand.get(&format!("{services}/s")).await, made);
}

#[tokio::test]
async fn requirements_of_a_gated_pod_may_only_grow() {
    let stand = Stand::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let expression = |key: &str| json!({"key": key, "operator": "Exists"});
    let affinity = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"schedulingGates": [{"name": "example.com/g"}],
        "affinity": affinity(json!([{"matchExpressions": [expression("a")]}])), "containers": [{"name": "c", "image": "i"}]}});
    let made = stand.create(pods, pod).await;
    let terms = |keys: &[&[&str]]| -> Value {
        let term =
            |keys: &&[&str]| json!({"matchExpressions": keys.iter().map(|key| expression(key)).collect::<Vec<_>>()});
        keys.iter().map(term).collect()
    };
    for (keys, code) in
        [(&[&["a", "b"][..]][..], 200), (&[&["b"]], 422), (&[&["b", "a"]], 422), (&[&["a"], &["b"]], 422), (&[], 422)]
    {
        let mut changed = made.clone();
        changed["spec"]["affinity"] = affinity(terms(keys));
        assert_eq!(send(&stand, "PUT", &format!("{pods}/p?dryRun=All"), changed).await.0, code, "{keys:?}");
    }
}

#[tokio::test]
async fn a_create_that_fails_late_gives_its_quota_back() {
    let stand = Stand::start().await;
    let (quotas, maps) = ("/api/v1/namespaces/default/resourcequotas", "/api/v1/namespaces/default/configmaps");
    stand.create(maps, json!({"metadata": {"name": "a"}})).await;
    stand.create(quotas, json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "9"}}})).await;
    let status = json!({"status": {"hard": {"configmaps": "9"}, "used": {"configmaps": "1"}}});
    stand.merge(&format!("{quotas}/q/status"), status).await;
    let used = async || stand.get(&format!("{quotas}/q")).await["status"]["used"]["configmaps"].clone();
    // The charge is seen once the server's own cache has the quota.
    stand
        .until(&format!("{quotas}/q?resourceVersion=0"), |_, quota| quota["status"]["used"]["configmaps"] == "1")
        .await;
    assert_eq!(send(&stand, "POST", maps, json!({"metadata": {"name": "a"}})).await.0, 409);
    assert_eq!(used().await, "1");
    assert_eq!(send(&stand, "POST", maps, json!({"metadata": {"name": "b", "resourceVersion": "7"}})).await.0, 500);
    assert_eq!(used().await, "1");
    assert_eq!(send(&stand, "POST", maps, json!({"metadata": {"name": "b"}})).await.0, 201);
    assert_eq!(used().await, "2");
}

#[tokio::test]
async fn a_body_that_is_null_is_an_object_in_which_nothing_is_set() {
    let stand = Stand::start().await;
    for path in ["/api/v1/namespaces/default/configmaps", "/apis/apps/v1/namespaces/default/deployments"] {
        let (code, status) = send(&stand, "POST", path, Value::Null).await;
        assert_eq!((code, &status["reason"]), (422, &json!("Invalid")), "{status}");
        let fields = status["details"]["causes"].as_array().unwrap();
        assert!(fields.iter().any(|cause| cause["field"] == "metadata.name"), "{status}");
    }
}

#[tokio::test]
async fn only_changes_of_a_csi_driver_are_counted() {
    let stand = Stand::start().await;
    let path = "/apis/storage.k8s.io/v1/csidrivers";
    let made = stand.create(path, json!({"metadata": {"name": "d.example.com"}, "spec": {}})).await;
    assert_eq!(made["metadata"]["generation"], Value::Null);
    let changed = stand.merge(&format!("{path}/d.example.com"), json!({"spec": {"requiresRepublish": true}})).await;
    assert_eq!(changed["metadata"]["generation"], 1);
}

#[tokio::test]
async fn a_patch_that_makes_no_object_of_the_kind_says_why() {
    let stand = Stand::start().await;
    let path = "/api/v1/namespaces/default/configmaps";
    stand.create(path, json!({"metadata": {"name": "m"}, "data": {"a": "1"}})).await;
    let strategic = "application/strategic-merge-patch+json";
    let merge = "application/merge-patch+json";
    for (content, patch, query, want) in [
        (
            strategic,
            json!({"metadata": {"labels": "x"}}),
            "",
            "\"map[metadata:map[labels:x]]\": cannot restore map from string",
        ),
        (
            strategic,
            json!({"immutable": [1, null]}),
            "",
            "\"map[immutable:[1 <nil>]]\": cannot convert []interface {} to bool",
        ),
        (strategic, json!({"metadata": {"finalizers": true}}), "", "cannot restore slice from bool"),
        (strategic, json!({"x": 1}), "?fieldValidation=Strict", "strict decoding error: unknown field \"x\""),
        (merge, json!({"metadata": {"labels": "x"}}), "", "json: cannot unmarshal string into Go struct field"),
        (merge, json!({"x": 1}), "?fieldValidation=Strict", "strict decoding error: unknown field \"x\""),
    ] {
        let request = Request::patch(format!("{path}/m{query}")).header("content-type", content);
        let answer = stand.send(request.body(patch.to_string().into_bytes()).unwrap()).await;
        let status: Value = serde_json::from_slice(answer.body()).unwrap();
        let message = status["message"].as_str().unwrap();
        assert_eq!(
            (answer.status().as_u16(), &status["details"]["causes"][0]["field"]),
            (422, &json!("patch")),
            "{status}"
        );
        assert!(message.starts_with(" \"\" is invalid: patch: Invalid value: ") && message.contains(want), "{message}");
    }
}

#[tokio::test]
async fn what_charts_write_too_much_does_no_harm() {
    let stand = Stand::start().await;
    // A namespace for what has none.
    let role = json!({"metadata": {"name": "r", "namespace": "default"}, "rules": []});
    let made = stand.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await;
    assert_eq!(made["metadata"]["namespace"], Value::Null);
    // The host's network and a port of which only the container's number is given.
    let container = json!({"name": "c", "image": "i", "ports": [{"containerPort": 9100}]});
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"hostNetwork": true, "containers": [container]}});
    let set =
        json!({"metadata": {"name": "s"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let made = stand.create("/apis/apps/v1/namespaces/default/daemonsets", set).await;
    let port = &made["spec"]["template"]["spec"]["containers"][0]["ports"][0];
    assert_eq!((&port["containerPort"], &port["hostPort"]), (&json!(9100), &Value::Null));
    let pod = json!({"metadata": {"name": "p"}, "spec": template["spec"]});
    let made = stand.create("/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(made["spec"]["containers"][0]["ports"][0]["hostPort"], 9100);
    // Labels of a job that are those of its pods are its own all the same; only a job without any shares theirs.
    let job = |labels: Value| {
        let spec = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
        json!({"metadata": {"generateName": "j", "labels": labels},
            "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}}})
    };
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    assert_eq!(stand.create(jobs, job(json!({"a": "b"}))).await["metadata"]["labels"], json!({"a": "b"}));
    let made = stand.create(jobs, job(Value::Null)).await;
    assert_eq!(made["metadata"]["labels"], made["spec"]["template"]["metadata"]["labels"]);
    assert!(made["metadata"]["labels"]["batch.kubernetes.io/job-name"].is_string());
}
