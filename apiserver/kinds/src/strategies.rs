//! Which file holds what is special to which row. A kind that is not named here is generic.

use super::{
    admissionregistration, apiextensions, apiregistration, apiserverinternal, apps, autoscaling, batch, certificates,
    coordination, core, discovery, flowcontrol, networking, node, policy, rbac, resource, scheduling, storage,
    storagemigration,
};
use registry::strategy::Strategy;

/// The strategy of a resource. Versions of a kind share one, unless their members differ.
pub fn strategy(group: &str, version: &str, plural: &str) -> &'static Strategy {
    match group {
        "" | "events.k8s.io" => core_group(plural),
        "apps" => match plural {
            "controllerrevisions" => &apps::controller_revision::STRATEGY,
            "daemonsets" => &apps::daemon_set::STRATEGY,
            "deployments" => &apps::deployment::STRATEGY,
            "replicasets" => &apps::replica_set::STRATEGY,
            "statefulsets" => &apps::stateful_set::STRATEGY,
            _ => &Strategy::GENERIC,
        },
        "batch" => match plural {
            "cronjobs" => &batch::cron_job::STRATEGY,
            "jobs" => &batch::job::STRATEGY,
            _ => &Strategy::GENERIC,
        },
        "networking.k8s.io" => match plural {
            "ingressclasses" => &networking::ingress_class::STRATEGY,
            "ingresses" => &networking::ingress::STRATEGY,
            "ipaddresses" => &networking::ip_address::STRATEGY,
            "networkpolicies" => &networking::network_policy::STRATEGY,
            "servicecidrs" => &networking::service_cidr::STRATEGY,
            _ => &Strategy::GENERIC,
        },
        "rbac.authorization.k8s.io" => match plural {
            "clusterrolebindings" => &rbac::binding::CLUSTER_ROLE_BINDING,
            "clusterroles" => &rbac::role::CLUSTER_ROLE,
            "rolebindings" => &rbac::binding::ROLE_BINDING,
            "roles" => &rbac::role::ROLE,
            _ => &Strategy::GENERIC,
        },
        "storage.k8s.io" => match plural {
            "csidrivers" => &storage::csi_driver::STRATEGY,
            "csinodes" => &storage::csi_node::STRATEGY,
            "csistoragecapacities" => &storage::csi_storage_capacity::STRATEGY,
            "storageclasses" => &storage::storage_class::STRATEGY,
            "volumeattachments" => &storage::volume_attachment::STRATEGY,
            "volumeattributesclasses" => &storage::volume_attributes_class::STRATEGY,
            _ => &Strategy::GENERIC,
        },
        "admissionregistration.k8s.io" => match plural {
            "mutatingadmissionpolicies" => &admissionregistration::policy::MUTATING,
            "mutatingadmissionpolicybindings" => &admissionregistration::policy_binding::MUTATING,
            "mutatingwebhookconfigurations" => &admissionregistration::webhook::MUTATING,
            "validatingadmissionpolicies" => &admissionregistration::policy::VALIDATING,
            "validatingadmissionpolicybindings" => &admissionregistration::policy_binding::VALIDATING,
            "validatingwebhookconfigurations" => &admissionregistration::webhook::VALIDATING,
            _ => &Strategy::GENERIC,
        },
        "resource.k8s.io" => match plural {
            "deviceclasses" => &resource::device_class::STRATEGY,
            "devicetaintrules" => &resource::device_taint_rule::STRATEGY,
            "resourceclaims" => &resource::claim::CLAIM,
            "resourceclaimtemplates" => &resource::claim::TEMPLATE,
            "resourceslices" => &resource::slice::STRATEGY,
            _ => &Strategy::GENERIC,
        },
        "autoscaling" => match (version, plural) {
            ("v1", "horizontalpodautoscalers") => &autoscaling::horizontal_pod_autoscaler::V1,
            (_, "horizontalpodautoscalers") => &autoscaling::horizontal_pod_autoscaler::V2,
            _ => &Strategy::GENERIC,
        },
        _ => small_groups(group, plural),
    }
}

fn core_group(plural: &str) -> &'static Strategy {
    match plural {
        "componentstatuses" => &core::component_status::STRATEGY,
        "configmaps" => &core::config_map::STRATEGY,
        "endpoints" => &core::endpoints::STRATEGY,
        "events" => &core::event::STRATEGY,
        "limitranges" => &core::limit_range::STRATEGY,
        "namespaces" => &core::namespace::STRATEGY,
        "nodes" => &core::node::STRATEGY,
        "persistentvolumeclaims" => &core::persistent_volume_claim::STRATEGY,
        "persistentvolumes" => &core::persistent_volume::STRATEGY,
        "pods" => &core::pod::STRATEGY,
        "podtemplates" => &core::pod_template::STRATEGY,
        "replicationcontrollers" => &core::replication_controller::STRATEGY,
        "resourcequotas" => &core::resource_quota::STRATEGY,
        "secrets" => &core::secret::STRATEGY,
        "serviceaccounts" => &core::service_account::STRATEGY,
        "services" => &core::service::STRATEGY,
        _ => &Strategy::GENERIC,
    }
}

fn small_groups(group: &str, plural: &str) -> &'static Strategy {
    match (group, plural) {
        ("apiextensions.k8s.io", "customresourcedefinitions") => &apiextensions::custom_resource_definition::STRATEGY,
        ("apiregistration.k8s.io", "apiservices") => &apiregistration::api_service::STRATEGY,
        ("certificates.k8s.io", "certificatesigningrequests") => &certificates::certificate_signing_request::STRATEGY,
        ("certificates.k8s.io", "clustertrustbundles") => &certificates::cluster_trust_bundle::STRATEGY,
        ("certificates.k8s.io", "podcertificaterequests") => &certificates::pod_certificate_request::STRATEGY,
        ("coordination.k8s.io", "leasecandidates") => &coordination::lease_candidate::STRATEGY,
        ("coordination.k8s.io", "leases") => &coordination::lease::STRATEGY,
        ("discovery.k8s.io", "endpointslices") => &discovery::endpoint_slice::STRATEGY,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &flowcontrol::flow_schema::STRATEGY,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => &flowcontrol::priority_level::STRATEGY,
        ("internal.apiserver.k8s.io", "storageversions") => &apiserverinternal::storage_version::STRATEGY,
        ("node.k8s.io", "runtimeclasses") => &node::runtime_class::STRATEGY,
        ("policy", "poddisruptionbudgets") => &policy::pod_disruption_budget::STRATEGY,
        ("scheduling.k8s.io", "priorityclasses") => &scheduling::priority_class::STRATEGY,
        ("scheduling.k8s.io", "workloads") => &scheduling::workload::STRATEGY,
        ("storagemigration.k8s.io", "storageversionmigrations") => {
            &storagemigration::storage_version_migration::STRATEGY
        }
        _ => &Strategy::GENERIC,
    }
}
