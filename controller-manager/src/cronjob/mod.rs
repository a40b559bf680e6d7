//! cronjob-controller: makes a Job at each time of a schedule.
//!
//! [`schedule`] is when; this file is what then happens, and the history that is kept.

mod schedule;

use std::{sync::Arc, time::Duration};

use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams},
};

use self::schedule::Schedule;
use crate::{
    common::{Doing, Error, Result, meta, pod_control},
    context::Context,
    job,
};

/// Jobs by the uid of their CronJob.
const BY_OWNER: &str = "cronjob";
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Clocks are not exact: a little after the time it is surely over.
const SLACK: Duration = Duration::from_millis(100);

pub async fn run(context: Context) {
    let controller = Controller {
        cron_jobs: context.factory.store(Scope::all()),
        jobs: context.factory.store(Scope::all()),
        client: context.client.clone(),
        recorder: context.recorder("cronjob-controller"),
    };
    controller.jobs.add_index(BY_OWNER, |job| {
        let owner = meta::controller_of(job).filter(|owner| owner.kind == "CronJob");
        owner.map(|owner| owner.uid.clone()).into_iter().collect()
    });
    let queue = WorkQueue::new("cronjob");
    let feed = queue.clone();
    controller.cron_jobs.on_change(move |change| feed.add(change.key()));
    let feed = queue.clone();
    controller.jobs.on_change(move |change| {
        let Some(job) = change.object() else { return };
        if let Some(owner) = meta::controller_of(job.as_ref()).filter(|owner| owner.kind == "CronJob") {
            feed.add(ObjectKey::namespaced(meta::namespace(job.as_ref()), &owner.name));
        }
    });
    tokio::join!(controller.cron_jobs.synced(), controller.jobs.synced());
    let controller = &controller;
    let workers = context.options.workers.concurrent_cron_job_syncs;
    controller::run(
        context.name,
        queue,
        workers,
        context.shutdown,
        |key| async move { controller.reconcile(&key).await },
    )
    .await;
}

struct Controller {
    cron_jobs: Store<CronJob>,
    jobs: Store<Job>,
    client: Client,
    recorder: Recorder,
}

