//! Probes while a pod comes and goes.

use crate::node::{TestNode, eventually};
use serde_json::json;

#[test]
fn readiness_is_probed_while_a_pod_terminates_so_that_clients_stay_away() {
    if let Some(missing) = crate::node::missing() {
        eprintln!("skipped: this machine has no {missing}");
        return;
    }
    let node = TestNode::start();
    let dir = tempfile::tempdir().expect("a directory");
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    let pod = |name: &str, priority: i32| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {
                "hostNetwork": true, "priority": priority, "terminationGracePeriodSeconds": 60,
                "containers": [{
                    "name": "main", "image": "busybox:test",
                    "command": ["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"],
                    "resources": {"requests": {"cpu": format!("{}m", cpus * 1000 - 100)}},
                    "volumeMounts": [{"name": "dir", "mountPath": "/dir"}],
                    "lifecycle": {"preStop": {"exec": {"command":
                        ["sh", "-c", "touch /dir/draining; while ! test -e /dir/drained; do sleep 0.1; done"]}}},
                    "readinessProbe": {
                        "exec": {"command": ["sh", "-c", "! test -e /dir/draining"]},
                        "periodSeconds": 1, "failureThreshold": 1,
                    },
                }],
                "volumes": [{"name": "dir", "hostPath": {"path": dir.path()}}],
            },
        })
    };
    node.apply("web", &pod("web", 2_000_000_000));
    eventually("the pod is ready", || node.container("web", "main").filter(|status| status["ready"] == true));
    let (own, probes) = (node.get("/metrics").expect("metrics"), node.get("/metrics/probes").expect("metrics"));
    assert!(!own.contains("prober_probe_total") && own.contains("kubelet_running_pods"), "{own}");
    assert!(probes.contains("prober_probe_total{") && !probes.contains("kubelet_"), "{probes}");
    // The other needs its place, so it has to go.
    node.apply("other", &pod("other", 2_000_001_000));
    let draining = eventually("the pod is not ready any more", || {
        node.pod("web")
            .map(|pod| pod["status"].clone())
            .filter(|status| status["containerStatuses"][0]["ready"] == false)
    });
    assert!(draining["containerStatuses"][0]["state"]["running"].is_object(), "{draining}");
    let ready = draining["conditions"].as_array().expect("conditions").iter().find(|c| c["type"] == "Ready");
    assert_eq!((&draining["phase"], &ready.expect("the condition")["status"]), (&json!("Running"), &json!("False")));
    std::fs::write(dir.path().join("drained"), "").expect("written");
    eventually("the pod has stopped", || node.pod("web").filter(|pod| pod["status"]["phase"] == "Failed"));
    node.remove("web");
    node.remove("other");
    eventually("both are gone", || node.pods().is_empty().then_some(()));
}
