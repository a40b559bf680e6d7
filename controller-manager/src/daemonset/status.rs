//! What a DaemonSet reports about its nodes.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use kube::{Api, ResourceExt, api::PostParams};

use super::{
    View,
    eligibility::{self, Verdict},
    update,
};
use crate::common::{Doing, Error, Result, meta, pod};

fn calculate(view: &View) -> DaemonSetStatus {
    let mut status = DaemonSetStatus {
        observed_generation: view.set.metadata.generation,
        ..view.set.status.clone().unwrap_or_default()
    };
    let (mut desired, mut current, mut misscheduled, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    for node in &view.nodes {
        let pods = view.by_node.get(meta::name(node.as_ref())).map(Vec::as_slice).unwrap_or_default();
        if eligibility::node_should_run(&view.set, node) != Verdict::Run {
            misscheduled += i32::from(!pods.is_empty());
            continue;
        }
        desired += 1;
        // Of several, while an update surges, the oldest counts.
        let Some(pod) = pods.iter().min_by_key(|pod| meta::created(pod.as_ref())) else { continue };
        current += 1;
        ready += i32::from(pod::is_ready(pod));
        available += i32::from(pod::is_available(pod, update::min_ready_secs(&view.set), view.now));
        updated += i32::from(pods.iter().any(|pod| update::is_updated(view, pod)));
    }
    status.desired_number_scheduled = desired;
    status.current_number_scheduled = current;
    status.number_misscheduled = misscheduled;
    status.number_ready = ready;
    status.number_available = Some(available);
    status.number_unavailable = Some(desired - available);
    status.updated_number_scheduled = Some(updated);
    status
}

pub(super) async fn update(api: &Api<DaemonSet>, view: &View) -> Result<()> {
    let status = calculate(view);
    let before = view.set.status.clone().unwrap_or_default();
    let normal = |status: &DaemonSetStatus| DaemonSetStatus {
        number_available: Some(status.number_available.unwrap_or(0)),
        number_unavailable: Some(status.number_unavailable.unwrap_or(0)),
        updated_number_scheduled: Some(status.updated_number_scheduled.unwrap_or(0)),
        ..status.clone()
    };
    if normal(&status) == normal(&before) {
        return Ok(());
    }
    write(api, &view.set, status).await
}

/// The name of a revision is taken by another one; the next is hashed with one collision more.
pub(super) async fn count_collision(api: &Api<DaemonSet>, set: &Arc<DaemonSet>) -> Result<Error> {
    let mut status = set.status.clone().unwrap_or_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    write(api, set, status).await?;
    Ok(Error::Invalid("the new revision's name is taken by another one, trying another name".into()))
}

async fn write(api: &Api<DaemonSet>, set: &DaemonSet, status: DaemonSetStatus) -> Result<()> {
    let mut set = set.clone();
    set.status = Some(status);
    let name = set.name_any();
    let what = || format!("update the status of DaemonSet {}", meta::key(&set));
    api.replace_status(&name, &PostParams::default(), &set).await.or_gone(what).map(drop)
}
