//! The admission plugins: what happens to a write between authorization and storage. Plugins that change the object run first, then
//! those that validate it. One plugin, one file; the order is upstream's, in [`chain`].

pub mod always_pull_images;
pub mod certificates;
pub mod configuration;
pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod extended_resource_toleration;
pub mod limit_ranger;
pub mod match_conditions;
pub mod mutating_webhook;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod persistent_volume_claim_resize;
pub mod pod_certificate;
pub mod pod_security;
pub mod policy;
pub mod priority;
pub mod resource_quota;
pub mod rules;
pub mod runtime_class;
pub mod service_account;
pub mod storage_object_in_use_protection;
pub mod taint_nodes_by_condition;
pub mod validating_webhook;
pub mod webhook;

use anyhow::Context;
use component_base::feature_gates::FeatureGates;
use configuration::Configurations;
use default_toleration_seconds::DefaultTolerationSeconds;
use handlers::api::admission::{Chain, Plugin};
use pod_security::PodSecurity;

/// Plugins that only `--enable-admission-plugins` switches on.
const OFF_BY_DEFAULT: [&str; 3] = ["AlwaysPullImages", "ExtendedResourceToleration", "NodeRestriction"];

/// The plugins in upstream's order: those that are on by default or in `enabled`, less those in `disabled`.
/// Policies that mutate need their gate as well. Fails on a configuration that its plugin does not understand.
pub fn chain(
    enabled: &[String],
    disabled: &[String],
    configured: &Configurations,
    gates: &FeatureGates,
    tolerations: DefaultTolerationSeconds,
) -> anyhow::Result<Chain> {
    let pod_security = PodSecurity::new(configured.get("PodSecurity"));
    let pod_security = pod_security.context("the configuration of the admission plugin PodSecurity")?;
    let mut plugins: Vec<Box<dyn Plugin>> = vec![
        Box::new(namespace_lifecycle::NamespaceLifecycle),
        Box::new(limit_ranger::LimitRanger),
        Box::new(service_account::ServiceAccount),
        Box::new(node_restriction::NodeRestriction),
        Box::new(taint_nodes_by_condition::TaintNodesByCondition),
        Box::new(always_pull_images::AlwaysPullImages),
        Box::new(pod_security),
        Box::new(priority::Priority),
        Box::new(tolerations),
        Box::new(extended_resource_toleration::ExtendedResourceToleration),
        Box::new(default_storage_class::DefaultStorageClass),
        Box::new(storage_object_in_use_protection::StorageObjectInUseProtection),
        Box::new(persistent_volume_claim_resize::PersistentVolumeClaimResize),
        Box::new(runtime_class::RuntimeClass),
        Box::new(certificates::CertificateApproval),
        Box::new(certificates::CertificateSigning),
        Box::new(certificates::ClusterTrustBundleAttest),
        Box::new(certificates::CertificateSubjectRestriction),
        Box::new(default_ingress_class::DefaultIngressClass),
        Box::new(policy::mutating::MutatingAdmissionPolicy::default()),
        Box::new(mutating_webhook::MutatingWebhook::default()),
        Box::new(policy::validating::ValidatingAdmissionPolicy::default()),
        Box::new(validating_webhook::ValidatingWebhook::default()),
        Box::new(resource_quota::ResourceQuota),
    ];
    let named = |list: &[String], name: &str| list.iter().any(|n| n == name);
    plugins.retain(|p| {
        let on = !OFF_BY_DEFAULT.contains(&p.name()) || named(enabled, p.name());
        let gated = p.name() == "MutatingAdmissionPolicy" && !gates.enabled(p.name());
        on && !gated && !named(disabled, p.name())
    });
    Ok(Chain::new(plugins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_takes_part_in_some_operation() {
        let gates: FeatureGates = "AllAlpha=true,AllBeta=true".parse().unwrap_or_default();
        let all = OFF_BY_DEFAULT.map(str::to_owned);
        let chain = chain(&all, &[], &Default::default(), &gates, Default::default()).unwrap();
        assert_eq!(chain.plugins().count(), 24);
        for plugin in chain.plugins() {
            let (admits, validates) = plugin.operations();
            assert!(!admits.is_empty() || !validates.is_empty(), "{}", plugin.name());
        }
    }
}
