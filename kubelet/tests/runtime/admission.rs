//! What a node refuses, and whom it drives out.

use crate::node::{TestNode, eventually};
use serde_json::{Value, json};

/// A pod on the node's network that sleeps, with these fields in its spec and in its container.
fn pod(name: &str, spec: &Value, container: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "hostNetwork": true,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "busybox:test"}],
        },
    });
    let put = |into: &mut Value, from: &Value| {
        for (key, value) in from.as_object().into_iter().flatten() {
            into[key] = value.clone();
        }
    };
    put(&mut pod["spec"], spec);
    put(&mut pod["spec"]["containers"][0], container);
    pod
}

fn running(node: &TestNode, name: &str) -> Value {
    eventually(&format!("{name} runs"), || {
        node.container(name, "main").filter(|status| status["state"]["running"].is_object())
    })
}

fn failed(node: &TestNode, name: &str) -> Value {
    eventually(&format!("{name} has failed"), || {
        node.pod(name).map(|pod| pod["status"].clone()).filter(|status| status["phase"] == "Failed")
    })
}

#[test]
fn a_taken_host_port_fails_a_pod_and_a_restart_of_the_kubelet_fails_none_that_runs() {
    if let Some(missing) = crate::node::missing() {
        eprintln!("skipped: this machine has no {missing}");
        return;
    }
    let mut node = TestNode::start();
    let port = json!({"ports": [{"containerPort": 8080, "hostPort": 8080}]});
    node.apply("first", &pod("first", &json!({}), &port));
    running(&node, "first");
    node.apply("second", &pod("second", &json!({}), &port));
    let refused = failed(&node, "second");
    assert_eq!(refused["reason"], "NodePorts", "{refused}");
    let message =
        "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    assert_eq!(refused["message"], message);
    assert!(refused.get("containerStatuses").is_none(), "nothing was made of it: {refused}");

    // What runs was admitted when it came.
    let before = running(&node, "first");
    node.kill_kubelet();
    node.start_kubelet();
    let after = running(&node, "first");
    assert_eq!(before["containerID"], after["containerID"]);
    failed(&node, "second");

    // The same pod again, once the port is free, is another pod.
    node.remove("first");
    node.remove("second");
    eventually("both are gone", || node.pods().is_empty().then_some(()));
    node.apply("second", &pod("second", &json!({}), &port));
    running(&node, "second");
    node.remove("second");
    eventually("it is gone", || node.pods().is_empty().then_some(()));
}

#[test]
fn a_critical_pod_starts_once_those_in_its_way_have_stopped() {
    if let Some(missing) = crate::node::missing() {
        eprintln!("skipped: this machine has no {missing}");
        return;
    }
    let node = TestNode::start();
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    let most = json!({"resources": {"requests": {"cpu": format!("{}m", cpus * 1000 - 100)}}});
    node.apply("low", &pod("low", &json!({"priority": 2_000_000_000}), &most));
    running(&node, "low");
    node.apply("high", &pod("high", &json!({"priority": 2_000_001_000}), &most));
    running(&node, "high");
    let preempted = failed(&node, "low");
    assert_eq!(preempted["reason"], "Preempting", "{preempted}");
    assert_eq!(preempted["message"], "Preempted in order to admit critical pod");
    let conditions = preempted["conditions"].as_array().expect("conditions");
    let disrupted = conditions.iter().find(|condition| condition["type"] == "DisruptionTarget").expect("the condition");
    assert_eq!((&disrupted["status"], &disrupted["reason"]), (&json!("True"), &json!("TerminationByKubelet")));
    let metrics = node.get("/metrics").expect("metrics");
    assert!(metrics.contains("kubelet_preemptions{preemption_signal=\"cpu\"} 1"), "{metrics}");

    // Of two that are worth the same, the one that is there stays.
    node.apply("equal", &pod("equal", &json!({"priority": 2_000_001_000}), &most));
    assert_eq!(failed(&node, "equal")["reason"], "UnexpectedAdmissionError");
    for name in ["low", "high", "equal"] {
        node.remove(name);
    }
    eventually("all are gone", || node.pods().is_empty().then_some(()));
}
