//! The order in which old pods give way to new ones.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod};
use kube::ResourceExt;

use super::{
    HASH_LABEL, Plan, View,
    eligibility::{self, Verdict},
};
use crate::common::{
    int_or_percent::{Round, resolve},
    meta, pod,
};

pub(super) fn is_rolling(set: &DaemonSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()?.type_.as_deref());
    strategy != Some("OnDelete")
}

pub(super) fn min_ready_secs(set: &DaemonSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

/// How many nodes may have two pods, and how many may have none that is available.
fn bounds(set: &DaemonSet, desired: i32) -> (usize, usize) {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let update = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let share = |value: Option<i32>| usize::try_from(value.unwrap_or(0)).unwrap_or(0);
    let surge = update.and_then(|update| resolve(update.max_surge.as_ref()?, desired, Round::Up));
    let unavailable = match update.and_then(|update| update.max_unavailable.as_ref()) {
        Some(value) => resolve(value, desired, Round::Up),
        None => Some(1),
    };
    match (share(surge), share(unavailable)) {
        // It could never move.
        (0, 0) => (0, 1),
        both => both,
    }
}

pub(super) fn is_updated(view: &View, pod: &Pod) -> bool {
    pod.labels().get(HASH_LABEL) == Some(&view.hash)
}

fn is_available(view: &View, pod: &Pod) -> bool {
    !meta::is_deleting(pod) && pod::is_available(pod, min_ready_secs(&view.set), view.now)
}

fn desired(view: &View) -> i32 {
    let wanted = view.nodes.iter().filter(|node| eligibility::node_should_run(&view.set, node) == Verdict::Run).count();
    i32::try_from(wanted).unwrap_or(i32::MAX)
}

type Pair<'a> = (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>);

/// The new and the old pod of a node; `None` if there are several of one sort: those are tended to first.
fn pair<'a>(view: &View, pods: &'a [Arc<Pod>]) -> Option<Pair<'a>> {
    let (mut new, mut old) = (None, None);
    for pod in pods.iter().filter(|pod| !meta::is_deleting(pod.as_ref())) {
        let slot = if is_updated(view, pod) { &mut new } else { &mut old };
        if slot.replace(pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

/// The next step of a rolling update.
pub(super) fn plan(view: &View) -> Plan {
    let (surge, unavailable) = bounds(&view.set, desired(view));
    if surge > 0 { with_surge(view, surge) } else { in_place(view, unavailable) }
}

/// Old pods are deleted while not too many nodes are without an available one; `manage` makes the new ones.
fn in_place(view: &View, unavailable_max: usize) -> Plan {
    let (mut unavailable, mut broken, mut working) = (0, Vec::new(), Vec::new());
    for pods in view.by_node.values() {
        match pair(view, pods) {
            // Several, or none yet.
            None | Some((None, None)) => unavailable += 1,
            Some((Some(new), _)) => unavailable += usize::from(!is_available(view, new)),
            Some((None, Some(old))) if is_available(view, old) => working.push(old.clone()),
            // It serves nobody: to replace it costs nothing.
            Some((None, Some(old))) => {
                unavailable += 1;
                broken.push(old.clone());
            }
        }
    }
    working.truncate(unavailable_max.saturating_sub(unavailable));
    broken.append(&mut working);
    Plan { create_on: Vec::new(), delete: broken }
}

/// New pods come beside old ones; an old one goes when the new one is available.
fn with_surge(view: &View, surge_max: usize) -> Plan {
    let (mut surging, mut urgent, mut candidates, mut delete) = (0, Vec::new(), Vec::new(), Vec::new());
    for node in &view.nodes {
        let name = meta::name(node.as_ref());
        let Some(pods) = view.by_node.get(name) else { continue };
        match pair(view, pods) {
            Some((None, Some(old))) if eligibility::node_should_run(&view.set, node) == Verdict::Run => {
                if is_available(view, old) { candidates.push(name.to_owned()) } else { urgent.push(name.to_owned()) }
            }
            Some((Some(new), Some(old))) => {
                if is_available(view, new) {
                    delete.push(old.clone())
                } else {
                    surging += 1
                }
            }
            _ => {}
        }
    }
    candidates.truncate(surge_max.saturating_sub(surging));
    urgent.append(&mut candidates);
    Plan { create_on: urgent, delete }
}

/// Of several running pods of one node, those that must go.
pub(super) fn superfluous(view: &View, mut running: Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
    if running.len() < 2 {
        return Vec::new();
    }
    // Bound ones before those still waiting, then the oldest.
    running.sort_by_cached_key(|pod| {
        (pod::node_name(pod).is_empty(), meta::created(pod.as_ref()), meta::name(pod.as_ref()).to_owned())
    });
    let (surge, _) = bounds(&view.set, desired(view));
    if surge == 0 || !is_rolling(&view.set) {
        return running.split_off(1);
    }
    // The oldest of each sort; the old one goes once the new one is available.
    let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| is_updated(view, pod));
    let replaced = new.first().is_some_and(|new| is_available(view, new));
    let kept_old = usize::from(!replaced);
    new.into_iter().skip(1).chain(old.into_iter().skip(kept_old)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::Node;
    use serde_json::json;

    use super::*;

    /// A pod of a node: 'N'ew or 'O'ld and available, lower case if not.
    fn pod(node: &str, letter: char) -> Arc<Pod> {
        let hash = if letter.eq_ignore_ascii_case(&'n') { "new" } else { "old" };
        let ready = if letter.is_ascii_uppercase() { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("{node}-{letter}"), "labels": {HASH_LABEL: hash}},
                "spec": {"nodeName": node, "containers": []},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap(),
        )
    }

    fn view(nodes: &[&str], strategy: serde_json::Value) -> View {
        let set: DaemonSet = serde_json::from_value(json!({"metadata": {}, "spec": {
            "selector": {}, "template": {"spec": {"containers": []}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": strategy},
        }}))
        .unwrap();
        let name = |index: usize| format!("n{index}");
        View {
            set: Arc::new(set),
            hash: "new".into(),
            nodes: (0..nodes.len())
                .map(|index| {
                    let node: Node = serde_json::from_value(json!({"metadata": {"name": name(index)}})).unwrap();
                    Arc::new(node)
                })
                .collect(),
            by_node: nodes
                .iter()
                .enumerate()
                .map(|(index, letters)| (name(index), letters.chars().map(|c| pod(&name(index), c)).collect()))
                .collect::<BTreeMap<_, _>>(),
            now: Timestamp::now(),
        }
    }

    #[test]
    fn steps_of_an_update() {
        let unavailable = |count: serde_json::Value| json!({"maxUnavailable": count});
        let surge = |count: serde_json::Value| json!({"maxSurge": count, "maxUnavailable": 0});
        for (name, nodes, strategy, deleted, created) in [
            ("one at a time", &["O", "O", "O"][..], unavailable(json!(1)), &["n0-O"][..], &[][..]),
            ("wait for the new one", &["n", "O", "O"], unavailable(json!(1)), &[], &[]),
            ("go on", &["N", "O", "O"], unavailable(json!(1)), &["n1-O"], &[]),
            ("broken ones at once", &["o", "o", "O"], unavailable(json!(1)), &["n0-o", "n1-o"], &[]),
            ("by percentage", &["O", "O", "O", "O"], unavailable(json!("50%")), &["n0-O", "n1-O"], &[]),
            ("one above", &["O", "O"], surge(json!(1)), &[], &["n0"]),
            ("the new one is not up", &["On", "O"], surge(json!(1)), &[], &[]),
            ("the new one is up", &["ON", "O"], surge(json!(1)), &["n0-O"], &["n1"]),
            ("broken ones need no surge", &["o", "o"], surge(json!(1)), &[], &["n0", "n1"]),
        ] {
            let plan = plan(&view(nodes, strategy));
            let names: Vec<_> = plan.delete.iter().map(|pod| meta::name(pod.as_ref())).collect();
            assert_eq!(names, deleted, "{name}");
            assert_eq!(plan.create_on, created, "{name}");
        }
    }

    #[test]
    fn of_several_pods_the_oldest_stays() {
        for (name, pods, strategy, deleted) in [
            ("one", "O", json!({}), &[][..]),
            ("two", "ON", json!({"maxUnavailable": 1}), &["n0-O"][..]),
            ("surging", "On", json!({"maxSurge": 1, "maxUnavailable": 0}), &[]),
            ("surged", "ON", json!({"maxSurge": 1, "maxUnavailable": 0}), &["n0-O"]),
        ] {
            let view = view(&[pods], strategy);
            let names: Vec<_> = superfluous(&view, view.by_node["n0"].clone())
                .iter()
                .map(|pod| meta::name(pod.as_ref()).to_owned())
                .collect();
            // Of equal age, the name decides.
            assert_eq!(names.len(), deleted.len(), "{name}: {names:?}");
        }
    }
}
