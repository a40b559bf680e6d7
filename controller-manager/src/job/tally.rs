//! Counting: from a Job's status and its pods to what its status should say next. Pure.
//!
//! A finished pod is counted exactly once, across restarts of this process, in three steps that each leave a trace
//! (KEP-2307): its uid goes into `status.uncountedTerminatedPods`; then its finalizer is removed; then the uid becomes
//! one more in `status.succeeded` or `status.failed`.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec, JobStatus},
    core::v1::Pod,
};
use kube::ResourceExt;

use super::{
    indexes,
    policy::{self, Verdict},
};
use crate::common::{meta, pod};

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Pods that go into `uncountedTerminatedPods` at once: the object must not grow without limit.
const UNCOUNTED_MAX: usize = 500;

/// Why a Job ends: reason and message of its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Success { reason: String, message: String },
    Failure { reason: String, message: String },
}

/// What the pods of a Job amount to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The status to write, with counts and uncounted pods; conditions are as they were.
    pub status: JobStatus,
    pub active: Vec<Arc<Pod>>,
    pub terminating: usize,
    /// Pods whose finalizer can go once the status is written.
    pub release: Vec<Arc<Pod>>,
    /// Pods that were found finished now.
    pub new_succeeded: usize,
    pub new_failed: usize,
    /// The pod failure policy failed the Job.
    pub policy_failure: Option<String>,
    /// Of an Indexed Job.
    pub succeeded_indexes: BTreeSet<i32>,
    pub failed_indexes: BTreeSet<i32>,
    /// How often each index has failed.
    pub index_failures: BTreeMap<i32, i32>,
    pub succeeded: i32,
    pub failed: i32,
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Whether only pods that have ended are replaced and counted, not those still on their way out.
pub(super) fn waits_for_end(spec: &JobSpec) -> bool {
    spec.pod_failure_policy.is_some() || spec.pod_replacement_policy.as_deref() == Some("Failed")
}

pub(super) fn index_of(pod: &Pod) -> Option<i32> {
    pod.annotations().get(INDEX)?.parse().ok()
}

pub(super) fn has_finalizer(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// `released` are pods whose finalizer is gone though the store may still show it.
pub(super) fn tally(job: &Job, pods: &[Arc<Pod>], released: &HashSet<String>) -> Tally {
    let spec = job.spec.clone().unwrap_or_default();
    let completions = spec.completions.unwrap_or(i32::MAX);
    let mut tally = Tally { status: job.status.clone().unwrap_or_default(), ..Tally::default() };
    let status = &mut tally.status;
    if is_indexed(&spec) {
        tally.succeeded_indexes = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions);
        tally.failed_indexes = indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), completions);
    }
    let uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
    let (mut succeeded, mut failed) = (uncounted.succeeded.unwrap_or_default(), uncounted.failed.unwrap_or_default());

    // The last step for those whose finalizer is gone.
    let pending: HashSet<&str> = pods
        .iter()
        .filter(|pod| has_finalizer(pod) && !released.contains(meta::uid(pod.as_ref())))
        .map(|pod| meta::uid(pod.as_ref()))
        .collect();
    let count = |uids: &mut Vec<String>, counter: &mut Option<i32>| {
        let before = uids.len();
        uids.retain(|uid| pending.contains(uid.as_str()));
        *counter = Some(counter.unwrap_or(0) + i32::try_from(before - uids.len()).unwrap_or(0));
    };
    if is_indexed(&spec) {
        // An index succeeds once, however many of its pods do: the indexes are what is counted.
        count(&mut succeeded, &mut Some(0));
    } else {
        count(&mut succeeded, &mut status.succeeded);
    }
    count(&mut failed, &mut status.failed);

    for pod in pods {
        if pod::is_active(pod) {
            tally.active.push(pod.clone());
            continue;
        }
        tally.terminating += usize::from(pod::is_terminating(pod));
        let has_succeeded = pod::phase(pod) == "Succeeded";
        let has_failed = pod::phase(pod) == "Failed" || !has_succeeded && !waits_for_end(&spec);
        let uid = meta::uid(pod.as_ref());
        if has_failed && let Some(index) = index_of(pod) {
            let earlier = pod.annotations().get(INDEX_FAILURES).and_then(|count| count.parse().ok()).unwrap_or(0);
            let failures = tally.index_failures.entry(index).or_insert(0);
            *failures = (*failures).max(earlier + 1);
        }
        if !pending.contains(uid) || !(has_succeeded || has_failed) {
            continue;
        }
        let known = succeeded.iter().chain(&failed).any(|own| own == uid);
        if known {
            tally.release.push(pod.clone());
            continue;
        }
        if succeeded.len() + failed.len() >= UNCOUNTED_MAX {
            continue;
        }
        if has_succeeded {
            tally.new_succeeded += 1;
            let index = index_of(pod).filter(|index| (0..completions).contains(index));
            if let Some(index) = index.filter(|_| is_indexed(&spec)) {
                tally.succeeded_indexes.insert(index);
            }
            succeeded.push(uid.to_owned());
        } else {
            match policy::judge(&spec, pod) {
                // Nothing to count, only to let go.
                Verdict::Ignore => {
                    tally.release.push(pod.clone());
                    continue;
                }
                Verdict::FailJob(message) => drop(tally.policy_failure.get_or_insert(message)),
                Verdict::FailIndex => tally.failed_indexes.extend(index_of(pod)),
                Verdict::Count => {}
            }
            tally.new_failed += 1;
            failed.push(uid.to_owned());
        }
        tally.release.push(pod.clone());
    }
    if let Some(limit) = spec.backoff_limit_per_index {
        let over = tally.index_failures.iter().filter(|(_, failures)| **failures > limit).map(|(index, _)| *index);
        tally.failed_indexes.extend(over.filter(|index| !tally.succeeded_indexes.contains(index)));
    }

    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    if is_indexed(&spec) {
        tally.succeeded = number(tally.succeeded_indexes.len());
        status.succeeded = Some(tally.succeeded);
        status.completed_indexes = text(&tally.succeeded_indexes);
        if spec.backoff_limit_per_index.is_some() {
            status.failed_indexes = Some(indexes::format(&tally.failed_indexes));
        }
    } else {
        tally.succeeded = status.succeeded.unwrap_or(0) + number(succeeded.len());
    }
    tally.failed = status.failed.unwrap_or(0) + number(failed.len());
    status.active = Some(number(tally.active.len()));
    status.ready = Some(number(tally.active.iter().filter(|pod| pod::is_ready(pod)).count()));
    status.terminating = Some(number(tally.terminating));
    let list = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
    status.uncounted_terminated_pods =
        Some(k8s_openapi::api::batch::v1::UncountedTerminatedPods { succeeded: list(succeeded), failed: list(failed) });
    tally
}

