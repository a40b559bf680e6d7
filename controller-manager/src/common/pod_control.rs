//! Creating and deleting pods for an owner, with events about it.

use std::future::Future;

use component_base::{
    events::{Recorder, Type},
    informer::Kind,
};
use futures::future;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use super::{Doing, Error, Result, meta};

/// Writes pods in the name of one controller.
#[derive(Clone)]
pub struct PodControl {
    pub client: Client,
    pub recorder: Recorder,
}

impl PodControl {
    pub fn api(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Creates a pod as [`from_template`] made it.
    pub async fn create<O: Kind>(&self, owner: &O, pod: &Pod) -> Result<Pod> {
        let namespace = meta::namespace(owner);
        let what = || format!("create a pod of {} {namespace}/{}", O::kind(&()), meta::name(owner));
        match self.api(namespace).create(&PostParams::default(), pod).await.doing(what) {
            Ok(pod) => {
                let message = format!("Created pod: {}", meta::name(&pod));
                self.recorder.event(owner, Type::Normal, "SuccessfulCreate", message);
                Ok(pod)
            }
            Err(error) => {
                if !is_namespace_terminating(&error) {
                    let message = format!("Error creating: {}", error.reason());
                    self.recorder.event(owner, Type::Warning, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    /// Deletes exactly this pod; that it is gone already is success.
    pub async fn delete<O: Kind>(&self, owner: &O, pod: &Pod) -> Result<()> {
        let (namespace, name) = (meta::namespace(pod), meta::name(pod));
        let what = || format!("delete pod {namespace}/{name}");
        match self.api(namespace).delete(name, &meta::delete_exactly(pod)).await.or_gone(what) {
            Ok(deleted) => {
                if deleted.is_some() {
                    self.recorder.event(owner, Type::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"));
                }
                Ok(())
            }
            // Another pod has the name: the one that was meant is gone.
            Err(error) if error.code() == Some(409) => Ok(()),
            Err(error) => {
                let message = format!("Error deleting: {}", error.reason());
                self.recorder.event(owner, Type::Warning, "FailedDelete", message);
                Err(error)
            }
        }
    }
}

/// The pod that `template` describes, owned by `owner`, with a name generated from the owner's.
pub fn from_template<O: Kind>(owner: &O, template: &PodTemplateSpec) -> Pod {
    let meta = template.metadata.as_ref();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta::name(owner))),
            namespace: Some(meta::namespace(owner).to_owned()),
            labels: meta.and_then(|meta| meta.labels.clone()),
            annotations: meta.and_then(|meta| meta.annotations.clone()),
            finalizers: meta.and_then(|meta| meta.finalizers.clone()),
            owner_references: Some(vec![meta::controller_ref(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The namespace is on its way out: nothing can be created, and nobody needs to be told.
pub fn is_namespace_terminating(error: &Error) -> bool {
    let Error::Api { source: kube::Error::Api(status), .. } = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Does `count` things in batches of 1, 2, 4, …, and stops after the first batch in which one failed: a quota that is
/// used up costs one refused request, not `count`. Returns how many succeeded, and the first error.
pub async fn slow_start<F, Fut>(count: usize, work: F) -> (usize, Option<Error>)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let (mut done, mut batch) = (0, 1);
    let mut begun = 0;
    while begun < count {
        let size = batch.min(count - begun);
        let results = future::join_all((begun..begun + size).map(&work)).await;
        begun += size;
        let mut failed = None;
        for result in results {
            match result {
                Ok(()) => done += 1,
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        if failed.is_some() {
            return (done, failed);
        }
        batch *= 2;
    }
    (done, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn batches_double_and_stop_after_a_failure() {
        for (count, fails_from, done, begun) in [(0, 9, 0, 0), (10, 99, 10, 10), (10, 0, 0, 1), (10, 4, 4, 7)] {
            let calls = std::cell::Cell::new(0);
            let (succeeded, error) = slow_start(count, |index| {
                calls.set(calls.get() + 1);
                async move { if index < fails_from { Ok(()) } else { Err(Error::Invalid("no".into())) } }
            })
            .await;
            assert_eq!((succeeded, calls.get()), (done, begun), "{count} {fails_from}");
            assert_eq!(error.is_some(), done < count);
        }
    }
}
