//! Counting: from a Job's status and its pods to what its status should say next. Pure.
//!
//! A finished pod is counted exactly once, across restarts of this process, in three steps that each leave a trace
//! (KEP-2307): its uid goes into `status.uncountedTerminatedPods`; then its finalizer is removed; then the uid becomes
//! one more in `status.succeeded` or `status.failed`.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec, JobStatus},
    core::v1::{Pod, PodSpec},
};
use kube::ResourceExt;

use super::{
    FAILURE_TARGET, SUCCESS_CRITERIA_MET,
    backoff::{self, Backoff},
    indexes, is_true,
    policy::{self, Verdict},
};
use crate::common::{meta, pod};

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const INDEX_IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
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
    /// When the pods finished that were found finished now.
    pub new_succeeded: Vec<Timestamp>,
    pub new_failed: Vec<Timestamp>,
    /// The pod failure policy failed the Job.
    pub policy_failure: Option<String>,
    /// Restarts in place, of all pods that have not finished.
    pub restarts: i32,
    /// Of an Indexed Job.
    pub succeeded_indexes: BTreeSet<i32>,
    pub failed_indexes: BTreeSet<i32>,
    /// Indexes that have a pod, or whose pod is not yet gone where that is waited for.
    pub busy_indexes: BTreeSet<i32>,
    /// With a backoff limit per index: the last failed pod of each index that needs another. It keeps its finalizer until
    /// there is one, because it carries the number of failures.
    pub replaced: BTreeMap<i32, Arc<Pod>>,
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

/// Whether a pod has failed for its Job. Where ends are not waited for, being deleted is failure enough: such a pod may be
/// an orphan that never reaches the phase.
pub(super) fn is_failed(spec: &JobSpec, pod: &Pod) -> bool {
    pod::phase(pod) == "Failed" || !waits_for_end(spec) && pod::is_terminating(pod)
}

/// How often the index of a pod had failed before it: failures that count, and those that the policy ignored.
pub(super) fn earlier_failures(pod: &Pod) -> (i32, i32) {
    let count = |name| pod.annotations().get(name).and_then(|count| count.parse().ok()).unwrap_or(0);
    (count(INDEX_FAILURES), count(INDEX_IGNORED_FAILURES))
}

/// How long another pod has to wait for the index of a failed one.
pub(super) fn backoff_of(failed: &Pod) -> Backoff {
    let (counted, ignored) = earlier_failures(failed);
    let failures = u32::try_from(counted.saturating_add(ignored).saturating_add(1)).unwrap_or(0);
    Backoff { failures, last: backoff::finished_at(failed) }
}

