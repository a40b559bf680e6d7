//! token-cleaner-controller: deletes bootstrap tokens that have expired. Off by default, as upstream's; kubeadm turns it on.

use component_base::{
    controller::{self, Action},
    informer::{Change, ObjectKey},
    queue::WorkQueue,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::until_expiry;
use crate::{
    common::{Doing, Result, meta},
    context::Context,
};

pub async fn run(context: Context) {
    let secrets = super::secrets(&context);
    let queue = WorkQueue::new("token_cleaner");
    let feed = queue.clone();
    secrets.on_change(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            feed.add(change.key());
        }
    });
    secrets.synced().await;
    let (secrets, client) = (&secrets, &context.client);
    controller::run(context.name, queue, 1, context.shutdown, |key: ObjectKey| async move {
        let Some(secret) = secrets.get(&key) else { return Ok(Action::Done) };
        match until_expiry(&secret, Timestamp::now()) {
            None => Ok(Action::Done),
            Some(left) if !left.is_zero() => Ok(Action::After(left)),
            Some(_) => delete(&Api::namespaced(client.clone(), &key.namespace), &key, &secret).await,
        }
    })
    .await;
}

async fn delete(api: &Api<Secret>, key: &ObjectKey, secret: &Secret) -> Result {
    let deleted = api.delete(&key.name, &meta::delete_exactly(secret)).await;
    deleted.or_gone(|| format!("delete expired bootstrap token {key}"))?;
    Ok(Action::Done)
}
