//! serviceaccount-token-controller: fills Secrets that ask for a token of a ServiceAccount, and lets them go with the account.
//!
//! Nothing makes such Secrets by itself any more (KEP-2799); who needs a token without an end creates one.

use std::fs;

use component_base::{
    controller::{self, Action},
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, ServiceAccount},
};
use kube::{Api, Client, ResourceExt, api::PostParams};

use super::jwt::Signer;
use crate::{
    common::{Doing, Error, Result, meta},
    context::Context,
};

const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Secrets by the key of the account that they name.
const BY_ACCOUNT: &str = "account";

/// All Secrets that are for a token.
pub(super) fn secrets(context: &Context) -> Store<Secret> {
    context.factory.store(Scope::fields(format!("type={SECRET_TYPE}")))
}

/// The account that a Secret names.
pub(super) fn account_of(secret: &Secret) -> Option<ObjectKey> {
    let name = secret.annotations().get(ACCOUNT_NAME).filter(|name| !name.is_empty())?;
    Some(ObjectKey::namespaced(meta::namespace(secret), name))
}

/// Whether a Secret means this very account, or any of the name.
pub(super) fn means(secret: &Secret, account: &ServiceAccount) -> bool {
    let uid = secret.annotations().get(ACCOUNT_UID).filter(|uid| !uid.is_empty());
    uid.is_none_or(|uid| uid == meta::uid(account))
}

pub async fn run(context: Context) {
    let credentials = &context.options.credentials;
    let Some(path) = credentials.service_account_key() else {
        tracing::info!("Not filling Secrets with tokens: --service-account-private-key-file is not set");
        return;
    };
    let root_ca = credentials.root_ca().map(fs::read).transpose();
    let (signer, root_ca) = match (Signer::from_file(path), root_ca) {
        (Ok(signer), Ok(root_ca)) => (signer, root_ca),
        (Err(error), _) => return tracing::error!("Cannot fill Secrets with tokens: {error:#}"),
        (_, Err(error)) => {
            return tracing::error!(%error, "Cannot fill Secrets with tokens: cannot read --root-ca-file");
        }
    };
    let controller = Controller {
        secrets: secrets(&context),
        accounts: context.factory.store(Scope::all()),
        client: context.client.clone(),
        signer,
        root_ca,
    };
    controller
        .secrets
        .add_index(BY_ACCOUNT, |secret| account_of(secret).map(|key| key.to_string()).into_iter().collect());
    let queue = WorkQueue::new("serviceaccount_tokens_secret");
    // Accounts, and Secrets that are gone from them.
    let gone = WorkQueue::<(ObjectKey, String)>::new("serviceaccount_tokens_service");
    let (feed, feed_gone) = (queue.clone(), gone.clone());
    controller.secrets.on_change(move |change| match change {
        Change::Deleted(secret) => {
            if let Some(account) = account_of(secret) {
                feed_gone.add((account, secret.name_any()));
            }
        }
        _ => feed.add(change.key()),
    });
    let (feed, secrets) = (queue.clone(), controller.secrets.clone());
    controller.accounts.on_change(move |change| {
        // Only that an account comes or goes matters to its tokens.
        if matches!(change, Change::Added(_) | Change::Deleted(_)) {
            let own = secrets.by_index(BY_ACCOUNT, &change.key().to_string());
            own.iter().for_each(|secret| feed.add(meta::key(secret.as_ref())));
        }
    });
    tokio::join!(controller.secrets.synced(), controller.accounts.synced());
    let controller = &controller;
    let workers = context.options.workers.concurrent_serviceaccount_token_syncs;
    let fill = controller::run(context.name, queue, workers, context.shutdown.clone(), |key| async move {
        controller.reconcile(&key).await
    });
    let forget =
        controller::run(context.name, gone, workers, context.shutdown.clone(), |(account, secret)| async move {
            controller.remove_reference(&account, &secret).await
        });
    tokio::join!(fill, forget);
}

