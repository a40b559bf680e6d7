//! job-controller: runs pods until enough of them have succeeded.
//!
//! [`tally`] counts and decides (pure), [`policy`] reads the failure and success policies, [`indexes`] the texts of index
//! sets, [`pods`] makes pods. This file writes: status first, then finalizers, so that no pod is lost or counted twice.

mod backoff;
mod indexes;
mod pods;
mod policy;
mod tally;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use component_base::{
    controller::{self, Action},
    events::Type,
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use futures::{StreamExt, future, stream};
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition, JobSpec, JobStatus},
    core::v1::Pod,
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::Selector,
};
use parking_lot::Mutex;
use serde_json::json;

use self::{
    backoff::Backoff,
    tally::{End, FINALIZER, Tally},
};
use crate::{
    common::{
        Doing, Error, Result, claim,
        conditions::{self, Condition},
        expectations::Expectations,
        meta, pod,
        pod_control::{self, PodControl},
        pod_events::{self, PodOwner},
    },
    context::Context,
};

/// Pods created or deleted for one Job before it is looked at again.
const BURST_MAX: usize = 500;
const PARALLEL: usize = 8;

const COMPLETE: &str = "Complete";
const FAILED: &str = "Failed";
/// The Job will be complete when its last pods are gone.
const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
/// The Job will have failed when its last pods are gone.
const FAILURE_TARGET: &str = "FailureTarget";
const SUSPENDED: &str = "Suspended";

impl PodOwner for Job {
    fn selector(&self) -> Option<Selector> {
        meta::selector(self.spec.as_ref()?.selector.as_ref()?).ok().filter(|selector| !selector.selects_all())
    }
}

fn is_true(status: &Option<JobStatus>, kind: &str) -> bool {
    let conditions = status.as_ref().map(|status| &status.conditions);
    conditions.and_then(|conditions| conditions::get(conditions, kind)).is_some_and(|c| c.status == "True")
}

/// When the Job completed or failed; `None` if it has not.
pub fn finished_at(job: &Job) -> Option<Timestamp> {
    let conditions = &job.status.as_ref()?.conditions;
    let ended = [COMPLETE, FAILED].into_iter().find_map(|kind| conditions::get(conditions, kind));
    let ended = ended.filter(|condition| condition.status == "True")?;
    Some(ended.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0))
}

pub fn is_finished(job: &Job) -> bool {
    is_true(&job.status, COMPLETE) || is_true(&job.status, FAILED)
}

pub fn has_succeeded(job: &Job) -> bool {
    is_true(&job.status, COMPLETE)
}

pub async fn run(context: Context) {
    let controller = Controller {
        jobs: context.factory.store(Scope::all()),
        pods: context.pods(),
        control: context.pod_control("job-controller"),
        expectations: Arc::default(),
        released: Mutex::default(),
        backoff: Mutex::default(),
    };
    let queue = WorkQueue::new("job");
    pod_events::watch_owners(&controller.jobs, &queue);
    pod_events::watch(&controller.pods, &controller.jobs, &queue, &controller.expectations);
    let orphans = WorkQueue::new("job_orphan_pod");
    controller.watch_orphans(&orphans);
    tokio::join!(controller.jobs.synced(), controller.pods.synced());
    let controller = &controller;
    let workers = context.options.workers.concurrent_job_syncs;
    let work = controller::run(context.name, queue, workers, context.shutdown.clone(), |key| async move {
        controller.reconcile(&key).await
    });
    let release = controller::run(context.name, orphans, 1, context.shutdown.clone(), |key| async move {
        controller.release_orphan(&key).await
    });
    tokio::join!(work, release);
}

struct Controller {
    jobs: Store<Job>,
    pods: Store<Pod>,
    control: PodControl,
    expectations: Arc<Expectations>,
    /// Per Job: pods whose finalizer was removed though the store may still show it.
    released: Mutex<HashMap<ObjectKey, HashSet<String>>>,
    /// Per Job with failures in a row.
    backoff: Mutex<HashMap<ObjectKey, Backoff>>,
}

impl Controller {
    /// Pods of a Job that is gone must not be held by its finalizer.
    fn watch_orphans(&self, queue: &WorkQueue<ObjectKey>) {
        let (feed, jobs) = (queue.clone(), self.jobs.clone());
        self.pods.on_change(move |change| {
            if let Change::Added(pod) | Change::Updated { new: pod, .. } = change
                && is_orphan(pod, &jobs)
            {
                feed.add(change.key());
            }
        });
        let (feed, pods) = (queue.clone(), self.pods.clone());
        self.jobs.on_change(move |change| {
            if let Change::Deleted(job) = change {
                let left = pods.by_index(pod::index::CONTROLLER, meta::uid(job.as_ref()));
                left.iter().for_each(|pod| feed.add(meta::key(pod.as_ref())));
            }
        });
    }

