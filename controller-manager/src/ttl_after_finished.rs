//! ttl-after-finished-controller: deletes finished Jobs when their time to live is over.

use std::time::Duration;

use component_base::{
    controller::{self, Action},
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions, PropagationPolicy},
};

use crate::{
    common::{Doing, Result, meta},
    context::Context,
    job::finished_at,
};

pub async fn run(context: Context) {
    let jobs = context.factory.store::<Job>(Scope::all());
    let queue = WorkQueue::new("ttl_jobs_to_delete");
    let feed = queue.clone();
    jobs.on_change(move |change| {
        if !matches!(change, Change::Deleted(_)) && change.object().is_some_and(|job| expiry(job).is_some()) {
            feed.add(change.key());
        }
    });
    jobs.synced().await;
    let (jobs, client) = (&jobs, &context.client);
    let workers = context.options.workers.concurrent_ttl_after_finished_syncs;
    controller::run(context.name, queue, workers, context.shutdown, |key| async move {
        reconcile(jobs, client, &key).await
    })
    .await;
}

/// When a finished Job is to go; `None` if it is not finished, stays for ever or goes already.
fn expiry(job: &Job) -> Option<Timestamp> {
    let ttl_secs = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let finished = finished_at(job).filter(|_| !meta::is_deleting(job))?;
    Some(finished.checked_add(SignedDuration::from_secs(i64::from(ttl_secs))).unwrap_or(Timestamp::MAX))
}

async fn reconcile(jobs: &Store<Job>, client: &Client, key: &ObjectKey) -> Result {
    let left =
        |job: &Job| expiry(job).map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default());
    match jobs.get(key).and_then(|job| left(&job)) {
        None => return Ok(Action::Done),
        Some(wait) if !wait.is_zero() => return Ok(Action::After(wait)),
        Some(_) => {}
    }
    // The store may be behind: somebody may have made the Job live longer.
    let api: Api<Job> = Api::namespaced(client.clone(), &key.namespace);
    let fresh = api.get_opt(&key.name).await.doing(|| format!("read Job {key}"))?;
    let Some((job, wait)) = fresh.and_then(|job| left(&job).map(|wait| (job, wait))) else { return Ok(Action::Done) };
    if !wait.is_zero() {
        return Ok(Action::After(wait));
    }
    let preconditions =
        Preconditions { uid: job.metadata.uid.clone(), resource_version: job.metadata.resource_version.clone() };
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    api.delete(&key.name, &params).await.or_gone(|| format!("delete finished Job {key}"))?;
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_finished_jobs_with_a_time_to_live_expire() {
        let condition = |kind| json!([{"type": kind, "status": "True", "lastTransitionTime": "1970-01-01T00:01:00Z"}]);
        for (ttl, conditions, expected) in [
            (Some(30), condition("Complete"), Some(90)),
            (Some(0), condition("Failed"), Some(60)),
            (Some(30), condition("Suspended"), None),
            (None, condition("Complete"), None),
        ] {
            let job: Job = serde_json::from_value(json!({
                "metadata": {}, "spec": {"template": {}, "ttlSecondsAfterFinished": ttl},
                "status": {"conditions": conditions},
            }))
            .unwrap();
            assert_eq!(expiry(&job).map(Timestamp::as_second), expected, "{ttl:?}");
        }
    }
}
