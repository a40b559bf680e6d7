//! The next steps of a StatefulSet. Pure.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus},
    core::v1::Pod,
};
use kube::ResourceExt;

use super::identity::{self, REVISION_LABEL};
use crate::common::{
    int_or_percent::{Round, resolve},
    meta, pod,
};

/// What is done next.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create {
        ordinal: i32,
        revision: String,
    },
    /// A finished pod makes room for one of its name.
    Replace(Arc<Pod>),
    Delete(Arc<Pod>),
}

/// A StatefulSet in one reconcile.
pub(super) struct View {
    wanted: Range<i32>,
    pods: BTreeMap<i32, Arc<Pod>>,
    pub current_revision: String,
    pub update_revision: String,
    pub now: Timestamp,
    /// One after the other.
    ordered: bool,
    rolling: bool,
    /// Ordinals below stay at the current revision.
    partition: i32,
    max_unavailable: usize,
    min_ready_secs: i32,
    generation: Option<i64>,
    /// Pods that were at the current revision when the status was written.
    current_replicas: i32,
}

impl View {
    pub fn new(
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        pods: Vec<Arc<Pod>>,
        current_revision: String,
        update_revision: String,
        now: Timestamp,
    ) -> Self {
        let first = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let unavailable =
            rolling.and_then(|rolling| resolve(rolling.max_unavailable.as_ref()?, replicas, Round::Up)).unwrap_or(1);
        let ordinal = |pod: &Arc<Pod>| identity::ordinal(set, meta::name(pod.as_ref()));
        Self {
            wanted: first..first.saturating_add(replicas),
            pods: pods.into_iter().filter_map(|pod| Some((ordinal(&pod)?, pod))).collect(),
            current_revision,
            update_revision,
            now,
            ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
            rolling: strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete"),
            partition: rolling.and_then(|rolling| rolling.partition).unwrap_or(0),
            max_unavailable: usize::try_from(unavailable).unwrap_or(1).max(1),
            min_ready_secs: spec.min_ready_seconds.unwrap_or(0),
            generation: set.metadata.generation,
            current_replicas: set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0),
        }
    }

    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values()
    }

    pub fn by_ordinal(&self) -> impl Iterator<Item = (i32, &Arc<Pod>)> {
        self.pods.iter().map(|(ordinal, pod)| (*ordinal, pod))
    }

    pub fn is_wanted(&self, ordinal: i32) -> bool {
        self.wanted.contains(&ordinal)
    }

    fn is_running_and_ready(&self, pod: &Pod) -> bool {
        pod::phase(pod) == "Running" && pod::is_ready(pod)
    }

    /// Running, available, and not on its way out.
    fn is_healthy(&self, pod: &Pod) -> bool {
        self.is_running_and_ready(pod)
            && pod::is_available(pod, self.min_ready_secs, self.now)
            && !meta::is_deleting(pod)
    }

    /// The revision that a new pod of this ordinal gets.
    fn revision_for(&self, ordinal: i32) -> &String {
        let held_back = self.rolling
            && (ordinal < self.wanted.start.saturating_add(self.partition)
                || self.partition == 0 && ordinal < self.wanted.start.saturating_add(self.current_replicas));
        if held_back { &self.current_revision } else { &self.update_revision }
    }
}

pub(super) fn revision(pod: &Pod) -> Option<&String> {
    pod.labels().get(REVISION_LABEL)
}

/// At most `max` steps: of an ordered set one at a time, and none while a pod that comes before is not healthy.
pub(super) fn steps(view: &View, max: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for ordinal in view.wanted.clone() {
        if steps.len() >= max {
            return steps;
        }
        let Some(pod) = view.pods.get(&ordinal) else {
            steps.push(Step::Create { ordinal, revision: view.revision_for(ordinal).clone() });
            if view.ordered {
                return steps;
            }
            continue;
        };
        if pod::is_terminal(pod) && !meta::is_deleting(pod.as_ref()) {
            steps.push(Step::Replace(pod.clone()));
            if view.ordered {
                return steps;
            }
            continue;
        }
        if view.ordered && !view.is_healthy(pod) {
            return broken_update(view, ordinal, pod);
        }
    }
    scale_down(view, max, &mut steps);
    if steps.is_empty() && view.rolling && !view.pods.keys().any(|ordinal| !view.is_wanted(*ordinal)) {
        roll(view, &mut steps);
    }
    steps
}