fn text(set: &BTreeSet<i32>) -> Option<String> {
    (!set.is_empty()).then(|| indexes::format(set))
}

/// Whether and why the Job ends by these counts. Time limits are the caller's business.
pub(super) fn end(spec: &JobSpec, tally: &Tally) -> Option<End> {
    let failure = |reason: &str, message: String| Some(End::Failure { reason: reason.into(), message });
    if let Some(message) = &tally.policy_failure {
        return failure("PodFailurePolicy", message.clone());
    }
    if let Some(rule) = policy::success(spec, &tally.succeeded_indexes) {
        let message = format!("Matched rules at index {rule}");
        return Some(End::Success { reason: "SuccessPolicy".into(), message });
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    let restarts = restarts(spec, &tally.active);
    if tally.failed > limit || restarts.is_some_and(|count| if limit == 0 { count > 0 } else { count >= limit }) {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit".into());
    }
    let failed_indexes = i32::try_from(tally.failed_indexes.len()).unwrap_or(i32::MAX);
    if spec.max_failed_indexes.is_some_and(|max| failed_indexes > max) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return failure("MaxFailedIndexesExceeded", message.into());
    }
    let done = match spec.completions {
        Some(completions) => tally.succeeded >= completions,
        // A work queue: once one pod has succeeded, the others finish by themselves.
        None => tally.succeeded > 0 && tally.active.is_empty() && tally.terminating == 0,
    };
    if done {
        let message = "Reached expected number of succeeded pods".into();
        return Some(End::Success { reason: "CompletionsReached".into(), message });
    }
    if failed_indexes > 0 && spec.completions.is_some_and(|all| tally.succeeded + failed_indexes >= all) {
        return failure("FailedIndexes", "Job has failed indexes".into());
    }
    None
}

/// Restarts in place count as failures too; `None` where containers are not restarted.
fn restarts(spec: &JobSpec, active: &[Arc<Pod>]) -> Option<i32> {
    let policy = spec.template.spec.as_ref()?.restart_policy.as_deref();
    if policy != Some("OnFailure") {
        return None;
    }
    let statuses = active.iter().filter_map(|pod| pod.status.as_ref()).flat_map(|status| {
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten())
    });
    Some(statuses.map(|status| status.restart_count).sum())
}

/// How many pods should run now.
pub(super) fn wanted(spec: &JobSpec, tally: &Tally) -> usize {
    let parallelism = spec.parallelism.unwrap_or(1);
    let wanted = match spec.completions {
        Some(completions) => {
            let failed = i32::try_from(tally.failed_indexes.len()).unwrap_or(0);
            parallelism.min(completions - tally.succeeded - failed)
        }
        None if tally.succeeded > 0 => i32::try_from(tally.active.len()).unwrap_or(0).min(parallelism),
        None => parallelism,
    };
    usize::try_from(wanted).unwrap_or(0)
}