impl Controller {
    fn api(&self, namespace: &str) -> Api<Job> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(cron_job) = self.cron_jobs.get(key) else { return Ok(Action::Done) };
        let spec = cron_job.spec.clone().unwrap_or_default();
        let jobs = self.jobs.by_index(BY_OWNER, meta::uid(cron_job.as_ref()));
        let mut status = cron_job.status.clone().unwrap_or_default();
        self.update_active(&cron_job, &jobs, &mut status).await?;
        self.clean_up(&cron_job, &spec, &jobs).await?;
        let next = if meta::is_deleting(cron_job.as_ref()) || spec.suspend == Some(true) {
            Ok(Action::Done)
        } else {
            self.start_due(&cron_job, &spec, &jobs, &mut status).await
        };
        if status != cron_job.status.clone().unwrap_or_default() {
            let mut updated = CronJob::clone(&cron_job);
            updated.status = Some(status);
            let api: Api<CronJob> = Api::namespaced(self.client.clone(), &key.namespace);
            let what = || format!("update the status of CronJob {key}");
            api.replace_status(&key.name, &PostParams::default(), &updated).await.or_gone(what)?;
        }
        next
    }

    /// Takes finished and lost Jobs off the list of active ones.
    async fn update_active(&self, cron_job: &CronJob, jobs: &[Arc<Job>], status: &mut CronJobStatus) -> Result<()> {
        let mut active = status.active.take().unwrap_or_default();
        for job in jobs {
            let listed = active.iter().position(|reference| reference.uid == job.metadata.uid);
            let name = job.name_any();
            match (listed, job::is_finished(job)) {
                (Some(index), true) => {
                    active.remove(index);
                    let outcome = if job::has_succeeded(job) { "Complete" } else { "Failed" };
                    let message = format!("Saw completed job: {name}, condition: {outcome}");
                    self.recorder.event(cron_job, Type::Normal, "SawCompletedJob", message);
                }
                (None, false) => {
                    let message = format!("Saw a job that the controller did not create or forgot: {name}");
                    self.recorder.event(cron_job, Type::Warning, "UnexpectedJob", message);
                }
                _ => {}
            }
            let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
            if job::has_succeeded(job) && completed > status.last_successful_time {
                status.last_successful_time = completed;
            }
        }
        let mut kept = Vec::with_capacity(active.len());
        for reference in active {
            let shown = jobs.iter().any(|job| job.metadata.uid == reference.uid);
            if shown || self.exists(cron_job, &reference).await? {
                kept.push(reference);
            } else {
                let name = reference.name.as_deref().unwrap_or_default();
                let message = format!("Active job went missing: {name}");
                self.recorder.event(cron_job, Type::Normal, "MissingJob", message);
            }
        }
        status.active = (!kept.is_empty()).then_some(kept);
        Ok(())
    }

    /// A Job that was just made may not be in the store yet.
    async fn exists(&self, cron_job: &CronJob, reference: &ObjectReference) -> Result<bool> {
        let name = reference.name.as_deref().unwrap_or_default();
        let found = self.api(meta::namespace(cron_job)).get_metadata_opt(name).await;
        let found = found.doing(|| format!("read Job {name}"))?;
        Ok(found.is_some_and(|job| job.metadata.uid == reference.uid))
    }

    /// Deletes the oldest finished Jobs beyond the limits.
    async fn clean_up(&self, cron_job: &CronJob, spec: &CronJobSpec, jobs: &[Arc<Job>]) -> Result<()> {
        let mut errors = Vec::new();
        for (succeeded, limit) in [
            (true, spec.successful_jobs_history_limit.unwrap_or(3)),
            (false, spec.failed_jobs_history_limit.unwrap_or(1)),
        ] {
            let finished = jobs.iter().filter(|job| job::is_finished(job) && !meta::is_deleting(job.as_ref()));
            let mut own: Vec<_> = finished.filter(|job| job::has_succeeded(job) == succeeded).collect();
            own.sort_by_cached_key(|job| {
                (job.status.as_ref().and_then(|status| status.start_time.clone()), job.name_any())
            });
            let surplus = own.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for job in &own[..surplus] {
                errors.extend(self.delete(cron_job, &job.name_any()).await.err());
            }
        }
        Error::join(errors)
    }

    async fn delete(&self, cron_job: &CronJob, name: &str) -> Result<()> {
        let api = self.api(meta::namespace(cron_job));
        let deleted = api.delete(name, &DeleteParams::background()).await.or_gone(|| format!("delete Job {name}"))?;
        if deleted.is_some() {
            self.recorder.event(cron_job, Type::Normal, "SuccessfulDelete", format!("Deleted job {name}"));
        }
        Ok(())
    }

    /// Starts the run that is due, and says when the next one is.
    async fn start_due(
        &self,
        cron_job: &CronJob,
        spec: &CronJobSpec,
        jobs: &[Arc<Job>],
        status: &mut CronJobStatus,
    ) -> Result {
        // A mistake in the object is told, and not tried again until it changes.
        let zone = match schedule::zone(spec.time_zone.as_deref()) {
            Ok(zone) => zone,
            Err(error) => {
                self.recorder.event(cron_job, Type::Warning, "UnknownTimeZone", format!("invalid timeZone: {error}"));
                return Ok(Action::Done);
            }
        };
        let schedule = match Schedule::parse(&spec.schedule) {
            Ok(schedule) => schedule,
            Err(error) => {
                let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
                self.recorder.event(cron_job, Type::Warning, "UnparseableSchedule", message);
                return Ok(Action::Done);
            }
        };
        let now = Timestamp::now();
        let again = schedule.next(now, &zone).map_or(Action::Done, |next| {
            Action::After(Duration::try_from(next.duration_since(now)).unwrap_or_default() + SLACK)
        });
        let Some(due) = schedule.due(earliest(cron_job, spec, status, now), now, &zone) else { return Ok(again) };
        if due.missed > schedule::MISSED_MANY {
            let message =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.recorder.event(cron_job, Type::Warning, "TooManyMissedTimes", message);
        }
        let name = job_name(cron_job, due.at);
        if status.last_schedule_time.as_ref().is_some_and(|last| last.0 == due.at)
            || jobs.iter().any(|job| job.name_any() == name)
        {
            return Ok(again);
        }
        let active = status.active.clone().unwrap_or_default();
        match spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.recorder.event(cron_job, Type::Normal, "JobAlreadyActive", message);
                return Ok(again);
            }
            Some("Replace") => {
                for reference in &active {
                    self.delete(cron_job, reference.name.as_deref().unwrap_or_default()).await?;
                }
                status.active = None;
            }
            _ => {}
        }
        let job = describe(cron_job, spec, due.at, &zone);
        let created = self.api(meta::namespace(cron_job)).create(&PostParams::default(), &job).await;
        match created.doing(|| format!("create Job {name}")) {
            Ok(job) => {
                self.recorder.event(cron_job, Type::Normal, "SuccessfulCreate", format!("Created job {name}"));
                status.active.get_or_insert_default().push(job.object_ref(&()));
            }
            // Ours from before a restart, or it comes to light as unexpected.
            Err(error) if error.code() == Some(409) => {}
            Err(error) if pod_control::is_namespace_terminating(&error) => return Ok(Action::Done),
            Err(error) => {
                let message = format!("Error creating job: {}", error.reason());
                self.recorder.event(cron_job, Type::Warning, "FailedCreate", message);
                return Err(error);
            }
        }
        status.last_schedule_time = Some(Time(due.at));
        Ok(again)
    }
}

