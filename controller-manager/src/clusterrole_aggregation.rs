//! clusterrole-aggregation-controller: fills ClusterRoles that say which others they are made of (`admin`, `edit`, `view`).

use component_base::{
    controller::{self, Action},
    informer::{ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    common::{Doing, Result, meta},
    context::Context,
};

const WORKERS: usize = 5;

pub async fn run(context: Context) {
    let roles = context.factory.store::<ClusterRole>(Scope::all());
    let queue = WorkQueue::new("ClusterRoleAggregator");
    let (feed, store) = (queue.clone(), roles.clone());
    roles.on_change(move |_| {
        let aggregated = store.list().into_iter().filter(|role| role.aggregation_rule.is_some());
        aggregated.for_each(|role| feed.add(meta::key(role.as_ref())));
    });
    roles.synced().await;
    let (roles, client) = (&roles, &context.client);
    controller::run(context.name, queue, WORKERS, context.shutdown, |key| async move {
        reconcile(roles, client, &key).await
    })
    .await;
}

async fn reconcile(roles: &Store<ClusterRole>, client: &Client, key: &ObjectKey) -> Result {
    let Some(role) = roles.get(key) else { return Ok(Action::Done) };
    let Some(rule) = &role.aggregation_rule else { return Ok(Action::Done) };
    let mut parts = Vec::new();
    for selector in rule.cluster_role_selectors.iter().flatten() {
        let selector = meta::selector(selector)?;
        let all = roles.list().into_iter();
        let mut matching: Vec<_> = all
            .filter(|part| meta::name(part.as_ref()) != key.name && meta::matches(&selector, part.as_ref()))
            .collect();
        // In a stable order, or two runs would write over each other for ever.
        matching.sort_by(|left, right| meta::name(left.as_ref()).cmp(meta::name(right.as_ref())));
        parts.extend(matching);
    }
    let rules = union(parts.iter().flat_map(|part| part.rules.iter().flatten()));
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Ok(Action::Done);
    }
    let patch = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": key.name}, "rules": rules,
    });
    // Applied, so that what others put onto the role stays theirs.
    let params = PatchParams::apply("clusterrole-aggregation-controller").force();
    let api: Api<ClusterRole> = Api::all(client.clone());
    let what = || format!("aggregate ClusterRole {key}");
    api.patch(&key.name, &params, &Patch::Apply(patch)).await.or_gone(what)?;
    Ok(Action::Done)
}

/// Each rule once, in the order in which they come.
fn union<'a>(rules: impl Iterator<Item = &'a PolicyRule>) -> Vec<PolicyRule> {
    let mut union: Vec<PolicyRule> = Vec::new();
    for rule in rules {
        if !union.contains(rule) {
            union.push(rule.clone());
        }
    }
    union
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_joined_without_repetition() {
        let rule = |verb: &str| PolicyRule { verbs: vec![verb.into()], ..PolicyRule::default() };
        let rules = [rule("get"), rule("list"), rule("get")];
        assert_eq!(union(rules.iter()), [rule("get"), rule("list")]);
    }
}
