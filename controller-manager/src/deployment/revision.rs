//! The ReplicaSet of the current template: found, made, numbered.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentCondition, ReplicaSet, ReplicaSetSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    ResourceExt,
    api::{ObjectMeta, PostParams},
};

use super::{
    Controller, Rollout, annotations,
    plan::{self, Limits, Size},
    status::{self, PROGRESSING},
};
use crate::common::{
    Doing, Error, Result,
    conditions::{self, Condition},
    hash, meta,
};

pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// The set of the current template, and the others. `sets` is oldest first; of several equal ones the oldest counts.
pub(super) fn split(deployment: &Deployment, mut sets: Vec<ReplicaSet>) -> (Option<ReplicaSet>, Vec<ReplicaSet>) {
    let template = deployment.spec.as_ref().map(|spec| unlabeled(&spec.template));
    let is_new = |set: &ReplicaSet| {
        let own = set.spec.as_ref().and_then(|spec| spec.template.as_ref()).map(unlabeled);
        own.is_some() && own == template
    };
    let new = sets.iter().position(is_new).map(|index| sets.remove(index));
    (new, sets)
}

fn unlabeled(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    template
}

impl Controller {
    /// Brings the current set up to date, and makes it if `create`.
    pub(super) async fn adjust_new(&self, rollout: &mut Rollout, create: bool) -> Result<()> {
        let newest_old = rollout.old.iter().map(annotations::revision).max().unwrap_or(0);
        match rollout.new.take() {
            Some(set) => {
                let set = self.adjust(rollout, set, newest_old + 1).await?;
                rollout.new = Some(set);
            }
            None if create => {
                let set = self.create(rollout, newest_old + 1).await?;
                rollout.new = Some(set);
            }
            None => {}
        }
        Ok(())
    }

