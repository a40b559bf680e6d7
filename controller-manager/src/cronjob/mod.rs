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
        let next = if meta::is_deleting(cron_job.as_ref()) {
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
                // Its run was not written down: the write failed, or the store does not show it yet.
                (None, false) if is_own(cron_job, job) => active.push(job.object_ref(&())),
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
        match api.delete(name, &DeleteParams::background()).await.or_gone(|| format!("delete Job {name}")) {
            Ok(deleted) => {
                if deleted.is_some() {
                    self.recorder.event(cron_job, Type::Normal, "SuccessfulDelete", format!("Deleted job {name}"));
                }
                Ok(())
            }
            Err(error) => {
                let message = format!("Deleted job: {}", error.reason());
                self.recorder.event(cron_job, Type::Warning, "FailedDelete", message);
                Err(error)
            }
        }
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
        let told = |reason: &str, message: String| {
            self.recorder.event(cron_job, Type::Warning, reason, message);
            Ok(Action::Done)
        };
        let own_zone = match schedule::zone(spec.time_zone.as_deref()) {
            Ok(zone) => zone,
            Err(error) => {
                let name = spec.time_zone.as_deref().unwrap_or_default();
                return told("UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}"));
            }
        };
        if spec.suspend == Some(true) {
            return Ok(Action::Done);
        }
        let text = &spec.schedule;
        if schedule::mentions_zone(text) {
            let message = format!(
                "CRON_TZ or TZ used in schedule {text:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
            );
            self.recorder.event(cron_job, Type::Warning, "UnsupportedSchedule", message);
        }
        let (zone_in_front, fields) = schedule::split_zone(text);
        let zone = zone_in_front.map_or(Ok(own_zone), |name| schedule::zone(Some(name)));
        let (zone, schedule) = match zone.and_then(|zone| Ok((zone, Schedule::parse(fields)?))) {
            Ok(read) => read,
            Err(error) => return told("UnparseableSchedule", format!("unparseable schedule: {text:?} : {error}")),
        };
        let now = Timestamp::now();
        let Some(next) = schedule.next(now, &zone) else {
            // Such as the 31st of February: upstream's word for it.
            let error = "time difference between two schedules is less than 1 second";
            return told("InvalidSchedule", format!("invalid schedule: {text} : {error}"));
        };
        let again = Action::After(Duration::try_from(next.duration_since(now)).unwrap_or_default() + SLACK);
        let (since, limit) = (started(cron_job, status), deadline(spec, now));
        let Some(due) = schedule.due(limit.map_or(since, |limit| since.max(limit)), now, &zone) else {
            if let Some(missed) = limit.and_then(|limit| schedule.due(since, limit, &zone)) {
                let at = missed.at.strftime("%a, %d %b %Y %H:%M:%S %z");
                let message = format!("Missed scheduled time to start a job: {at}");
                self.recorder.event(cron_job, Type::Warning, "MissSchedule", message);
            }
            return Ok(again);
        };
        if due.missed > schedule::MISSED_MANY {
            let message =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.recorder.event(cron_job, Type::Warning, "TooManyMissedTimes", message);
        }
        let name = job_name(cron_job, due.at);
        if jobs.iter().any(|job| job.name_any() == name) {
            // Made before, though that was not written down.
            status.last_schedule_time = Some(Time(due.at));
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

/// The last run, or the CronJob's creation: later runs are due.
fn started(cron_job: &CronJob, status: &CronJobStatus) -> Timestamp {
    status.last_schedule_time.as_ref().map_or_else(|| meta::created(cron_job), |time| time.0)
}

/// Runs until then are too late by now.
fn deadline(spec: &CronJobSpec, now: Timestamp) -> Option<Timestamp> {
    now.checked_sub(SignedDuration::from_secs(spec.starting_deadline_seconds?)).ok()
}

/// Whether this controller made a Job of the CronJob: by its name, and by the annotation that nobody else writes.
fn is_own(cron_job: &CronJob, job: &Job) -> bool {
    let run = job.metadata.name.as_deref().and_then(|name| name.strip_prefix(meta::name(cron_job))?.strip_prefix('-'));
    run.is_some_and(|minutes| minutes.bytes().all(|b| b.is_ascii_digit()))
        && job.annotations().contains_key(SCHEDULED_AT)
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
    fn runs_are_due_from_the_last_one_on_and_not_past_the_deadline() {
        let now: Timestamp = "2024-01-01T10:00:00Z".parse().unwrap();
        for (last, deadline_secs, since, limit) in [
            (None, None, "2024-01-01T00:00:00Z", None),
            (Some("2024-01-01T09:00:00Z"), Some(60), "2024-01-01T09:00:00Z", Some("2024-01-01T09:59:00Z")),
        ] {
            let cron_job: CronJob = serde_json::from_value(json!({
                "metadata": {"creationTimestamp": "2024-01-01T00:00:00Z"}, "status": {"lastScheduleTime": last},
                "spec": {"schedule": "@hourly", "startingDeadlineSeconds": deadline_secs, "jobTemplate": {}},
            }))
            .unwrap();
            assert_eq!(started(&cron_job, cron_job.status.as_ref().unwrap()).to_string(), since);
            let found = deadline(cron_job.spec.as_ref().unwrap(), now).map(|time| time.to_string());
            assert_eq!(found.as_deref(), limit);
        }
    }

    #[test]
    fn own_jobs_are_known_by_name_and_annotation() {
        let cron_job: CronJob = serde_json::from_value(json!({"metadata": {"name": "backup"}})).unwrap();
        let scheduled = json!({SCHEDULED_AT: "2024-01-01T00:00:00Z"});
        for (name, annotations, own) in [
            ("backup-28663620", scheduled.clone(), true),
            ("backup-by-hand", scheduled.clone(), false),
            ("other-28663620", scheduled, false),
            ("backup-28663620", json!({"cronjob.kubernetes.io/instantiate": "manual"}), false),
        ] {
            let job: Job =
                serde_json::from_value(json!({"metadata": {"name": name, "annotations": annotations}})).unwrap();
            assert_eq!(is_own(&cron_job, &job), own, "{name}");
        }
    }
}