struct Controller {
    secrets: Store<Secret>,
    accounts: Store<ServiceAccount>,
    client: Client,
    signer: Signer,
    root_ca: Option<Vec<u8>>,
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        let Some(secret) = self.secrets.get(key) else { return Ok(Action::Done) };
        let Some(account) = account_of(&secret) else { return Ok(Action::Done) };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(account) = self.account(&account, &secret).await? else {
            let deleted = api.delete(&key.name, &meta::delete_exactly(secret.as_ref())).await;
            return match deleted.or_gone(|| format!("delete the token {key} of an account that is gone")) {
                // Another Secret has the name.
                Err(error) if error.code() != Some(409) => Err(error),
                _ => Ok(Action::Done),
            };
        };
        if let Some(filled) = self.filled(&secret, &account)? {
            // Based on the Secret as it was seen: one that somebody else has written comes again.
            let written = api.replace(&key.name, &PostParams::default(), &filled).await;
            match written.or_gone(|| format!("fill the token {key}")) {
                Err(error) if error.code() != Some(409) => return Err(error),
                _ => {}
            }
        }
        Ok(Action::Done)
    }

    /// The account that a Secret means. A store that does not have it may be behind: the server is asked.
    async fn account(&self, key: &ObjectKey, secret: &Secret) -> Result<Option<ServiceAccount>> {
        if let Some(account) = self.accounts.get(key).filter(|account| means(secret, account)) {
            return Ok(Some(ServiceAccount::clone(&account)));
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.namespace);
        let found = api.get_opt(&key.name).await.doing(|| format!("read ServiceAccount {key}"))?;
        Ok(found.filter(|account| means(secret, account)))
    }

    /// The Secret with all that it should hold; `None` if it does.
    fn filled(&self, secret: &Secret, account: &ServiceAccount) -> Result<Option<Secret>> {
        let empty =
            |name: &str| secret.data.as_ref().and_then(|data| data.get(name)).is_none_or(|own| own.0.is_empty());
        let mut missing = Vec::new();
        if let Some(ca) = self.root_ca.as_ref().filter(|ca| !ca.is_empty()) {
            let current = secret.data.as_ref().and_then(|data| data.get("ca.crt"));
            if current.is_none_or(|current| current.0 != *ca) {
                missing.push(("ca.crt", ca.clone()));
            }
        }
        if empty("namespace") {
            missing.push(("namespace", meta::namespace(secret).into()));
        }
        if empty("token") {
            let token = self.signer.token(account, secret);
            missing.push((
                "token",
                token.map_err(|error| Error::Invalid(format!("cannot sign a token: {error:#}")))?.into(),
            ));
        }
        if missing.is_empty() {
            return Ok(None);
        }
        let mut filled = secret.clone();
        let annotations = filled.annotations_mut();
        annotations.insert(ACCOUNT_NAME.into(), account.name_any());
        annotations.insert(ACCOUNT_UID.into(), meta::uid(account).into());
        filled
            .data
            .get_or_insert_default()
            .extend(missing.into_iter().map(|(key, value)| (key.into(), ByteString(value))));
        Ok(Some(filled))
    }

    /// An account does not list a Secret that is gone.
    async fn remove_reference(&self, key: &ObjectKey, secret: &str) -> Result {
        let lists =
            |account: &ServiceAccount| account.secrets.iter().flatten().any(|own| own.name.as_deref() == Some(secret));
        let Some(account) = self.accounts.get(key).filter(|account| lists(account)) else { return Ok(Action::Done) };
        if self.secrets.get(&ObjectKey::namespaced(&key.namespace, secret)).is_some() {
            return Ok(Action::Done);
        }
        let mut account = ServiceAccount::clone(&account);
        account.secrets.get_or_insert_default().retain(|own| own.name.as_deref() != Some(secret));
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace(&key.name, &PostParams::default(), &account).await;
        written.or_gone(|| format!("take Secret {secret} off ServiceAccount {key}"))?;
        Ok(Action::Done)
    }
}
