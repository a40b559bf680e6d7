//! What the kubelet tells of the use of its pods.

use crate::node::{TestNode, eventually};
use serde_json::{Value, json};

#[test]
fn the_summary_has_volumes_logs_and_the_disk_that_a_pod_uses() {
    if let Some(missing) = crate::node::missing() {
        eprintln!("skipped: this machine has no {missing}");
        return;
    }
    let node = TestNode::start();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"},
        "spec": {
            "hostNetwork": true, "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": "busybox:test",
                "command": ["sh", "-c", "dd if=/dev/zero of=/scratch/file bs=1024 count=2048; echo written; exec sleep 1000000"],
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "host", "mountPath": "/host"}],
            }],
            "volumes": [
                {"name": "scratch", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}},
                {"name": "labels", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"name": "host", "hostPath": {"path": "/tmp"}},
            ],
        },
    });
    node.apply("writer", &pod);
    let stats = eventually("the volume is full", || {
        let summary: Value = serde_json::from_str(&node.get("/stats/summary")?).ok()?;
        let pod = summary["pods"].as_array()?.first()?.clone();
        let scratch = pod["volume"].as_array()?.iter().find(|volume| volume["name"] == "scratch")?.clone();
        let full = scratch["usedBytes"].as_u64()? >= 2 << 20 && pod["containers"][0]["logs"]["usedBytes"].as_u64()? > 0;
        full.then_some((summary, pod))
    });
    let (summary, pod) = stats;
    let names: Vec<&str> =
        pod["volume"].as_array().expect("volumes").iter().filter_map(|v| v["name"].as_str()).collect();
    assert_eq!(names, ["labels", "memory", "scratch"], "the host's own directory is not the pod's");
    let ephemeral = pod["ephemeral-storage"]["usedBytes"].as_u64().expect("a number");
    assert!((2 << 20..64 << 20).contains(&ephemeral), "{pod}");
    for (place, field) in
        [("/node/runtime/imageFs", "capacityBytes"), ("/node/fs", "capacityBytes"), ("/node/rlimit", "maxpid")]
    {
        let found = summary.pointer(place).and_then(|stats| stats[field].as_u64());
        assert!(found.is_some_and(|number| number > 0), "{place} {summary}");
    }
    node.remove("writer");
    eventually("the pod is gone", || node.pods().is_empty().then_some(()));
}