/// An ordered set waits for a pod that is not healthy. If it cannot become so because it is of an older revision than
/// it should be, waiting would never end: the update goes on with it, highest first, as the rolling update would.
fn broken_update(view: &View, ordinal: i32, pod: &Arc<Pod>) -> Vec<Step> {
    let started = pod::phase(pod) == "Running" || !pod::node_name(pod).is_empty();
    let outdated = revision(pod) != Some(&view.update_revision) && revision(pod) != Some(&view.current_revision);
    let may = view.rolling && ordinal >= view.wanted.start.saturating_add(view.partition);
    if may && outdated && started && !meta::is_deleting(pod.as_ref()) {
        vec![Step::Delete(pod.clone())]
    } else {
        Vec::new()
    }
}

/// Pods beyond what is wanted, the highest first.
fn scale_down(view: &View, max: usize, steps: &mut Vec<Step>) {
    let unhealthy = view.pods.values().find(|pod| !view.is_healthy(pod)).map(|pod| meta::name(pod.as_ref()));
    for (_, pod) in view.pods.iter().rev().filter(|(ordinal, _)| !view.is_wanted(**ordinal)) {
        if steps.len() >= max {
            return;
        }
        if meta::is_deleting(pod.as_ref()) {
            if view.ordered {
                return;
            }
            continue;
        }
        // An ordered set does not shrink while another pod is in trouble.
        let may = !view.ordered || view.is_healthy(pod) || unhealthy == Some(meta::name(pod.as_ref()));
        if !may {
            return;
        }
        steps.push(Step::Delete(pod.clone()));
        if view.ordered {
            return;
        }
    }
}

/// From the highest ordinal down to the partition: outdated pods go while enough others are healthy.
fn roll(view: &View, steps: &mut Vec<Step>) {
    let mut unavailable =
        view.wanted.clone().filter(|ordinal| view.pods.get(ordinal).is_none_or(|pod| !view.is_healthy(pod))).count();
    for ordinal in view.wanted.clone().rev() {
        if ordinal < view.wanted.start.saturating_add(view.partition) {
            return;
        }
        let Some(pod) = view.pods.get(&ordinal) else { continue };
        let outdated = revision(pod) != Some(&view.update_revision);
        if !outdated || meta::is_deleting(pod.as_ref()) {
            if !view.is_healthy(pod) && view.max_unavailable == 1 {
                return;
            }
            continue;
        }
        let healthy = view.is_healthy(pod);
        if healthy && unavailable >= view.max_unavailable {
            return;
        }
        unavailable += usize::from(healthy);
        steps.push(Step::Delete(pod.clone()));
        if view.max_unavailable == 1 {
            return;
        }
    }
}

