//! statefulset-controller: pods with a number, a name and volumes that stay theirs.
//!
//! [`identity`] is what makes pod and volumes of an ordinal, [`plan`] decides the next step (pure), this file carries it
//! out.

mod identity;
mod plan;

use std::sync::Arc;

use component_base::{
    controller::{self, Action},
    events::Type,
    informer::{ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus},
    core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec},
};
use kube::{Api, ResourceExt, api::PostParams, core::Selector};
use serde_json::json;

use self::plan::{Step, View};
use crate::{
    common::{
        Doing, Error, Result, claim,
        expectations::Expectations,
        history::{self, Current, Recipe},
        meta, pod,
        pod_control::{self, PodControl},
        pod_events::{self, PodOwner},
    },
    context::Context,
};

const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// Steps taken in one go where pods need not wait for each other.
const STEPS_MAX: usize = 500;

impl PodOwner for StatefulSet {
    fn selector(&self) -> Option<Selector> {
        meta::selector(&self.spec.as_ref()?.selector).ok().filter(|selector| !selector.selects_all())
    }
}

pub async fn run(context: Context) {
    let controller = Controller {
        sets: context.factory.store(Scope::all()),
        pods: context.pods(),
        claims: context.factory.store(Scope::all()),
        revisions: context.factory.store(Scope::all()),
        control: context.pod_control("statefulset-controller"),
        expectations: Arc::default(),
    };
    history::add_index(&controller.revisions);
    let queue = WorkQueue::new("statefulset");
    pod_events::watch_owners(&controller.sets, &queue);
    pod_events::watch(&controller.pods, &controller.sets, &queue, &controller.expectations);
    tokio::join!(
        controller.sets.synced(),
        controller.pods.synced(),
        controller.claims.synced(),
        controller.revisions.synced()
    );
    let controller = &controller;
    let workers = context.options.workers.concurrent_statefulset_syncs;
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
    sets: Store<StatefulSet>,
    pods: Store<Pod>,
    claims: Store<PersistentVolumeClaim>,
    revisions: Store<ControllerRevision>,
    control: PodControl,
    expectations: Arc<Expectations>,
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(set) = self.sets.get(key) else {
            self.expectations.forget(key);
            return Ok(Action::Done);
        };
        let Some(selector) = set.selector() else {
            return Err(Error::Invalid(format!("StatefulSet {key} has no valid selector")));
        };
        let client = &self.control.client;
        let api: Api<StatefulSet> = Api::namespaced(client.clone(), &key.namespace);
        let mut candidates = self.pods.by_index(pod::index::CONTROLLER, meta::uid(set.as_ref()));
        candidates.extend(self.pods.by_index(pod::index::CONTROLLER, &pod::orphans(&key.namespace)));
        // A pod of another name is none of ours, whatever its labels.
        candidates.retain(|pod| identity::ordinal(&set, meta::name(pod.as_ref())).is_some());
        let settled = self.expectations.satisfied(key);
        let pods = claim::claim(&api, set.as_ref(), &selector, &self.control.api(&key.namespace), candidates).await?;
        if meta::is_deleting(set.as_ref()) {
            return Ok(Action::Done);
        }

        let revisions = history::list(client, &self.revisions, &api, set.as_ref(), &selector).await?;
        let update = match history::current(client, set.as_ref(), &revisions, recipe(&set)).await? {
            Current::Found(revision) => *revision,
            Current::Collision => return self.count_collision(&api, &set).await,
        };
        let status = set.status.clone().unwrap_or_default();
        let named = |name: &String| revisions.iter().find(|revision| revision.name_any() == *name).cloned();
        let current = status.current_revision.as_ref().and_then(named).unwrap_or_else(|| update.clone());

        let spec = set.spec.clone().unwrap_or_default();
        let view = View::new(&set, &spec, pods, current.name_any(), update.name_any(), Timestamp::now());
        let mut failure = None;
        if settled {
            let steps = plan::steps(&view, STEPS_MAX);
            failure = self.take(key, &set, &spec, &view, &current, steps).await.err();
        }
        self.write_status(&api, &set, plan::status(&view, status)).await?;
        if failure.is_none() {
            failure = self.clean_up(&spec, &view, &revisions).await.err();
        }
        match failure {
            Some(error) => Err(error),
            None => {
                let pods = view.pods().map(AsRef::as_ref);
                let wait = pod::next_availability(pods, spec.min_ready_seconds.unwrap_or(0), view.now);
                Ok(wait.map_or(Action::Done, Action::After))
            }
        }
    }

    async fn take(
        &self,
        key: &ObjectKey,
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        view: &View,
        current: &ControllerRevision,
        steps: Vec<Step>,
    ) -> Result<()> {
        let mut creations = 0;
        let mut deletions = Vec::new();
        for step in &steps {
            match step {
                Step::Create { .. } => creations += 1,
                Step::Delete(pod) | Step::Replace(pod) => deletions.push(meta::uid(pod.as_ref()).to_owned()),
            }
        }
        if steps.is_empty() {
            return self.keep_claims(set, spec, view).await;
        }
        self.expectations.expect(key, creations, deletions);
        let mut errors = Vec::new();
        for step in steps {
            let result = match &step {
                Step::Create { ordinal, revision } => {
                    let template =
                        if *revision == view.current_revision && view.current_revision != view.update_revision {
                            template_of(current).unwrap_or_else(|| spec.template.clone())
                        } else {
                            spec.template.clone()
                        };
                    self.create(set, spec, &template, *ordinal, revision).await
                }
                Step::Replace(pod) => {
                    let verb = if pod::phase(pod) == "Failed" { "Failed" } else { "Terminated" };
                    let message =
                        format!("StatefulSet {key} is recreating {} Pod {}", verb.to_lowercase(), pod.name_any());
                    self.control.recorder.event(set, Type::Warning, &format!("Recreating{verb}Pod"), message);
                    self.delete(set, pod).await
                }
                Step::Delete(pod) => self.delete(set, pod).await,
            };
            if let Err(error) = result {
                match &step {
                    Step::Create { .. } => self.expectations.created(key),
                    Step::Delete(pod) | Step::Replace(pod) => self.expectations.deleted(key, meta::uid(pod.as_ref())),
                }
                errors.push(error);
            }
        }
        Error::join(errors)?;
        self.keep_claims(set, spec, view).await
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Result<()> {
        self.control.delete(set, pod).await
    }

    /// The volumes come before the pod that waits for them.
    async fn create(
        &self,
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        template: &PodTemplateSpec,
        ordinal: i32,
        revision: &str,
    ) -> Result<()> {
        for claim in identity::claims(set, spec, ordinal) {
            self.ensure_claim(set, claim).await?;
        }
        let pod = identity::pod(set, spec, template, ordinal, revision);
        match self.control.create(set, &pod).await {
            Ok(_) => Ok(()),
            // The name is taken by a pod that is not ours, or not yet gone: its end brings us back.
            Err(error) if pod_control::is_namespace_terminating(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn ensure_claim(&self, set: &StatefulSet, claim: PersistentVolumeClaim) -> Result<()> {
        let name = claim.name_any();
        let key = ObjectKey::namespaced(meta::namespace(set), &name);
        match self.claims.get(&key) {
            Some(existing) if meta::is_deleting(existing.as_ref()) => {
                return Err(Error::Invalid(format!(
                    "PersistentVolumeClaim {key} is being deleted, waiting for its end"
                )));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.control.client.clone(), meta::namespace(set));
        match api.create(&PostParams::default(), &claim).await.doing(|| format!("create PersistentVolumeClaim {key}")) {
            Ok(_) => {
                let message = format!("create Claim {name} Pod for StatefulSet {} success", set.name_any());
                self.control.recorder.event(set, Type::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) if error.code() == Some(409) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Claims are owned by what their end follows: the set, a pod, or nothing (persistentVolumeClaimRetentionPolicy).
    async fn keep_claims(&self, set: &StatefulSet, spec: &StatefulSetSpec, view: &View) -> Result<()> {
        let mut errors = Vec::new();
        for (ordinal, pod) in view.by_ordinal() {
            for claim in identity::claims(set, spec, ordinal) {
                let key = ObjectKey::namespaced(meta::namespace(set), claim.name_any());
                let Some(existing) = self.claims.get(&key) else { continue };
                let condemned = !view.is_wanted(ordinal);
                if let Some(updated) = identity::claim_owners(set, spec, pod, condemned, &existing) {
                    let api: Api<PersistentVolumeClaim> =
                        Api::namespaced(self.control.client.clone(), meta::namespace(set));
                    let replaced = api.replace(&key.name, &PostParams::default(), &updated).await;
                    errors
                        .extend(replaced.or_gone(|| format!("change the owners of PersistentVolumeClaim {key}")).err());
                }
            }
        }
        Error::join(errors)
    }

    async fn count_collision(&self, api: &Api<StatefulSet>, set: &StatefulSet) -> Result {
        let mut status = set.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.write_status(api, set, status).await?;
        Err(Error::Invalid("the new revision's name is taken by another one, trying another name".into()))
    }

    async fn write_status(&self, api: &Api<StatefulSet>, set: &StatefulSet, status: StatefulSetStatus) -> Result<()> {
        if set.status.as_ref().is_some_and(|before| normal(before) == normal(&status)) {
            return Ok(());
        }
        let mut updated = set.clone();
        updated.status = Some(status);
        let what = || format!("update the status of StatefulSet {}", meta::key(set));
        api.replace_status(meta::name(set), &PostParams::default(), &updated).await.or_gone(what).map(drop)
    }

    async fn clean_up(&self, spec: &StatefulSetSpec, view: &View, revisions: &[ControllerRevision]) -> Result<()> {
        let limit = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
        let in_use = |revision: &ControllerRevision| {
            let name = revision.name_any();
            name == view.current_revision
                || name == view.update_revision
                || view.pods().any(|pod| plan::revision(pod) == Some(&name))
        };
        history::truncate(&self.control.client, revisions, limit, in_use).await
    }
}

fn normal(status: &StatefulSetStatus) -> StatefulSetStatus {
    let zero = |count: Option<i32>| Some(count.unwrap_or(0));
    StatefulSetStatus {
        available_replicas: zero(status.available_replicas),
        collision_count: zero(status.collision_count),
        current_replicas: zero(status.current_replicas),
        ready_replicas: zero(status.ready_replicas),
        updated_replicas: zero(status.updated_replicas),
        ..status.clone()
    }
}

/// A revision remembers the pod template, as a patch that replaces it.
fn recipe(set: &StatefulSet) -> Recipe<'static> {
    let spec = set.spec.as_ref();
    let mut template = spec.map(|spec| json!(spec.template)).unwrap_or_default();
    if let Some(template) = template.as_object_mut() {
        template.insert("$patch".into(), "replace".into());
    }
    let labels = spec.and_then(|spec| spec.template.metadata.as_ref()?.labels.clone());
    Recipe {
        hash_label: HASH_LABEL,
        labels: labels.unwrap_or_default(),
        data: json!({"spec": {"template": template}}),
        collisions: set.status.as_ref().and_then(|status| status.collision_count),
    }
}

/// The template that a revision remembers.
fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_gives_its_template_back() {
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {"name": "db"},
            "spec": {"selector": {}, "serviceName": "db", "template": {
                "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "redis"}]},
            }},
        }))
        .unwrap();
        let data = k8s_openapi::apimachinery::pkg::runtime::RawExtension(recipe(&set).data);
        let revision = ControllerRevision { data: Some(data), ..ControllerRevision::default() };
        assert_eq!(template_of(&revision), Some(set.spec.unwrap().template));
    }
}
