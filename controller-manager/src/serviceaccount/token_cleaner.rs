//! legacy-serviceaccount-token-cleaner-controller: tokens that the control plane once made by itself (an account lists their
//! Secret) and that nobody has used for a year are marked as invalid, and deleted after another year. (KEP-2799)

use std::{collections::HashSet, time::Duration};

use component_base::informer::{Scope, Store};
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;

use super::tokens;
use crate::{
    common::{Doing, Error, Result, meta, pod},
    context::Context,
};

const PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
/// Where the API server says since when it notes the use of tokens.
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

pub async fn run(context: Context) {
    let unused_for = context.options.credentials.legacy_service_account_token_clean_up_period.get();
    let cleaner = Cleaner {
        secrets: tokens::secrets(&context),
        accounts: context.factory.store(Scope::all()),
        pods: context.pods(),
        client: context.client.clone(),
        unused_for: SignedDuration::try_from(unused_for).unwrap_or(SignedDuration::MAX),
    };
    tokio::join!(cleaner.secrets.synced(), cleaner.accounts.synced(), cleaner.pods.synced());
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            _ = ticks.tick() => {
                if let Err(error) = cleaner.clean(Timestamp::now()).await {
                    tracing::warn!(%error, "Cannot clean up unused tokens, will try again tomorrow");
                }
            }
        }
    }
}

struct Cleaner {
    secrets: Store<Secret>,
    accounts: Store<ServiceAccount>,
    pods: Store<Pod>,
    client: Client,
    unused_for: SignedDuration,
}

/// What is to be done about a token that nobody seems to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Invalidate,
    Delete,
}