/// The status that `view` makes of `before`.
pub(super) fn status(view: &View, before: StatefulSetStatus) -> StatefulSetStatus {
    let count = |test: &dyn Fn(&Pod) -> bool| -> i32 {
        i32::try_from(view.pods.values().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let created = |pod: &Pod| !pod::phase(pod).is_empty();
    let of = |wanted: &String| count(&|pod| created(pod) && !meta::is_deleting(pod) && revision(pod) == Some(wanted));
    let ready = count(&|pod| view.is_running_and_ready(pod));
    let available =
        count(&|pod| view.is_running_and_ready(pod) && pod::is_available(pod, view.min_ready_secs, view.now));
    let updated = of(&view.update_revision);
    let replicas = count(&created);
    let wanted = i32::try_from(view.wanted.len()).unwrap_or(i32::MAX);
    let complete = view.rolling && updated == replicas && ready == replicas && replicas == wanted;
    let (current_revision, current) = if complete {
        (view.update_revision.clone(), updated)
    } else {
        (view.current_revision.clone(), of(&view.current_revision))
    };
    StatefulSetStatus {
        observed_generation: view.generation,
        replicas,
        ready_replicas: Some(ready),
        available_replicas: Some(available),
        current_replicas: Some(current),
        updated_replicas: Some(updated),
        current_revision: Some(current_revision),
        update_revision: Some(view.update_revision.clone()),
        collision_count: Some(before.collision_count.unwrap_or(0)),
        ..before
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// One letter per ordinal: `N`ew or `O`ld and ready, lower case if not, `F`ailed, `x` being deleted, `.` missing.
    fn view(letters: &str, spec: serde_json::Value) -> View {
        let mut all = json!({"replicas": 3, "selector": {}, "serviceName": "s", "template": {}});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let set: StatefulSet =
            serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": all, "status": {"replicas": 0}}))
                .unwrap();
        let pods = letters.chars().enumerate().filter(|(_, letter)| *letter != '.').map(|(ordinal, letter)| {
            let revision = if letter.eq_ignore_ascii_case(&'o') { "old" } else { "new" };
            let ready = if letter.is_ascii_uppercase() { "True" } else { "False" };
            let mut pod = json!({
                "metadata": {"name": format!("db-{ordinal}"), "labels": {REVISION_LABEL: revision}},
                "status": {
                    "phase": if letter == 'F' { "Failed" } else { "Running" },
                    "conditions": [{"type": "Ready", "status": ready}],
                },
            });
            if letter == 'x' {
                pod["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
            }
            Arc::new(serde_json::from_value(pod).unwrap())
        });
        let spec = set.spec.clone().unwrap();
        View::new(&set, &spec, pods.collect(), "old".into(), "new".into(), Timestamp::now())
    }

    fn told(steps: Vec<Step>) -> Vec<String> {
        let tell = |step| match step {
            Step::Create { ordinal, revision } => format!("create {ordinal} {revision}"),
            Step::Replace(pod) => format!("replace {}", pod.name_any()),
            Step::Delete(pod) => format!("delete {}", pod.name_any()),
        };
        steps.into_iter().map(tell).collect()
    }

    #[test]
    fn the_next_steps() {
        let partition = |partition: i32| json!({"updateStrategy": {"rollingUpdate": {"partition": partition}}});
        for (name, letters, spec, expected) in [
            ("the first", "...", json!({}), vec!["create 0 new"]),
            ("the next waits for the one before", "n..", json!({}), vec![]),
            ("the next", "N..", json!({}), vec!["create 1 new"]),
            (
                "all at once",
                "...",
                json!({"podManagementPolicy": "Parallel"}),
                vec!["create 0 new", "create 1 new", "create 2 new"],
            ),
            ("a failed one is replaced", "NFN", json!({}), vec!["replace db-1"]),
            ("down from the top", "NNNNN", json!({}), vec!["delete db-4"]),
            ("one after the other", "NNNNx", json!({}), vec![]),
            (
                "down all at once",
                "NNNNN",
                json!({"podManagementPolicy": "Parallel"}),
                vec!["delete db-4", "delete db-3"],
            ),
            ("an update begins at the top", "OOO", json!({}), vec!["delete db-2"]),
            ("and goes on when that is ready", "OON", json!({}), vec!["delete db-1"]),
            ("but not before", "OOn", json!({}), vec![]),
            ("not below the partition", "OON", partition(2), vec![]),
            ("not on deletion only", "OOO", json!({"updateStrategy": {"type": "OnDelete"}}), vec![]),
            ("held back below the partition", ".ON", partition(2), vec!["create 0 old"]),
            (
                "two at a time",
                "OOO",
                json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}}}),
                vec!["delete db-2", "delete db-1"],
            ),
            ("ordinals may start later", "....", json!({"ordinals": {"start": 2}}), vec!["create 2 new"]),
        ] {
            assert_eq!(told(steps(&view(letters, spec), 10)), expected, "{name}");
        }
    }

    #[test]
    fn the_update_is_complete_when_all_are_new_and_ready() {
        for (letters, current, updated, ready, revision) in
            [("OON", 2, 1, 3, "old"), ("NNN", 3, 3, 3, "new"), ("NNn", 0, 3, 2, "old")]
        {
            let status = status(&view(letters, json!({})), StatefulSetStatus::default());
            assert_eq!(status.current_revision.as_deref(), Some(revision), "{letters}");
            let counts = (status.current_replicas, status.updated_replicas, status.ready_replicas);
            assert_eq!(counts, (Some(current), Some(updated), Some(ready)), "{letters}");
        }
    }
}
