//! What becomes of a pod whose sandbox dies.

use crate::node::{TestNode, eventually};
use serde_json::{Value, json};

/// A pod whose init containers and container each write a line when they start.
fn pod(name: &str, restart_policy: &str, journal: &str) -> Value {
    let step = |step: &str, then: &str| {
        json!({
            "name": step, "image": "busybox:test", "command": ["sh", "-c", format!("echo {step} >> /journal/{name}; {then}")],
            "volumeMounts": [{"name": "journal", "mountPath": "/journal"}],
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "hostNetwork": true,
            "restartPolicy": restart_policy,
            "terminationGracePeriodSeconds": 1,
            "initContainers": [step("first", "true"), step("second", "true")],
            "containers": [step("main", "exec sleep 1000000")],
            "volumes": [{"name": "journal", "hostPath": {"path": journal}}],
        },
    })
}

#[test]
fn a_pod_begins_anew_when_its_sandbox_dies_if_its_policy_lets_it() {
    if let Some(missing) = crate::node::missing() {
        eprintln!("skipped: this machine has no {missing}");
        return;
    }
    let node = TestNode::start();
    let journal = tempfile::tempdir().expect("a directory");
    let lines = |name: &str| -> Vec<String> {
        let text = std::fs::read_to_string(journal.path().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    for (name, policy) in [("always", "Always"), ("never", "Never")] {
        node.apply(name, &pod(name, policy, &journal.path().display().to_string()));
        eventually("the pod runs", || (lines(name).len() == 3).then_some(()));
        let uid = node.pod(name).expect("the pod")["metadata"]["uid"].as_str().expect("a uid").to_owned();
        node.kill_sandbox(&uid);
    }
    let again = eventually("the pod runs again", || {
        let status = node.container("always", "main")?;
        (status["restartCount"] == 1 && status["state"]["running"].is_object()).then_some(status)
    });
    assert_eq!(lines("always"), ["first", "second", "main", "first", "second", "main"]);
    assert_eq!(again["lastState"]["terminated"]["exitCode"], 137, "{again}");
    let status = node.pod("always").expect("the pod")["status"].clone();
    assert_eq!((&status["phase"], &status["initContainerStatuses"][1]["restartCount"]), (&json!("Running"), &json!(1)));

    let failed = eventually("the other has failed", || {
        node.pod("never").map(|pod| pod["status"].clone()).filter(|status| status["phase"] == "Failed")
    });
    assert_eq!(lines("never"), ["first", "second", "main"], "{failed}");
    node.remove("always");
    node.remove("never");
    eventually("both are gone", || node.pods().is_empty().then_some(()));
}