impl Cleaner {
    async fn clean(&self, now: Timestamp) -> Result<()> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), "kube-system");
        // Without it, that a token looks unused says nothing.
        let Some(map) = maps.get_opt(TRACKING).await.doing(|| format!("read ConfigMap {TRACKING}"))? else {
            return Ok(());
        };
        let since = map.data.as_ref().and_then(|data| data.get("since")?.parse::<Date>().ok());
        // That day may have begun without.
        let since = since.and_then(|since| since.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok());
        let Some(oldest) = now.checked_sub(self.unused_for).ok() else { return Ok(()) };
        if since.is_none_or(|since| since.timestamp() > oldest) {
            return Ok(());
        }
        let mut errors = Vec::new();
        for secret in self.secrets.list() {
            let done = match verdict(&secret, oldest) {
                Verdict::Keep => continue,
                _ if !self.is_generated(&secret) || self.is_mounted(&secret) => continue,
                Verdict::Invalidate => self.invalidate(&secret, now).await,
                Verdict::Delete => self.delete(&secret).await,
            };
            errors.extend(done.err());
        }
        Error::join(errors)
    }

    /// Only Secrets that their account lists were made by the control plane.
    fn is_generated(&self, secret: &Secret) -> bool {
        let account = tokens::account_of(secret).and_then(|key| self.accounts.get(&key));
        account.filter(|account| tokens::means(secret, account)).is_some_and(|account| {
            account.secrets.iter().flatten().any(|own| own.name.as_deref() == Some(meta::name(secret)))
        })
    }

    fn is_mounted(&self, secret: &Secret) -> bool {
        let pods = self.pods.by_index(pod::index::NAMESPACE, meta::namespace(secret));
        pods.iter().any(|pod| secret_names(pod).contains(meta::name(secret)))
    }

    async fn invalidate(&self, secret: &Secret, now: Timestamp) -> Result<()> {
        let today = now.to_zoned(TimeZone::UTC).date().to_string();
        let patch = json!({"metadata": {"uid": meta::uid(secret), "labels": {INVALID_SINCE: today}}});
        let patched = self.api(secret).patch(meta::name(secret), &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.or_gone(|| format!("mark the token {} as invalid", meta::key(secret))).map(drop)
    }

    async fn delete(&self, secret: &Secret) -> Result<()> {
        // Whoever has just used it has changed it.
        let preconditions = Preconditions { uid: None, resource_version: secret.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self
            .api(secret)
            .delete(meta::name(secret), &params)
            .await
            .or_gone(|| format!("delete the token {}", meta::key(secret)))
        {
            Err(error) if error.code() != Some(409) => Err(error),
            _ => Ok(()),
        }
    }

    fn api(&self, secret: &Secret) -> Api<Secret> {
        Api::namespaced(self.client.clone(), meta::namespace(secret))
    }
}

/// By the Secret alone; what was made or used since `oldest` is kept.
fn verdict(secret: &Secret, oldest: Timestamp) -> Verdict {
    let oldest_day = oldest.to_zoned(TimeZone::UTC).date();
    let label = |name: &str| secret.labels().get(name).map(|text| text.parse::<Date>());
    let used = match label(LAST_USED) {
        None => false,
        Some(Ok(day)) => day >= oldest_day,
        // Nobody can tell when it was used.
        Some(Err(_)) => true,
    };
    if meta::created(secret) >= oldest || meta::is_deleting(secret) || used {
        return Verdict::Keep;
    }
    match label(INVALID_SINCE) {
        Some(Ok(day)) if day >= oldest_day => Verdict::Keep,
        Some(Ok(_)) => Verdict::Delete,
        _ => Verdict::Invalidate,
    }
}

/// The Secrets that a pod names, anywhere in its spec.
fn secret_names(pod: &Pod) -> HashSet<&str> {
    let Some(spec) = &pod.spec else { return HashSet::new() };
    let pulls = spec.image_pull_secrets.iter().flatten().map(|own| own.name.as_str());
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let env = containers.clone().flat_map(|own| own.env.iter().flatten());
    let env = env.filter_map(|own| Some(own.value_from.as_ref()?.secret_key_ref.as_ref()?.name.as_str()));
    let env_from = containers.flat_map(|own| own.env_from.iter().flatten());
    let env_from = env_from.filter_map(|own| Some(own.secret_ref.as_ref()?.name.as_str()));
    let volumes = spec.volumes.iter().flatten();
    let whole = volumes.clone().filter_map(|own| own.secret.as_ref()?.secret_name.as_deref());
    let projected = volumes.filter_map(|own| own.projected.as_ref()).flat_map(|own| own.sources.iter().flatten());
    let projected = projected.filter_map(|own| Some(own.secret.as_ref()?.name.as_str()));
    pulls.chain(env).chain(env_from).chain(whole).chain(projected).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_tokens_are_marked_and_then_deleted() {
        let oldest: Timestamp = "2025-01-01T12:00:00Z".parse().unwrap();
        let (old, new) = ("2020-01-01T00:00:00Z", "2025-06-01T00:00:00Z");
        for (created, used, invalid, expected) in [
            (old, None, None, Verdict::Invalidate),
            (new, None, None, Verdict::Keep),
            (old, Some("2025-01-01"), None, Verdict::Keep),
            (old, Some("2024-12-31"), None, Verdict::Invalidate),
            (old, Some("yesterday"), None, Verdict::Keep),
            (old, None, Some("2025-01-01"), Verdict::Keep),
            (old, None, Some("2024-12-31"), Verdict::Delete),
            (old, None, Some("?"), Verdict::Invalidate),
        ] {
            let labels: serde_json::Map<_, _> = [(LAST_USED, used), (INVALID_SINCE, invalid)]
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
                .collect();
            let secret: Secret =
                serde_json::from_value(json!({"metadata": {"creationTimestamp": created, "labels": labels}})).unwrap();
            assert_eq!(verdict(&secret, oldest), expected, "{created} {used:?} {invalid:?}");
        }
    }

    #[test]
    fn a_pod_names_secrets_in_many_places() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}]}],
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "from"}}]}],
            "volumes": [{"name": "v", "secret": {"secretName": "volume"}},
                {"name": "p", "projected": {"sources": [{"secret": {"name": "projected"}}]}}],
        }}))
        .unwrap();
        let mut names: Vec<_> = secret_names(&pod).into_iter().collect();
        names.sort_unstable();
        assert_eq!(names, ["env", "from", "projected", "pull", "volume"]);
    }
}