    async fn adjust(&self, rollout: &mut Rollout, mut set: ReplicaSet, revision: i64) -> Result<ReplicaSet> {
        let min_ready = rollout.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let spec = set.spec.get_or_insert_default();
        let ready_changed = spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0);
        spec.min_ready_seconds = min_ready;
        if annotations::set_revision(&mut set, &rollout.deployment, revision) || ready_changed {
            let name = set.name_any();
            let what = || format!("update ReplicaSet {name}");
            let api = self.sets_api(meta::namespace(&rollout.deployment));
            set = api.replace(&name, &PostParams::default(), &set).await.doing(what)?;
        }
        let found = format!("Found new replica set {:?}", set.name_any());
        self.number(rollout, &set, "FoundNewReplicaSet", &found, false).await?;
        Ok(set)
    }

    async fn create(&self, rollout: &mut Rollout, revision: i64) -> Result<ReplicaSet> {
        let deployment = &rollout.deployment;
        let mut wanted = describe(deployment);
        let limits = Limits::of(deployment);
        wanted.spec.get_or_insert_default().replicas = Some(limits.new_size(&rollout.sizes(), 0));
        annotations::set_sizes(&mut wanted, deployment);
        annotations::set_revision(&mut wanted, deployment, revision);

        let (namespace, name) = (meta::namespace(deployment).to_owned(), wanted.name_any());
        let api = self.sets_api(&namespace);
        let what = || format!("create ReplicaSet {namespace}/{name}");
        let (set, created) = match api.create(&PostParams::default(), &wanted).await.doing(what) {
            Ok(set) => (set, true),
            Err(error) if error.code() == Some(409) => {
                let existing = api.get(&name).await.doing(|| format!("read ReplicaSet {namespace}/{name}"))?;
                let same = split(deployment, vec![existing.clone()]).0.is_some();
                if !same || !meta::is_controlled_by(&existing, deployment) {
                    return Err(self.collide(deployment).await?);
                }
                // Ours: created before, and not in the store yet.
                (existing, false)
            }
            Err(error) => {
                self.note_create_failure(rollout, &name, &error).await?;
                return Err(error);
            }
        };
        let size = Size::of(&set).spec;
        if created && size > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {size}");
            let kind = component_base::events::Type::Normal;
            self.recorder.event(&rollout.deployment, kind, "ScalingReplicaSet", message);
        }
        let message = format!("Created new replica set {name:?}");
        self.number(rollout, &set, "NewReplicaSetCreated", &message, created).await?;
        Ok(set)
    }

    /// The name belongs to something else: the next try hashes with one collision more.
    async fn collide(&self, deployment: &Deployment) -> Result<Error> {
        let mut deployment = deployment.clone();
        let count = deployment.status.get_or_insert_default().collision_count.get_or_insert(0);
        *count += 1;
        self.write_status(&deployment).await?;
        Ok(Error::Invalid("the new ReplicaSet's name is taken by another one, trying another name".into()))
    }

    async fn note_create_failure(&self, rollout: &mut Rollout, name: &str, error: &Error) -> Result<()> {
        if !status::has_deadline(&rollout.deployment) {
            return Ok(());
        }
        let message = format!("Failed to create new replica set {name:?}: {}", error.reason());
        let condition = DeploymentCondition::new(PROGRESSING, "False", "ReplicaSetCreateError", &message);
        let status = rollout.deployment.status.get_or_insert_default();
        if conditions::set(&mut status.conditions, condition) {
            rollout.deployment = self.write_status(&rollout.deployment).await?;
        }
        Ok(())
    }

    /// Gives the Deployment the revision of its current set, and a first condition of progress.
    async fn number(
        &self,
        rollout: &mut Rollout,
        set: &ReplicaSet,
        reason: &str,
        message: &str,
        restart: bool,
    ) -> Result<()> {
        let revision = annotations::revision(set).to_string();
        let deployment = &mut rollout.deployment;
        let mut changed = deployment.annotations().get(annotations::REVISION) != Some(&revision);
        deployment.annotations_mut().insert(annotations::REVISION.to_owned(), revision);
        let first = conditions::get(&deployment.status.clone().unwrap_or_default().conditions, PROGRESSING).is_none();
        if status::has_deadline(deployment) && (first || restart) {
            let condition = DeploymentCondition::new(PROGRESSING, "True", reason, message);
            changed |= conditions::set(&mut deployment.status.get_or_insert_default().conditions, condition);
        }
        if changed {
            rollout.deployment = self.write_status(&rollout.deployment).await?;
        }
        Ok(())
    }

    /// Pausing stops the clock of the progress deadline, resuming starts it again.
    pub(super) async fn note_pause(&self, rollout: &mut Rollout) -> Result<()> {
        let deployment = &mut rollout.deployment;
        if !status::has_deadline(deployment) {
            return Ok(());
        }
        let paused = plan::is_paused(deployment);
        let status = deployment.status.get_or_insert_default();
        let reason = conditions::get(&status.conditions, PROGRESSING).map(Condition::reason);
        let condition = match (paused, reason) {
            (_, Some("ProgressDeadlineExceeded")) | (true, Some("DeploymentPaused")) => return Ok(()),
            (true, _) => DeploymentCondition::new(PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused"),
            (false, Some("DeploymentPaused")) => {
                DeploymentCondition::new(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed")
            }
            (false, _) => return Ok(()),
        };
        conditions::set(&mut status.conditions, condition);
        rollout.deployment = self.write_status(&rollout.deployment).await?;
        Ok(())
    }
}

/// The ReplicaSet of a Deployment's template, without a size.
fn describe(deployment: &Deployment) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash::of(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut match_labels = spec.selector.match_labels.unwrap_or_default();
    match_labels.insert(HASH_LABEL.to_owned(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            owner_references: Some(vec![meta::controller_ref(deployment)]),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: None,
            selector: LabelSelector { match_labels: Some(match_labels), ..spec.selector },
            template: Some(template),
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Deployment {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "nginx"}]},
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_set_made_from_a_template_is_found_again() {
        let deployment = deployment();
        let set = describe(&deployment);
        let hash = &set.labels()[HASH_LABEL];
        assert_eq!(set.name_any(), format!("web-{hash}"));
        let (new, old) = split(&deployment, vec![ReplicaSet::default(), set]);
        assert!(new.is_some());
        assert_eq!(old.len(), 1);

        let mut changed = deployment.clone();
        changed.spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers[0].image = Some("redis".into());
        assert!(split(&changed, vec![describe(&deployment)]).0.is_none());
        assert_ne!(describe(&changed).name_any(), describe(&deployment).name_any());
    }
}