/// From when on runs can be due: the last one, the CronJob's creation, and no longer ago than the deadline.
fn earliest(cron_job: &CronJob, spec: &CronJobSpec, status: &CronJobStatus, now: Timestamp) -> Timestamp {
    let last = status.last_schedule_time.as_ref().map(|time| time.0);
    let since = last.unwrap_or_else(|| meta::created(cron_job));
    match spec.starting_deadline_seconds {
        Some(secs) => since.max(now.checked_sub(SignedDuration::from_secs(secs)).unwrap_or(since)),
        None => since,
    }
}

/// By the minute of the run, so that a run makes one Job however often it is tried.
fn job_name(cron_job: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", cron_job.name_any(), at.as_second() / 60)
}

fn describe(cron_job: &CronJob, spec: &CronJobSpec, at: Timestamp, zone: &TimeZone) -> Job {
    let template = &spec.job_template;
    let meta = template.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let local = at.to_zoned(zone.clone());
    let offset = if local.offset().is_zero() { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%:z" };
    annotations.insert(SCHEDULED_AT.into(), local.strftime(offset).to_string());
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(cron_job, at)),
            namespace: cron_job.namespace(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![meta::controller_ref(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_has_one_name_and_tells_its_time() {
        let cron_job: CronJob = serde_json::from_value(json!({
            "metadata": {"name": "backup", "namespace": "default", "uid": "u"},
            "spec": {"schedule": "@daily", "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}},
        }))
        .unwrap();
        let at: Timestamp = "2024-07-01T07:00:00Z".parse().unwrap();
        for (zone, text) in [("UTC", "2024-07-01T07:00:00Z"), ("Europe/Berlin", "2024-07-01T09:00:00+02:00")] {
            let zone = schedule::zone(Some(zone)).unwrap();
            let job = describe(&cron_job, cron_job.spec.as_ref().unwrap(), at, &zone);
            assert_eq!(job.name_any(), "backup-28663620");
            assert_eq!(job.annotations()[SCHEDULED_AT], text);
            assert_eq!(job.labels()["a"], "b");
        }
    }

    #[test]
    fn nothing_older_than_the_deadline_is_due() {
        let now: Timestamp = "2024-01-01T10:00:00Z".parse().unwrap();
        let created = json!({"creationTimestamp": "2024-01-01T00:00:00Z"});
        for (last, deadline, expected) in [
            (None, None, "2024-01-01T00:00:00Z"),
            (Some("2024-01-01T09:00:00Z"), None, "2024-01-01T09:00:00Z"),
            (Some("2024-01-01T09:00:00Z"), Some(60), "2024-01-01T09:59:00Z"),
            (Some("2024-01-01T09:59:30Z"), Some(60), "2024-01-01T09:59:30Z"),
        ] {
            let cron_job: CronJob = serde_json::from_value(json!({
                "metadata": created, "status": {"lastScheduleTime": last},
                "spec": {"schedule": "@hourly", "startingDeadlineSeconds": deadline, "jobTemplate": {}},
            }))
            .unwrap();
            let found = earliest(&cron_job, cron_job.spec.as_ref().unwrap(), cron_job.status.as_ref().unwrap(), now);
            assert_eq!(found.to_string(), expected);
        }
    }
}