/// The indexes to start next, at most `count`.
pub(super) fn next_indexes(spec: &JobSpec, tally: &Tally, busy: &BTreeSet<i32>, count: usize) -> Vec<i32> {
    let free = |index: &i32| {
        !busy.contains(index) && !tally.succeeded_indexes.contains(index) && !tally.failed_indexes.contains(index)
    };
    (0..spec.completions.unwrap_or(0)).filter(free).take(count).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(spec: serde_json::Value, status: serde_json::Value) -> Job {
        let mut spec = spec;
        spec["template"] = json!({"spec": {"containers": [], "restartPolicy": "Never"}});
        serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": spec, "status": status})).unwrap()
    }

    fn pod(uid: &str, phase: &str, finalizer: bool, index: Option<i32>) -> Arc<Pod> {
        let finalizers = if finalizer { json!([FINALIZER]) } else { json!([]) };
        let mut pod =
            json!({"metadata": {"name": uid, "uid": uid, "finalizers": finalizers}, "status": {"phase": phase}});
        if let Some(index) = index {
            pod["metadata"]["annotations"] = json!({INDEX: index.to_string()});
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_finished_pod_is_counted_once_in_three_steps() {
        let none = HashSet::new();
        let spec = json!({"completions": 3, "parallelism": 1});
        let first = tally(&job(spec.clone(), json!({})), &[pod("a", "Succeeded", true, None)], &none);
        assert_eq!((first.status.succeeded, first.succeeded, first.release.len()), (Some(0), 1, 1));

        let status = serde_json::to_value(&first.status).unwrap();
        let again = tally(&job(spec.clone(), status.clone()), &[pod("a", "Succeeded", true, None)], &none);
        assert_eq!(
            (again.succeeded, again.release.len(), again.new_succeeded),
            (1, 1, 0),
            "released again if that failed"
        );

        let last = tally(&job(spec.clone(), status), &[pod("a", "Succeeded", false, None)], &none);
        assert_eq!((last.status.succeeded, last.succeeded, last.release.len()), (Some(1), 1, 0));

        let status = serde_json::to_value(&last.status).unwrap();
        let stale = tally(&job(spec, status), &[pod("a", "Succeeded", true, None)], &["a".to_owned()].into());
        assert_eq!(stale.succeeded, 1, "the store still shows the finalizer");
    }

    #[test]
    fn ends() {
        let run = |spec: serde_json::Value, pods: &[(&str, Option<i32>)]| {
            let job = job(spec, json!({}));
            let pods: Vec<_> = pods
                .iter()
                .enumerate()
                .map(|(number, (phase, index))| pod(&number.to_string(), phase, true, *index))
                .collect();
            let tally = tally(&job, &pods, &HashSet::new());
            match end(&job.spec.unwrap(), &tally) {
                None => "goes on".to_owned(),
                Some(End::Success { reason, .. } | End::Failure { reason, .. }) => reason,
            }
        };
        let (ok, bad, up) = (("Succeeded", None), ("Failed", None), ("Running", None));
        let at = |phase, index| (phase, Some(index));
        for (name, spec, pods, reason) in [
            ("not yet", json!({"completions": 2}), vec![ok, up], "goes on"),
            ("enough", json!({"completions": 2}), vec![ok, ok, bad], "CompletionsReached"),
            ("too many failures", json!({"completions": 2, "backoffLimit": 1}), vec![bad, bad], "BackoffLimitExceeded"),
            ("failures within the limit", json!({"completions": 2, "backoffLimit": 2}), vec![bad, bad], "goes on"),
            ("queue with workers", json!({"parallelism": 2}), vec![ok, up], "goes on"),
            ("queue done", json!({"parallelism": 2}), vec![ok], "CompletionsReached"),
            (
                "the same index twice is one",
                json!({"completions": 2, "completionMode": "Indexed"}),
                vec![at("Succeeded", 0), at("Succeeded", 0)],
                "goes on",
            ),
            (
                "an index has failed for good",
                json!({"completions": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 0, "backoffLimit": 100}),
                vec![at("Succeeded", 0), at("Failed", 1)],
                "FailedIndexes",
            ),
        ] {
            assert_eq!(run(spec, &pods), reason, "{name}");
        }
    }

    #[test]
    fn how_many_run() {
        let with = |spec: serde_json::Value, succeeded: i32| {
            let job = job(spec, json!({}));
            wanted(&job.spec.unwrap(), &Tally { succeeded, ..Tally::default() })
        };
        for (spec, succeeded, count) in [
            (json!({"parallelism": 3, "completions": 5}), 0, 3),
            (json!({"parallelism": 3, "completions": 5}), 4, 1),
            (json!({"parallelism": 3}), 0, 3),
            (json!({"parallelism": 3}), 1, 0),
            (json!({"completions": 5}), 0, 1),
        ] {
            assert_eq!(with(spec.clone(), succeeded), count, "{spec} after {succeeded}");
        }
    }
}
