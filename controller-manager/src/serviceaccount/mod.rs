//! serviceaccount-controller: every namespace has the ServiceAccount `default`.
//!
//! [`tokens`] fills Secrets with tokens that [`jwt`] signs, [`token_cleaner`] removes those that nobody uses.

mod jwt;
pub mod token_cleaner;
pub mod tokens;

use component_base::{
    controller::{self, Action},
    informer::{Change, ObjectKey, Scope},
    queue::WorkQueue,
};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

use crate::{
    common::{Doing, Result, meta, pod_control},
    context::Context,
};

const NAME: &str = "default";

pub async fn run(context: Context) {
    let namespaces = context.factory.store::<Namespace>(Scope::all());
    let accounts = context.factory.store::<ServiceAccount>(Scope::all());
    let queue = WorkQueue::new("serviceaccount");
    let feed = queue.clone();
    namespaces.on_change(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            feed.add(change.key());
        }
    });
    let feed = queue.clone();
    accounts.on_change(move |change| {
        if let Change::Deleted(account) = change
            && meta::name(account.as_ref()) == NAME
        {
            feed.add(ObjectKey::cluster(meta::namespace(account.as_ref())));
        }
    });
    tokio::join!(namespaces.synced(), accounts.synced());

    let (namespaces, accounts, client) = (&namespaces, &accounts, &context.client);
    controller::run(context.name, queue, 1, context.shutdown, |key: ObjectKey| async move {
        let alive = namespaces.get(&key).is_some_and(|namespace| !meta::is_deleting(namespace.as_ref()));
        if !alive || accounts.get(&ObjectKey::namespaced(&key.name, NAME)).is_some() {
            return Ok(Action::Done);
        }
        create(&Api::namespaced(client.clone(), &key.name), &key.name).await
    })
    .await;
}

async fn create(api: &Api<ServiceAccount>, namespace: &str) -> Result {
    let metadata = ObjectMeta { name: Some(NAME.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() };
    let account = ServiceAccount { metadata, ..ServiceAccount::default() };
    let what = || format!("create ServiceAccount {namespace}/{NAME}");
    match api.create(&PostParams::default(), &account).await.or_gone(what) {
        Ok(_) => Ok(Action::Done),
        Err(error) if error.code() == Some(409) || pod_control::is_namespace_terminating(&error) => Ok(Action::Done),
        Err(error) => Err(error),
    }
}
