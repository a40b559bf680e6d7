//! Owners and what they own: orphaned, deleted after them, deleted before them.

use crate::{Stand, cluster, namespace, pod};
use serde_json::{Value, json};

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

/// A controller of `replicas` pods that are there already.
async fn replication_controller(stand: &Stand, core: &str, name: &str, replicas: usize) -> Value {
    let spec = json!({"replicas": replicas, "selector": {"app": "a"}, "template": template()});
    let made = stand
        .create(&format!("{core}/replicationcontrollers"), json!({"metadata": {"name": name}, "spec": spec}))
        .await;
    stand.until(&format!("{core}/replicationcontrollers/{name}"), |_, rc| rc["status"]["replicas"] == replicas).await;
    made
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

fn propagate(policy: &str) -> Value {
    json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy})
}

/// Lets pods be deleted only when the test says so.
async fn hold(stand: &Stand, core: &str) {
    for pod in items(&stand.get(&format!("{core}/pods")).await) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        stand.merge(&format!("{core}/pods/{name}"), json!({"metadata": {"finalizers": ["example.com/hold"]}})).await;
    }
}

async fn release(stand: &Stand, core: &str) {
    for pod in items(&stand.get(&format!("{core}/pods")).await) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        stand.merge(&format!("{core}/pods/{name}"), json!({"metadata": {"finalizers": null}})).await;
    }
}

#[tokio::test]
async fn pods_of_a_replication_controller_go_or_stay_as_told() {
    let stand = cluster().await;
    let core = namespace(&stand, "controllers").await;
    let (pods, rc) = (format!("{core}/pods"), format!("{core}/replicationcontrollers/rc"));

    replication_controller(&stand, &core, "rc", 2).await;
    stand.delete(&rc, propagate("Background")).await;
    stand.until_gone(&rc).await;
    stand.until(&pods, |_, list| items(list).is_empty()).await;

    replication_controller(&stand, &core, "rc", 2).await;
    hold(&stand, &core).await;
    stand.delete(&rc, propagate("Foreground")).await;
    let waiting =
        stand.until(&pods, |_, l| items(l).iter().all(|p| p["metadata"]["deletionTimestamp"].is_string())).await;
    assert_eq!(items(&waiting).len(), 2);
    let owner = stand.get(&rc).await;
    assert_eq!(owner["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    release(&stand, &core).await;
    stand.until(&pods, |_, list| items(list).is_empty()).await;
    stand.until_gone(&rc).await;

    replication_controller(&stand, &core, "rc", 2).await;
    stand.delete(&rc, propagate("Orphan")).await;
    stand.until_gone(&rc).await;
    let orphans = stand.get(&pods).await;
    assert_eq!(items(&orphans).len(), 2);
    for pod in items(&orphans) {
        assert!(
            pod["metadata"]["ownerReferences"].is_null() && pod["metadata"]["deletionTimestamp"].is_null(),
            "{pod}"
        );
    }
}

#[tokio::test]
async fn replica_sets_of_a_deployment_go_or_stay_as_told() {
    let stand = cluster().await;
    let core = namespace(&stand, "deployments").await;
    let apps = core.replace("/api/v1", "/apis/apps/v1");
    let (sets, deployment) = (format!("{apps}/replicasets"), format!("{apps}/deployments/d"));
    for policy in ["Background", "Orphan"] {
        let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": "a"}}, "template": template()});
        stand.create(&format!("{apps}/deployments"), json!({"metadata": {"name": "d"}, "spec": spec})).await;
        stand.until(&sets, |_, list| items(list).first().is_some_and(|set| set["status"]["replicas"] == 2)).await;
        stand.delete(&deployment, propagate(policy)).await;
        stand.until_gone(&deployment).await;
        if policy == "Orphan" {
            let left = stand.get(&sets).await;
            assert_eq!(items(&left).len(), 1);
            assert!(items(&left)[0]["metadata"]["ownerReferences"].is_null(), "{left}");
            assert_eq!(items(&stand.get(&format!("{core}/pods")).await).len(), 2);
        } else {
            stand.until(&sets, |_, list| items(list).is_empty()).await;
            stand.until(&format!("{core}/pods"), |_, list| items(list).is_empty()).await;
        }
    }
}

#[tokio::test]
async fn what_another_owner_still_wants_stays() {
    let stand = cluster().await;
    let core = namespace(&stand, "owners").await;
    let first = format!("{core}/replicationcontrollers/first");
    replication_controller(&stand, &core, "first", 4).await;
    // One that makes no pods of its own.
    let idle = json!({"replicas": 0, "selector": {"app": "b"}, "template": {"metadata": {"labels": {"app": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let second = stand
        .create(&format!("{core}/replicationcontrollers"), json!({"metadata": {"name": "second"}, "spec": idle}))
        .await;
    let pods = stand.get(&format!("{core}/pods")).await;
    let mut kept = Vec::new();
    for pod in items(&pods).iter().take(2) {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let mut owners = pod["metadata"]["ownerReferences"].as_array().unwrap().clone();
        owners.push(json!({"apiVersion": "v1", "kind": "ReplicationController", "name": "second", "uid": second["metadata"]["uid"]}));
        stand.merge(&format!("{core}/pods/{name}"), json!({"metadata": {"ownerReferences": owners}})).await;
        kept.push(name);
    }
    kept.sort();
    stand.delete(&first, propagate("Foreground")).await;
    stand.until_gone(&first).await;
    let left = stand.get(&format!("{core}/pods")).await;
    let mut names: Vec<&str> = items(&left).iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, kept);
    for pod in items(&left) {
        assert!(pod["metadata"]["deletionTimestamp"].is_null());
        assert_eq!(pod["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
        assert_eq!(pod["metadata"]["ownerReferences"][0]["name"], "second");
    }
}

#[tokio::test]
async fn a_circle_of_owners_and_an_owner_elsewhere_hold_nothing() {
    let stand = cluster().await;
    let core = namespace(&stand, "circle").await;
    let pods = format!("{core}/pods");
    let mut uids = Vec::new();
    for name in ["pod1", "pod2", "pod3"] {
        uids.push(stand.create(&pods, pod(name, json!({}))).await["metadata"]["uid"].clone());
    }
    let owner = |name: &str, uid: &Value| {
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid,
            "controller": true, "blockOwnerDeletion": true}]}})
    };
    for (name, of, uid) in [("pod1", "pod3", &uids[2]), ("pod2", "pod1", &uids[0]), ("pod3", "pod2", &uids[1])] {
        stand.merge(&format!("{pods}/{name}"), owner(of, uid)).await;
    }
    stand.delete(&format!("{pods}/pod1"), propagate("Foreground")).await;
    stand.until(&pods, |_, list| items(list).is_empty()).await;

    // An owner is looked for in the namespace of what names it. (KEP-kubernetes/92743)
    let other = namespace(&stand, "elsewhere").await;
    let map = stand.create(&format!("{core}/configmaps"), json!({"metadata": {"name": "owner"}})).await;
    let mut owned = owner("owner", &map["metadata"]["uid"]);
    owned["metadata"]["name"] = "owned".into();
    owned["metadata"]["ownerReferences"][0]["kind"] = "ConfigMap".into();
    stand.create(&format!("{other}/configmaps"), owned).await;
    stand.until_gone(&format!("{other}/configmaps/owned")).await;
    stand.get(&format!("{core}/configmaps/owner")).await;
}