/// `released` are pods whose finalizer is gone though the store may still show it.
pub(super) fn tally(job: &Job, pods: &[Arc<Pod>], released: &HashSet<String>) -> Tally {
    let spec = job.spec.clone().unwrap_or_default();
    let indexed = is_indexed(&spec);
    let completions = spec.completions.unwrap_or(i32::MAX);
    let valid_index = |pod: &Pod| index_of(pod).filter(|index| indexed && (0..completions).contains(index));
    let mut tally = Tally { status: job.status.clone().unwrap_or_default(), ..Tally::default() };
    let status = &mut tally.status;
    if indexed {
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
    if indexed {
        // An index succeeds once, however many of its pods do: the indexes are what is counted.
        count(&mut succeeded, &mut Some(0));
    } else {
        count(&mut succeeded, &mut status.succeeded);
    }
    count(&mut failed, &mut status.failed);

    // Once the end is decided, all pods are let go; those that a failed Job had left have failed with it.
    let failing = is_true(&job.status, FAILURE_TARGET);
    let letting_go = failing || is_true(&job.status, SUCCESS_CRITERIA_MET) || meta::is_deleting(job);
    for pod in pods {
        let held = pending.contains(meta::uid(pod.as_ref()));
        if pod::is_active(pod) {
            tally.active.push(pod.clone());
            tally.busy_indexes.extend(index_of(pod));
        } else if pod::is_terminating(pod) {
            tally.terminating += 1;
            tally.busy_indexes.extend(index_of(pod).filter(|_| waits_for_end(&spec)));
        }
        if held && pod::phase(pod) == "Succeeded" {
            tally.succeeded_indexes.extend(valid_index(pod));
        }
        if held && is_failed(&spec, pod) {
            tally.failed_indexes.extend(valid_index(pod).filter(|_| fails_index(&spec, pod)));
        }
        tally.restarts += restarts(pod);
    }
    let held = |pod: &Arc<Pod>| pending.contains(meta::uid(pod.as_ref()));
    if spec.backoff_limit_per_index.is_some() && !letting_go {
        for pod in pods.iter().filter(|pod| held(pod) && is_failed(&spec, pod)) {
            let needs_another = |index: &i32| {
                !tally.succeeded_indexes.contains(index)
                    && !tally.failed_indexes.contains(index)
                    && !tally.active.iter().any(|active| index_of(active) == Some(*index))
            };
            let Some(index) = valid_index(pod).filter(needs_another) else { continue };
            let rank = |pod: &Pod| {
                let (counted, ignored) = earlier_failures(pod);
                (counted + ignored, backoff::finished_at(pod))
            };
            if tally.replaced.get(&index).is_none_or(|last| rank(last) <= rank(pod)) {
                tally.replaced.insert(index, pod.clone());
            }
        }
    }

    // Failed, and counted as soon as another pod knows about it.
    let mut delayed = 0;
    for pod in pods.iter().filter(|pod| held(pod)) {
        let uid = meta::uid(pod.as_ref());
        let has_succeeded = pod::phase(pod) == "Succeeded";
        let has_failed = is_failed(&spec, pod) || failing && pod::is_terminating(pod);
        if !has_succeeded && !has_failed {
            if letting_go && (pod::is_terminating(pod) || meta::is_deleting(job)) {
                tally.release.push(pod.clone());
            }
            continue;
        }
        let known = succeeded.iter().chain(&failed).any(|own| own == uid);
        let countable = !indexed || valid_index(pod).is_some();
        let verdict = policy::match_pod_failure_policy(&spec, pod);
        if let Verdict::FailJob(message) = &verdict
            && has_failed
        {
            tally.policy_failure.get_or_insert_with(|| message.clone());
        }
        if !known && countable {
            let times = if has_succeeded { &mut tally.new_succeeded } else { &mut tally.new_failed };
            times.push(backoff::finished_at(pod));
        }
        let counts = !known && countable && (has_succeeded || verdict != Verdict::Ignore);
        if tally.replaced.values().any(|last| meta::uid(last.as_ref()) == uid) {
            delayed += i32::from(counts);
            continue;
        }
        if counts {
            if succeeded.len() + failed.len() >= UNCOUNTED_MAX {
                continue;
            }
            if has_succeeded { succeeded.push(uid.to_owned()) } else { failed.push(uid.to_owned()) }
        }
        tally.release.push(pod.clone());
    }

    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    if indexed {
        tally.succeeded = number(tally.succeeded_indexes.len());
        status.succeeded = Some(tally.succeeded);
        status.completed_indexes = text(&tally.succeeded_indexes);
        if spec.backoff_limit_per_index.is_some() {
            status.failed_indexes = Some(indexes::format(&tally.failed_indexes));
        }
    } else {
        tally.succeeded = status.succeeded.unwrap_or(0) + number(succeeded.len());
    }
    tally.failed = status.failed.unwrap_or(0) + number(failed.len()) + delayed;
    status.active = Some(number(tally.active.len()));
    status.ready = Some(number(tally.active.iter().filter(|pod| pod::is_ready(pod)).count()));
    status.terminating = Some(number(tally.terminating));
    let list = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
    status.uncounted_terminated_pods =
        Some(k8s_openapi::api::batch::v1::UncountedTerminatedPods { succeeded: list(succeeded), failed: list(failed) });
    tally
}

/// Whether this failed pod was its index's last chance.
fn fails_index(spec: &JobSpec, pod: &Pod) -> bool {
    let Some(limit) = spec.backoff_limit_per_index else { return false };
    match policy::match_pod_failure_policy(spec, pod) {
        Verdict::FailIndex => true,
        Verdict::Ignore => false,
        Verdict::Count | Verdict::FailJob(_) => earlier_failures(pod).0 >= limit,
    }
}

fn text(set: &BTreeSet<i32>) -> Option<String> {
    (!set.is_empty()).then(|| indexes::format(set))
}

/// Whether and why the Job ends by these counts, and `too_late` if its time is over. The first of upstream's checks that
/// says so decides.
pub(super) fn end(spec: &JobSpec, tally: &Tally, too_late: bool) -> Option<End> {
    let failure = |reason: &str, message: &str| Some(End::Failure { reason: reason.into(), message: message.into() });
    if let Some(message) = &tally.policy_failure {
        return failure("PodFailurePolicy", message);
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    let restarted = |template: &PodSpec| template.restart_policy.as_deref() == Some("OnFailure");
    let too_many_restarts = spec.template.spec.as_ref().is_some_and(restarted)
        && if limit == 0 { tally.restarts > 0 } else { tally.restarts >= limit };
    if tally.failed > limit || too_many_restarts {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if too_late {
        return failure("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    let failed_indexes = i32::try_from(tally.failed_indexes.len()).unwrap_or(i32::MAX);
    if spec.max_failed_indexes.is_some_and(|max| failed_indexes > max) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return failure("MaxFailedIndexesExceeded", message);
    }
    if failed_indexes > 0 && spec.completions.is_some_and(|all| tally.succeeded + failed_indexes >= all) {
        return failure("FailedIndexes", "Job has failed indexes");
    }
    if let Some(rule) = policy::success(spec, &tally.succeeded_indexes) {
        let message = format!("Matched rules at index {rule}");
        return Some(End::Success { reason: "SuccessPolicy".into(), message });
    }
    let enough = match spec.completions {
        Some(completions) => tally.succeeded >= completions,
        // A work queue: once one pod has succeeded, the others finish by themselves.
        None => tally.succeeded > 0,
    };
    (enough && tally.active.is_empty()).then(|| End::Success {
        reason: "CompletionsReached".into(),
        message: "Reached expected number of succeeded pods".into(),
    })
}

/// How often containers of a pod that has not finished were started again.
fn restarts(pod: &Pod) -> i32 {
    if !matches!(pod::phase(pod), "Running" | "Pending") {
        return 0;
    }
    let statuses = pod.status.iter().flat_map(|status| {
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten())
    });
    statuses.map(|status| status.restart_count).sum()
}

/// Which active pods are too many if `count` of them are: of an Indexed Job also those without a valid index, and all but the
/// one of an index that is furthest.
pub(super) fn surplus(spec: &JobSpec, active: &[Arc<Pod>], count: usize) -> Vec<Arc<Pod>> {
    let mut furthest_last = active.to_vec();
    furthest_last.sort_by_key(|pod| {
        let phase = match pod::phase(pod) {
            "Pending" => 0,
            "Running" => 2,
            _ => 1,
        };
        let newest_first = std::cmp::Reverse(meta::created(pod.as_ref()));
        (!pod::node_name(pod).is_empty(), phase, pod::is_ready(pod), newest_first)
    });
    let mut victims = Vec::new();
    if is_indexed(spec) {
        let mut taken = BTreeSet::new();
        let mut kept = Vec::new();
        while let Some(pod) = furthest_last.pop() {
            let index = index_of(&pod).filter(|index| (0..spec.completions.unwrap_or(0)).contains(index));
            let list = if index.is_some_and(|index| taken.insert(index)) { &mut kept } else { &mut victims };
            list.push(pod);
        }
        kept.reverse();
        furthest_last = kept;
    }
    let missing = count.saturating_sub(victims.len()).min(furthest_last.len());
    victims.extend(furthest_last.drain(..missing));
    victims
}

/// How many pods should run now.
pub(super) fn wanted(spec: &JobSpec, tally: &Tally) -> usize {
    let parallelism = spec.parallelism.unwrap_or(1);
    let wanted = match spec.completions {
        Some(completions) => parallelism.min(completions - tally.succeeded),
        None if tally.succeeded > 0 => i32::try_from(tally.active.len()).unwrap_or(i32::MAX),
        None => parallelism,
    };
    usize::try_from(wanted).unwrap_or(0)
}

/// The indexes to start next, at most `count`.
pub(super) fn next_indexes(spec: &JobSpec, tally: &Tally, count: usize) -> Vec<i32> {
    let free = |index: &i32| {
        !tally.busy_indexes.contains(index)
            && !tally.succeeded_indexes.contains(index)
            && !tally.failed_indexes.contains(index)
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
            (again.succeeded, again.release.len(), again.new_succeeded.len()),
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
            match end(&job.spec.unwrap(), &tally, false) {
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

    /// A pod of index 0 with this phase, annotations and conditions, on its way out or not.
    fn pod_of_index(uid: &str, phase: &str, deleting: bool, annotations: serde_json::Value, target: bool) -> Arc<Pod> {
        let mut pod = serde_json::to_value(pod(uid, phase, true, Some(0)).as_ref()).unwrap();
        for (name, value) in annotations.as_object().unwrap() {
            pod["metadata"]["annotations"][name] = value.clone();
        }
        if deleting {
            pod["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
        }
        if target {
            pod["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True"}]);
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_disrupted_pod_is_waited_for_ignored_and_let_go() {
        let spec = json!({"completions": 1, "backoffLimit": 0, "podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}});
        let job = job(spec, json!({}));
        for (phase, target, terminating, failed, released) in
            [("Running", true, 1, 0, 0), ("Failed", true, 0, 0, 1), ("Failed", false, 0, 1, 1)]
        {
            let pods = [pod_of_index("a", phase, true, json!({}), target)];
            let tally = tally(&job, &pods, &HashSet::new());
            let found = (tally.terminating, tally.failed, tally.release.len());
            assert_eq!(found, (terminating, failed, released), "{phase} {target}");
            let ends = end(job.spec.as_ref().unwrap(), &tally, false).is_some();
            assert_eq!(ends, failed > 0, "{phase} {target}");
        }
    }

    #[test]
    fn what_is_left_of_a_job_that_ends_fails_with_it_or_does_not_count() {
        let spec = json!({"completions": 2, "podReplacementPolicy": "Failed"});
        for (condition, failed, released) in
            [(None, 0, 0), (Some("FailureTarget"), 1, 1), (Some("SuccessCriteriaMet"), 0, 1)]
        {
            let conditions: Vec<_> = condition.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
            let job = job(spec.clone(), json!({"conditions": conditions}));
            let pods = [pod_of_index("a", "Running", true, json!({}), false)];
            let tally = tally(&job, &pods, &HashSet::new());
            assert_eq!((tally.failed, tally.release.len()), (failed, released), "{condition:?}");
        }
    }

    #[test]
    fn the_last_failed_pod_of_an_index_stays_until_another_knows_its_failures() {
        let spec = json!({"completions": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 2, "backoffLimit": 100,
            "podFailurePolicy": {"rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}});
        let job = job(spec, json!({}));
        let (first, second) = (json!({}), json!({INDEX_FAILURES: "1"}));
        let (third, ignored) =
            (json!({INDEX_FAILURES: "2"}), json!({INDEX_FAILURES: "1", INDEX_IGNORED_FAILURES: "1"}));
        let a =
            |annotations: &serde_json::Value, target| pod_of_index("a", "Failed", false, annotations.clone(), target);
        let b = |phase, annotations: &serde_json::Value| pod_of_index("b", phase, false, annotations.clone(), false);
        for (name, pods, replaced, released, failed, failed_indexes) in [
            ("one failure", vec![a(&first, false)], Some("a"), 0, 1, 0),
            ("replaced", vec![a(&first, false), b("Running", &second)], None, 1, 1, 0),
            ("two failures", vec![a(&first, false), b("Failed", &second)], Some("b"), 1, 2, 0),
            ("too many", vec![a(&third, false)], None, 1, 1, 1),
            ("an ignored failure carries the count too", vec![a(&second, true)], Some("a"), 0, 0, 0),
            ("ignored ones do not fail an index", vec![a(&third, true)], Some("a"), 0, 0, 0),
            ("ignored and counted", vec![a(&ignored, false)], Some("a"), 0, 1, 0),
        ] {
            let tally = tally(&job, &pods, &HashSet::new());
            assert_eq!(tally.replaced.get(&0).map(|pod| pod.name_any()).as_deref(), replaced, "{name}");
            let found = (tally.release.len(), tally.failed, tally.failed_indexes.len());
            assert_eq!(found, (released, failed, failed_indexes), "{name}");
        }
        assert_eq!(backoff_of(&a(&ignored, false)).failures, 3);
    }

    #[test]
    fn too_many_are_the_least_advanced_and_those_of_no_index() {
        let job = |spec: serde_json::Value| job(spec, json!({})).spec.unwrap();
        let plain = job(json!({}));
        let indexed = job(json!({"completions": 2, "completionMode": "Indexed"}));
        let names = |pods: Vec<Arc<Pod>>| pods.iter().map(|pod| pod.name_any()).collect::<Vec<_>>();
        let pods = [
            pod("a", "Running", true, Some(0)),
            pod("b", "Pending", true, Some(0)),
            pod("c", "Running", true, Some(7)),
        ];
        assert_eq!(names(surplus(&plain, &pods, 0)), [""; 0]);
        assert_eq!(names(surplus(&plain, &pods, 1)), ["b"]);
        let mut victims = names(surplus(&indexed, &pods, 0));
        victims.sort();
        assert_eq!(victims, ["b", "c"]);
    }

    #[test]
    fn the_first_check_decides() {
        let spec = |restart_policy: &str, limit: i32| -> JobSpec {
            serde_json::from_value(json!({"completions": 1, "backoffLimit": limit,
                "template": {"spec": {"containers": [], "restartPolicy": restart_policy}}}))
            .unwrap()
        };
        let done = || Tally { succeeded: 1, ..Tally::default() };
        for (name, spec, tally, too_late, reason) in [
            ("done", spec("Never", 6), done(), false, "CompletionsReached"),
            ("done too late", spec("Never", 6), done(), true, "DeadlineExceeded"),
            ("restarts", spec("OnFailure", 2), Tally { restarts: 2, ..done() }, false, "BackoffLimitExceeded"),
            ("few restarts", spec("OnFailure", 2), Tally { restarts: 1, ..done() }, false, "CompletionsReached"),
            ("none allowed", spec("OnFailure", 0), Tally { restarts: 1, ..done() }, true, "BackoffLimitExceeded"),
            ("not counted", spec("Never", 0), Tally { restarts: 9, ..done() }, false, "CompletionsReached"),
        ] {
            let found = end(&spec, &tally, too_late).map(|end| match end {
                End::Success { reason, .. } | End::Failure { reason, .. } => reason,
            });
            assert_eq!(found.as_deref(), Some(reason), "{name}");
        }
    }
}
