//! How a container finds itself: its environment, its end.

use crate::node::{TestNode, eventually};
use serde_json::{Value, json};

fn pod(name: &str, container: &Value) -> Value {
    let mut container = container.clone();
    container["name"] = json!("main");
    container["image"] = json!("busybox:test");
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "hostNetwork": true, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [container],
        },
    })
}

/// How the container's only run ended.
fn ended(node: &TestNode, name: &str) -> Value {
    eventually(&format!("{name} has ended"), || {
        let status = node.container(name, "main")?;
        let over = node.pod(name)?["status"]["phase"] != "Pending";
        (over && status["state"]["terminated"].is_object()).then(|| status["state"]["terminated"].clone())
    })
}

#[test]
fn a_container_has_its_environment_and_leaves_its_last_words() {
    if let Some(missing) = crate::node::missing() {
        eprintln!("skipped: this machine has no {missing}");
        return;
    }
    let node = TestNode::start();
    let shell =
        |script: &str, policy: &str| json!({"command": ["sh", "-c", script], "terminationMessagePolicy": policy});
    node.apply(
        "env",
        &pod(
            "env",
            &json!({
                // No shell in between: most keep only names that they could have made.
                "command": ["env"],
                "env": [{"name": "data-1", "value": "value-1"}, {"name": "a.b", "value": "$(data-1)!"}],
            }),
        ),
    );
    node.apply("log", &pod("log", &shell("echo first; printf DONE; exit 1", "FallbackToLogsOnError")));
    node.apply(
        "file",
        &pod("file", &shell("echo no; printf OK > /dev/termination-log; exit 1", "FallbackToLogsOnError")),
    );
    node.apply("quiet", &pod("quiet", &shell("echo no; exit 1", "File")));
    node.apply("broken", &pod("broken", &json!({"command": ["/no/such/program"]})));

    assert_eq!(ended(&node, "env")["exitCode"], 0);
    let uid = node.pod("env").expect("the pod")["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let log = std::fs::read_to_string(node.path(&format!("logs/default_env-n1_{uid}/main/0.log"))).expect("a log");
    for line in ["data-1=value-1", "a.b=value-1!"] {
        assert!(log.lines().any(|logged| logged.ends_with(&format!(" F {line}"))), "{line} {log}");
    }
    for (name, message) in [("log", json!("first\nDONE")), ("file", json!("OK")), ("quiet", Value::Null)] {
        let ended = ended(&node, name);
        assert_eq!((&ended["message"], &ended["reason"]), (&message, &json!("Error")), "{name}");
    }
    let broken = eventually("the container that can't start is over", || {
        let pod = node.pod("broken")?["status"].clone();
        (pod["phase"] == "Failed").then(|| pod["containerStatuses"][0].clone())
    });
    let end = &broken["state"]["terminated"];
    assert_eq!((&end["exitCode"], &end["reason"]), (&json!(128), &json!("StartError")), "{broken}");
    assert_eq!(end["startedAt"], "1970-01-01T00:00:00Z");
    assert_eq!(broken["lastState"], json!({}), "{broken}");
    for name in ["env", "log", "file", "quiet", "broken"] {
        node.remove(name);
    }
    eventually("all are gone", || node.pods().is_empty().then_some(()));
}
