//! root-ca-certificate-publisher-controller: every namespace has the ConfigMap `kube-root-ca.crt`, with which pods
//! verify the API server.

use std::{fs, sync::Arc};

use component_base::{
    controller::{self, Action},
    informer::{Change, ObjectKey, Scope},
    queue::WorkQueue,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};

use crate::{
    common::{Doing, Result, meta, pod_control},
    context::Context,
};

const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
/// Shown by upstream's clusters under [`DESCRIPTION`]; part of the object's wire format.
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                                endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                                guaranteed across distributions of Kubernetes clusters.";

pub async fn run(context: Context) {
    let Some(path) = context.options.credentials.root_ca().cloned() else {
        tracing::info!("Not publishing a root CA: --root-ca-file is not set");
        return;
    };
    let bundle = match fs::read_to_string(&path) {
        Ok(bundle) => Arc::new(bundle),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "Cannot publish the root CA: cannot read --root-ca-file");
            return;
        }
    };
    let namespaces = context.factory.store::<Namespace>(Scope::all());
    let maps = context.factory.store::<ConfigMap>(Scope::fields(format!("metadata.name={NAME}")));
    let queue = WorkQueue::new("root_ca_cert_publisher");
    let feed = queue.clone();
    namespaces.on_change(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            feed.add(change.key());
        }
    });
    let feed = queue.clone();
    maps.on_change(move |change| feed.add(ObjectKey::cluster(change.key().namespace)));
    tokio::join!(namespaces.synced(), maps.synced());

    let (namespaces, maps, client, bundle) = (&namespaces, &maps, &context.client, &bundle);
    controller::run(context.name, queue, 1, context.shutdown, |key: ObjectKey| async move {
        if namespaces.get(&key).is_none_or(|namespace| meta::is_deleting(namespace.as_ref())) {
            return Ok(Action::Done);
        }
        let current = maps.get(&ObjectKey::namespaced(&key.name, NAME));
        publish(&Api::namespaced(client.clone(), &key.name), &key.name, current.as_deref(), bundle).await
    })
    .await;
}

async fn publish(api: &Api<ConfigMap>, namespace: &str, current: Option<&ConfigMap>, bundle: &str) -> Result {
    let what = || format!("write ConfigMap {namespace}/{NAME}");
    let written = match current {
        Some(current) if is_published(current, bundle) => return Ok(Action::Done),
        Some(current) => {
            let mut map = current.clone();
            map.data = Some([(KEY.to_owned(), bundle.to_owned())].into());
            map.annotations_mut().insert(DESCRIPTION.into(), DESCRIPTION_TEXT.into());
            api.replace(NAME, &PostParams::default(), &map).await.or_gone(what)
        }
        None => {
            let metadata = ObjectMeta {
                name: Some(NAME.into()),
                namespace: Some(namespace.into()),
                annotations: Some([(DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned())].into()),
                ..ObjectMeta::default()
            };
            let data = Some([(KEY.to_owned(), bundle.to_owned())].into());
            let map = ConfigMap { metadata, data, ..ConfigMap::default() };
            api.create(&PostParams::default(), &map).await.or_gone(what)
        }
    };
    match written {
        Ok(_) => Ok(Action::Done),
        Err(error) if pod_control::is_namespace_terminating(&error) => Ok(Action::Done),
        // It was made a moment ago, and the store shows it soon.
        Err(error) if error.code() == Some(409) && current.is_none() => Ok(Action::Done),
        Err(error) => Err(error),
    }
}

fn is_published(map: &ConfigMap, bundle: &str) -> bool {
    let data = map.data.as_ref();
    data.is_some_and(|data| data.len() == 1 && data.get(KEY).is_some_and(|own| own == bundle))
        && map.annotations().get(DESCRIPTION).is_some_and(|own| own == DESCRIPTION_TEXT)
}
