//! ttl-controller: tells each node's kubelet how long it may go on with what it knows of Secrets and ConfigMaps, by how many
//! nodes there are: in a large cluster kubelets shall ask less often.

use component_base::{
    controller::{self, Action},
    informer::{Change, ObjectKey, Scope},
    queue::WorkQueue,
};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    common::{Doing, Result},
    context::Context,
};

/// Seconds, as a number in a text.
const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// Nodes from, nodes to, seconds. Ranges overlap, so that a cluster at an edge does not go to and fro.
const STEPS: [(usize, usize, u32); 6] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, 10_000, 300), (9000, usize::MAX, 600)];

/// The step for that many nodes, from the step there was.
fn step(mut at: usize, nodes: usize) -> usize {
    while nodes > STEPS[at].1 {
        at += 1;
    }
    while nodes < STEPS[at].0 {
        at -= 1;
    }
    at
}

pub async fn run(context: Context) {
    let nodes = context.factory.store::<Node>(Scope::all());
    let queue = WorkQueue::new("ttlcontroller");
    let feed = queue.clone();
    // A node reports often: each learns of a new step with its next report.
    nodes.on_change(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            feed.add(change.key());
        }
    });
    nodes.synced().await;
    let at = Mutex::new(0);
    let (nodes, api, at) = (&nodes, &Api::<Node>::all(context.client), &at);
    controller::run(
        context.name,
        queue,
        context.options.workers.concurrent_node_syncs,
        context.shutdown,
        |key| async move {
            let Some(node) = nodes.get(&key) else { return Ok(Action::Done) };
            let seconds = {
                let mut at = at.lock();
                *at = step(*at, nodes.len());
                STEPS[*at].2
            };
            tell(api, &key, &node, seconds).await
        },
    )
    .await;
}

async fn tell(api: &Api<Node>, key: &ObjectKey, node: &Node, seconds: u32) -> Result {
    let told = node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION));
    let seconds = seconds.to_string();
    if told != Some(&seconds) {
        let patch = Patch::Strategic(json!({"metadata": {"annotations": {ANNOTATION: seconds}}}));
        let patched = api.patch(&key.name, &PatchParams::default(), &patch).await;
        patched.or_gone(|| format!("annotate node {key} with its ttl"))?;
    }
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_overlap() {
        for (at, nodes, seconds) in [
            (0, 1, 0),
            (0, 100, 0),
            (0, 101, 15),
            (1, 95, 15),
            (1, 89, 0),
            (0, 20_000, 600),
            (5, 9000, 600),
            (5, 10, 0),
        ] {
            assert_eq!(STEPS[step(at, nodes)].2, seconds, "{at} {nodes}");
        }
    }
}