    async fn release_orphan(&self, key: &ObjectKey) -> Result {
        match self.pods.get(key).filter(|pod| is_orphan(pod, &self.jobs)) {
            Some(pod) => self.release(&pod).await.map(|()| Action::Done),
            None => Ok(Action::Done),
        }
    }

    async fn release(&self, pod: &Pod) -> Result<()> {
        let left: Vec<_> = pod.finalizers().iter().filter(|own| *own != FINALIZER).collect();
        let patch = json!({"metadata": {
            "uid": meta::uid(pod), "resourceVersion": pod.resource_version(), "finalizers": left,
        }});
        let api = self.control.api(meta::namespace(pod));
        let patched = api.patch(meta::name(pod), &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.or_gone(|| format!("remove the finalizer of pod {}", meta::key(pod))).map(drop)
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(job) = self.jobs.get(key) else {
            self.expectations.forget(key);
            self.released.lock().remove(key);
            self.backoff.lock().remove(key);
            return Ok(Action::Done);
        };
        let spec = job.spec.clone().unwrap_or_default();
        if spec.managed_by.as_deref().is_some_and(|manager| manager != "kubernetes.io/job-controller") {
            return Ok(Action::Done);
        }
        let Some(selector) = job.selector() else {
            return Err(Error::Invalid(format!("Job {key} has no selector")));
        };
        let api: Api<Job> = Api::namespaced(self.control.client.clone(), &key.namespace);
        let mut candidates = self.pods.by_index(pod::index::CONTROLLER, meta::uid(job.as_ref()));
        candidates.extend(self.pods.by_index(pod::index::CONTROLLER, &pod::orphans(&key.namespace)));
        let settled = self.expectations.satisfied(key);
        let pods = claim::claim(&api, job.as_ref(), &selector, &self.control.api(&key.namespace), candidates).await?;

        let released = self.still_shown(key, &pods);
        let mut tally = tally::tally(&job, &pods, &released);
        if is_finished(&job) {
            self.backoff.lock().remove(key);
            // Pods that ended after the Job did are no longer counted, only let go.
            let held =
                pods.iter().filter(|pod| tally::has_finalizer(pod) && !released.contains(meta::uid(pod.as_ref())));
            self.release_all(key, held.filter(|pod| !pod::is_active(pod)).cloned().collect()).await?;
            return Ok(Action::Done);
        }
        let before = self.backoff.lock().get(key).copied().unwrap_or_default();
        let backoff = before.after(&tally.new_succeeded, &tally.new_failed);
        if tally.status.start_time.is_none() && spec.suspend != Some(true) {
            tally.status.start_time = Some(meta::now());
        }

        let end = self.end(&job, &spec, &tally);
        let mut wait = None;
        let mut failure = None;
        if let Some(end) = &end {
            note_end(&mut tally.status, end);
            if settled {
                // What is left of a Job that has failed has failed too; of one that has succeeded it never counts.
                let uncounted = matches!(end, End::Success { .. });
                failure = self.delete(key, &job, tally.active.clone(), uncounted).await.err();
            }
            let all_gone = tally.active.is_empty() && tally.terminating == 0;
            let all_counted = tally
                .status
                .uncounted_terminated_pods
                .as_ref()
                .is_none_or(|uncounted| uncounted.succeeded.is_none() && uncounted.failed.is_none());
            if all_gone && all_counted && tally.release.is_empty() {
                self.finish(&job, &mut tally.status, end);
            }
        } else if settled && !meta::is_deleting(job.as_ref()) {
            let result = if spec.suspend == Some(true) {
                self.delete(key, &job, tally.active.clone(), true).await.map(|()| None)
            } else {
                self.manage(key, &job, &spec, &tally, backoff).await
            };
            self.note_suspension(&job, &mut tally.status);
            match result {
                Ok(next) => wait = next,
                Err(error) => failure = Some(error),
            }
        }
        let release = std::mem::take(&mut tally.release);
        self.write_status(&api, &job, tally.status).await?;
        if backoff != before {
            self.backoff.lock().insert(key.clone(), backoff);
        }
        self.release_all(key, release).await?;
        if let Some(error) = failure {
            return Err(error);
        }
        let deadline = self.deadline_left(&job, &spec).filter(|_| end.is_none());
        Ok([wait, deadline].into_iter().flatten().min().map_or(Action::Done, Action::After))
    }

    /// Pods that were released and whose release the store does not show yet.
    fn still_shown(&self, key: &ObjectKey, pods: &[Arc<Pod>]) -> HashSet<String> {
        let mut released = self.released.lock();
        let Some(uids) = released.get_mut(key) else { return HashSet::new() };
        uids.retain(|uid| pods.iter().any(|pod| meta::uid(pod.as_ref()) == uid && tally::has_finalizer(pod)));
        let left = uids.clone();
        if left.is_empty() {
            released.remove(key);
        }
        left
    }

    async fn release_all(&self, key: &ObjectKey, pods: Vec<Arc<Pod>>) -> Result<()> {
        let releases = stream::iter(pods).map(|pod| async move {
            self.release(&pod).await?;
            self.released.lock().entry(key.clone()).or_default().insert(meta::uid(pod.as_ref()).to_owned());
            Ok(())
        });
        let results: Vec<Result<()>> = releases.buffer_unordered(PARALLEL).collect().await;
        Error::join(results.into_iter().filter_map(Result::err).collect())
    }

    /// Why the Job ends, if it does: what was decided before stays decided.
    fn end(&self, job: &Job, spec: &JobSpec, tally: &Tally) -> Option<End> {
        let decided = |kind: &str| {
            let condition = conditions::get(&job.status.as_ref()?.conditions, kind)?;
            (condition.status == "True").then(|| (condition.reason().to_owned(), condition.message().to_owned()))
        };
        if let Some((reason, message)) = decided(SUCCESS_CRITERIA_MET) {
            return Some(End::Success { reason, message });
        }
        if let Some((reason, message)) = decided(FAILURE_TARGET) {
            return Some(End::Failure { reason, message });
        }
        tally::end(spec, tally, self.deadline_left(job, spec).is_some_and(|left| left.is_zero()))
    }

    fn deadline_left(&self, job: &Job, spec: &JobSpec) -> Option<Duration> {
        let limit_secs = spec.active_deadline_seconds.filter(|_| spec.suspend != Some(true))?;
        let started = job.status.as_ref()?.start_time.as_ref()?;
        let left = jiff::SignedDuration::from_secs(limit_secs) - meta::since(started);
        Some(Duration::try_from(left).unwrap_or_default())
    }

    /// Says whether the Job is suspended; one that never was says nothing.
    fn note_suspension(&self, job: &Job, status: &mut JobStatus) {
        let recorder = &self.control.recorder;
        if job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true)) {
            let condition = JobCondition::new(SUSPENDED, "True", "JobSuspended", "Job suspended");
            if conditions::set(&mut status.conditions, condition) {
                recorder.event(job, Type::Normal, "Suspended", "Job suspended");
            }
        } else if is_true(&job.status, SUSPENDED) {
            let condition = JobCondition::new(SUSPENDED, "False", "JobResumed", "Job resumed");
            conditions::set(&mut status.conditions, condition);
            // The time limit counts from here.
            status.start_time = Some(meta::now());
            recorder.event(job, Type::Normal, "Resumed", "Job resumed");
        }
    }

    fn finish(&self, job: &Job, status: &mut JobStatus, end: &End) {
        let recorder = &self.control.recorder;
        match end {
            End::Success { reason, message } => {
                conditions::set(&mut status.conditions, JobCondition::new(COMPLETE, "True", reason, message));
                status.completion_time = Some(meta::now());
                let wanted = job.spec.as_ref().and_then(|spec| spec.completions);
                if wanted.is_some_and(|wanted| status.succeeded > Some(wanted)) {
                    let message = "Too many succeeded pods running after completion count reached";
                    recorder.event(job, Type::Warning, "TooManySucceededPods", message);
                }
                recorder.event(job, Type::Normal, "Completed", "Job completed");
            }
            End::Failure { reason, message } => {
                conditions::set(&mut status.conditions, JobCondition::new(FAILED, "True", reason, message));
                recorder.event(job, Type::Warning, reason, message.clone());
            }
        }
    }

    /// Brings the number of running pods to what is wanted; returns when to look again.
    async fn manage(
        &self,
        key: &ObjectKey,
        job: &Job,
        spec: &JobSpec,
        tally: &Tally,
        backoff: Backoff,
    ) -> Result<Option<Duration>> {
        let wanted = tally::wanted(spec, tally);
        let mut victims = tally::surplus(spec, &tally.active, tally.active.len().saturating_sub(wanted));
        if !victims.is_empty() {
            victims.truncate(BURST_MAX);
            self.delete(key, job, victims, true).await?;
            return Ok(None);
        }
        let busy = tally.active.len() + if tally::waits_for_end(spec) { tally.terminating } else { 0 };
        let missing = wanted.saturating_sub(busy).min(BURST_MAX);
        if missing == 0 {
            return Ok(None);
        }
        let now = Timestamp::now();
        let per_index = spec.backoff_limit_per_index.is_some();
        let left = backoff.left(now);
        if !per_index && !left.is_zero() {
            return Ok(Some(left));
        }
        if !tally::is_indexed(spec) {
            return self.create(key, job, vec![pods::plain(job, spec); missing]).await.map(|()| None);
        }
        let (mut wait, mut wanted) = (None, Vec::new());
        for index in tally::next_indexes(spec, tally, missing) {
            let replaced = tally.replaced.get(&index);
            match replaced.map(|last| tally::backoff_of(last).left(now)) {
                Some(left) if !left.is_zero() => wait = wait.into_iter().chain([left]).min(),
                _ => wanted.push(pods::indexed(job, spec, index, replaced.map(Arc::as_ref))),
            }
        }
        self.create(key, job, wanted).await.map(|()| wait)
    }

    async fn create(&self, key: &ObjectKey, job: &Job, wanted: Vec<Pod>) -> Result<()> {
        self.expectations.expect(key, wanted.len(), []);
        let pods = &wanted;
        let (created, error) = pod_control::slow_start(pods.len(), |index| async move {
            self.control.create(job, &pods[index]).await.map(drop)
        })
        .await;
        (created..pods.len()).for_each(|_| self.expectations.created(key));
        match error {
            Some(error) if !pod_control::is_namespace_terminating(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes pods; `uncounted` ones are let go first, so that they do not count as failed.
    async fn delete(&self, key: &ObjectKey, job: &Job, victims: Vec<Arc<Pod>>, uncounted: bool) -> Result<()> {
        if victims.is_empty() {
            return Ok(());
        }
        self.expectations.expect(key, 0, victims.iter().map(|pod| meta::uid(pod.as_ref()).to_owned()));
        let deletions = victims.iter().map(|pod| async move {
            let result = async {
                if uncounted && tally::has_finalizer(pod) {
                    self.release(pod).await?;
                }
                self.control.delete(job, pod).await
            }
            .await;
            if result.is_err() {
                self.expectations.deleted(key, meta::uid(pod.as_ref()));
            }
            result
        });
        let results = future::join_all(deletions).await;
        Error::join(results.into_iter().filter_map(Result::err).collect())
    }

    async fn write_status(&self, api: &Api<Job>, job: &Job, status: JobStatus) -> Result<()> {
        if job.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = job.clone();
        updated.status = Some(status);
        let what = || format!("update the status of Job {}", meta::key(job));
        api.replace_status(meta::name(job), &PostParams::default(), &updated).await.or_gone(what).map(drop)
    }
}

fn is_orphan(pod: &Pod, jobs: &Store<Job>) -> bool {
    let Some(owner) = meta::controller_of(pod).filter(|owner| owner.kind == "Job") else {
        return meta::controller_of(pod).is_none() && tally::has_finalizer(pod);
    };
    let job = jobs.get(&ObjectKey::namespaced(meta::namespace(pod), &owner.name));
    tally::has_finalizer(pod) && jobs.has_synced() && job.is_none_or(|job| meta::uid(job.as_ref()) != owner.uid)
}

fn note_end(status: &mut JobStatus, end: &End) {
    let (kind, reason, message) = match end {
        End::Success { reason, message } => (SUCCESS_CRITERIA_MET, reason, message),
        End::Failure { reason, message } => (FAILURE_TARGET, reason, message),
    };
    conditions::set(&mut status.conditions, JobCondition::new(kind, "True", reason, message));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_finished_by_condition() {
        for (kind, status, finished) in [
            ("Complete", "True", true),
            ("Failed", "True", true),
            ("Complete", "False", false),
            ("Suspended", "True", false),
        ] {
            let job: Job = serde_json::from_value(json!({
                "metadata": {}, "status": {"conditions": [{"type": kind, "status": status}]},
            }))
            .unwrap();
            assert_eq!(is_finished(&job), finished, "{kind}={status}");
            assert_eq!(finished_at(&job).is_some(), finished, "{kind}={status}");
        }
    }
}
