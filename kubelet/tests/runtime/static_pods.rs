//! The life of static pods.

use std::fs;

use crate::node::{TestNode, eventually};
use serde_json::{Value, json};

/// A pod on the node's network whose container ends when a file appears in its volume.
fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "kube-system"},
        "spec": {
            "hostNetwork": true,
            "terminationGracePeriodSeconds": 1,
            "initContainers": [{
                "name": "init", "image": "busybox:test", "command": ["sh", "-c", "echo made > /data/init"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "containers": [{
                "name": "main", "image": "busybox:test",
                "command": ["sh", "-c", "cat /data/init; while ! test -e /data/end; do sleep 0.1; done; exit 3"],
                "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "readinessProbe": {"exec": {"command": ["cat", "/data/init"]}, "periodSeconds": 1},
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    })
}

#[test]
fn a_static_pod_runs_survives_the_kubelet_restarts_and_leaves_nothing_behind() {
    if let Some(missing) = crate::node::missing() {
        eprintln!("skipped: this machine has no {missing}");
        return;
    }
    let mut node = TestNode::start();
    node.apply("web", &pod());
    let ready = |node: &TestNode| node.container("web", "main").filter(|status| status["ready"] == true);
    let first = eventually("the pod is ready", || ready(&node));
    let found = node.pod("web").expect("the pod");
    let uid = found["metadata"]["uid"].as_str().expect("a uid").to_owned();
    assert_eq!(found["status"]["phase"], "Running");
    assert_eq!(found["status"]["qosClass"], "Burstable");
    assert_eq!(found["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
    let log = fs::read_to_string(node.path(&format!("logs/kube-system_web-n1_{uid}/main/0.log"))).expect("a log");
    assert!(log.trim_end().ends_with("stdout F made"), "{log}");

    // A kubelet that was killed finds its pod again and touches nothing.
    let before = node.containers();
    node.kill_kubelet();
    node.start_kubelet();
    let adopted = eventually("the pod is adopted", || ready(&node));
    assert_eq!((&adopted["containerID"], &adopted["restartCount"]), (&first["containerID"], &json!(0)));
    assert_eq!(node.containers(), before);

    // A container that ends is started again.
    let data = node.path(&format!("root/pods/{uid}/volumes/kubernetes.io~empty-dir/data"));
    fs::write(data.join("end"), "").expect("written");
    let ended = eventually("the container has ended", || {
        let status = node.container("web", "main")?;
        (status["restartCount"].as_u64()? >= 1).then_some(status)
    });
    assert_eq!(ended["lastState"]["terminated"]["exitCode"], 3, "{ended}");

    // Without its manifest the pod goes, with all it had.
    node.remove("web");
    eventually("the pod is gone", || node.pods().is_empty().then_some(()));
    assert_eq!(node.containers(), Vec::<String>::new());
    assert!(!node.path(&format!("root/pods/{uid}")).exists());
    assert!(!node.has_pod_cgroup(&uid));
}

#[test]
fn without_a_network_only_pods_on_the_nodes_own_run() {
    if let Some(missing) = crate::node::missing() {
        eprintln!("skipped: this machine has no {missing}");
        return;
    }
    let node = TestNode::start();
    node.apply("host", &pod_named("host", true));
    node.apply("networked", &pod_named("networked", false));
    eventually("the pod on the node's network runs", || {
        node.container("host", "main").filter(|status| status["state"]["running"].is_object())
    });
    let waiting = node.container("networked", "main").expect("a status");
    assert_eq!(waiting["state"]["waiting"]["reason"], "ContainerCreating", "{waiting}");
    node.remove("host");
    node.remove("networked");
    eventually("both are gone", || node.pods().is_empty().then_some(()));
}

fn pod_named(name: &str, host_network: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "hostNetwork": host_network,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "busybox:test"}],
        },
    })
}
