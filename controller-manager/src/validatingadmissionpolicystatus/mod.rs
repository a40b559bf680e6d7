//! validatingadmissionpolicy-status-controller: tells in the status of a ValidatingAdmissionPolicy which of its expressions do not fit
//! the types that it is about. (KEP-3488)
//!
//! | file | what |
//! |---|---|
//! | [`kinds`] | which kinds a policy is about |
//! | [`check`] | its expressions, held against types |
//!
//! Policies are checked once per generation: what the API server serves later does not make it look again (nor does upstream).

mod check;
mod kinds;

use component_base::{
    controller::{self, Action},
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    discovery::Discovery,
};
use kubernetes_cel::{Type, openapi};
use serde_json::{Value, json};

use crate::{
    common::{Doing, Error, Result, meta},
    context::Context,
};
use kinds::Kind;

/// Who writes the status, as managed fields tell.
const MANAGER: &str = "validatingadmissionpolicy-status";

pub async fn run(context: Context) {
    let policies = context.factory.store::<ValidatingAdmissionPolicy>(Scope::all());
    let queue = WorkQueue::new("validatingadmissionpolicy-status");
    let feed = queue.clone();
    policies.on_change(move |change| {
        if !matches!(change, Change::Deleted(_)) {
            feed.add(change.key());
        }
    });
    policies.synced().await;
    let (policies, client) = (&policies, &context.client);
    let workers = context.options.workers.concurrent_validating_admission_policy_status_syncs;
    controller::run(context.name, queue, workers, context.shutdown, |key| async move {
        reconcile(policies, client, &key).await
    })
    .await;
}

async fn reconcile(policies: &Store<ValidatingAdmissionPolicy>, client: &Client, key: &ObjectKey) -> Result {
    let Some(policy) = policies.get(key) else { return Ok(Action::Done) };
    let generation = policy.metadata.generation;
    if policy.status.as_ref().and_then(|status| status.observed_generation) == generation {
        return Ok(Action::Done);
    }
    let warnings = warnings(client, &policy).await?;
    let patch = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": key.name},
        "status": {"observedGeneration": generation, "typeChecking": {"expressionWarnings": warnings}},
    });
    let api: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let params = PatchParams::apply(MANAGER).force();
    api.patch_status(&key.name, &params, &Patch::Apply(patch))
        .await
        .or_gone(|| format!("tell what is wrong with ValidatingAdmissionPolicy {}", meta::name(policy.as_ref())))?;
    Ok(Action::Done)
}

/// `{fieldRef, warning}` of each expression that does not fit.
async fn warnings(client: &Client, policy: &ValidatingAdmissionPolicy) -> Result<Vec<Value>> {
    let Some(spec) = &policy.spec else { return Ok(Vec::new()) };
    let rules =
        spec.match_constraints.as_ref().and_then(|matches| matches.resource_rules.as_deref()).unwrap_or_default();
    let wanted = kinds::resources(rules);
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let discovery = Discovery::new(client.clone()).run_aggregated().await;
    let discovery = discovery.doing(|| "discover what the API server serves".to_owned())?;
    let params = match &spec.param_kind {
        None => None,
        Some(kind) => {
            let kind = kinds::of_params(kind);
            // Of settings whose type nobody knows, anything may be asked.
            Some(declared(client, &kind).await?.unwrap_or(Type::Dyn))
        }
    };
    let mut types = Vec::new();
    for kind in kinds::served(&discovery, &wanted) {
        if let Some(ty) = declared(client, &kind).await? {
            types.push((kind, ty));
        }
    }
    Ok(check::check(spec, &types, params.as_ref()))
}

/// The type of a kind's objects; none where the API server publishes none. The document is dropped again: it is large, and policies
/// change seldom.
async fn declared(client: &Client, kind: &Kind) -> Result<Option<Type>> {
    let path = if kind.group.is_empty() {
        format!("/openapi/v3/api/{}", kind.version)
    } else {
        format!("/openapi/v3/apis/{}/{}", kind.group, kind.version)
    };
    let request = http::Request::get(&path).body(Vec::new()).map_err(|e| Error::Invalid(format!("{kind}: {e}")))?;
    let document: Value = match client.request(request).await {
        Ok(document) => document,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
        Err(error) => return Err(error).doing(|| format!("read the schema of {kind}")),
    };
    let schema = openapi::of_kind(&document, &kind.group, &kind.version, &kind.kind);
    Ok(schema.map(|schema| openapi::declare(&document, schema)))
}
