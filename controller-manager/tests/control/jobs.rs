//! Jobs whose pods are disrupted.

use crate::{Stand, cluster, namespace};
use serde_json::{Value, json};

/// The pods of a Job that are not on their way out.
async fn running(stand: &Stand, core: &str, not: &str) -> String {
    let is_new = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && pod["metadata"]["name"] != not;
    let fresh = |list: &Value| {
        let pods = list["items"].as_array().into_iter().flatten();
        pods.filter(is_new).map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).next()
    };
    let list = stand.until(&format!("{core}/pods"), |_, list| fresh(list).is_some()).await;
    fresh(&list).unwrap()
}

#[tokio::test]
async fn a_pod_that_is_evicted_is_ignored_and_replaced_where_the_policy_says_so() {
    let stand = cluster().await;
    let core = namespace(&stand, "jobs").await;
    let batch = core.replace("/api/v1", "/apis/batch/v1");
    stand.create("/api/v1/nodes", json!({"metadata": {"name": "n"}})).await;
    let spec = json!({"completions": 1, "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]},
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
    stand.create(&format!("{batch}/jobs"), json!({"metadata": {"name": "j"}, "spec": spec})).await;

    let first = running(&stand, &core, "").await;
    let path = format!("{core}/pods/{first}");
    let binding = json!({"metadata": {"name": first}, "target": {"kind": "Node", "name": "n"}});
    stand.create(&format!("{path}/binding"), binding).await;
    stand.merge(&format!("{path}/status"), json!({"status": {"phase": "Running"}})).await;
    stand.create(&format!("{path}/eviction"), json!({"metadata": {"name": first}})).await;
    let evicted = stand.get(&path).await;
    assert!(evicted["metadata"]["deletionTimestamp"].is_string());

    // As long as it may still run, no other pod takes its place.
    let job = format!("{batch}/jobs/j");
    let waiting = stand.until(&job, |_, job| job["status"]["terminating"] == 1).await;
    assert_eq!(waiting["status"]["active"], Value::Null, "{waiting}");
    // The kubelet's last words, which keep the API server's, and its deletion.
    let target = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"});
    // It ended long ago, so that another need not wait.
    let ended = json!({"type": "Ready", "status": "False", "lastTransitionTime": "2024-01-01T00:00:00Z"});
    stand.merge(&format!("{path}/status"), json!({"status": {"phase": "Failed", "conditions": [target, ended]}})).await;
    stand.delete(&path, json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})).await;
    stand.until_gone(&path).await;

    let second = running(&stand, &core, &first).await;
    stand.merge(&format!("{core}/pods/{second}/status"), json!({"status": {"phase": "Succeeded"}})).await;
    let is_true = |job: &Value, kind: &str| {
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|c| c["type"] == kind && c["status"] == "True")
    };
    let done = stand.until(&job, |_, job| is_true(job, "Complete")).await;
    assert!(is_true(&done, "SuccessCriteriaMet"), "{done}");
    assert_eq!((&done["status"]["failed"], &done["status"]["succeeded"]), (&Value::Null, &json!(1)), "{done}");
}
