//! The table of controllers.

use futures::future::BoxFuture;

use crate::context::Context;

/// A controller: it runs until its context's shutdown.
pub struct Controller {
    pub name: &'static str,
    /// Its ServiceAccount in kube-system, to which the bootstrap policy binds its rights. Empty for one that needs what only
    /// the process itself has.
    pub account: &'static str,
    /// Names it had before; `--controllers` still takes them.
    pub aliases: &'static [&'static str],
    pub on_by_default: bool,
    pub run: fn(Context) -> BoxFuture<'static, ()>,
}

macro_rules! controllers {
    ($($name:literal, $account:literal, $aliases:expr, $on:expr, $run:path;)*) => {
        &[$(Controller {
            name: $name,
            account: $account,
            aliases: &$aliases,
            on_by_default: $on,
            run: |context| Box::pin($run(context)),
        }),*]
    };
}

/// Every controller there is, with upstream's names.
#[rustfmt::skip]
pub const CONTROLLERS: &[Controller] = controllers! {
    "bootstrap-signer-controller", "bootstrap-signer", ["bootstrapsigner"], false, crate::bootstrap::signer::run;
    "certificatesigningrequest-approving-controller", "certificate-controller", ["csrapproving"], true, crate::certificates::run_approver;
    "certificatesigningrequest-cleaner-controller", "certificate-controller", ["csrcleaner"], true, crate::certificates::run_cleaner;
    "certificatesigningrequest-signing-controller", "certificate-controller", ["csrsigning"], true, crate::certificates::run_signer;
    "clusterrole-aggregation-controller", "clusterrole-aggregation-controller", ["clusterrole-aggregation"], true, crate::clusterrole_aggregation::run;
    "cronjob-controller", "cronjob-controller", ["cronjob"], true, crate::cronjob::run;
    "daemonset-controller", "daemon-set-controller", ["daemonset"], true, crate::daemonset::run;
    "deployment-controller", "deployment-controller", ["deployment"], true, crate::deployment::run;
    "disruption-controller", "disruption-controller", ["disruption"], true, crate::disruption::run;
    "endpoints-controller", "endpoint-controller", ["endpoint"], true, crate::endpoints::run;
    "endpointslice-controller", "endpointslice-controller", ["endpointslice"], true, crate::endpointslice::run;
    "endpointslice-mirroring-controller", "endpointslicemirroring-controller", ["endpointslicemirroring"], true, crate::endpointslicemirroring::run;
    "ephemeral-volume-controller", "ephemeral-volume-controller", ["ephemeral-volume"], true, crate::volume::ephemeral::run;
    "garbage-collector-controller", "generic-garbage-collector", ["garbagecollector"], true, crate::garbagecollector::run;
    "horizontal-pod-autoscaler-controller", "horizontal-pod-autoscaler", ["horizontalpodautoscaling"], true, crate::podautoscaler::run;
    "job-controller", "job-controller", ["job"], true, crate::job::run;
    "legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner", ["legacy-service-account-token-cleaner"], true, crate::serviceaccount::token_cleaner::run;
    "namespace-controller", "namespace-controller", ["namespace"], true, crate::namespace::run;
    "node-ipam-controller", "node-controller", ["nodeipam"], true, crate::nodeipam::run;
    "node-lifecycle-controller", "node-controller", ["nodelifecycle"], true, crate::nodelifecycle::run;
    "persistentvolume-binder-controller", "persistent-volume-binder", ["persistentvolume-binder"], true, crate::volume::binder::run;
    "persistentvolume-protection-controller", "pv-protection-controller", ["pv-protection"], true, crate::volume::protection::run_volumes;
    "persistentvolumeclaim-protection-controller", "pvc-protection-controller", ["pvc-protection"], true, crate::volume::protection::run_claims;
    "pod-garbage-collector-controller", "pod-garbage-collector", ["podgc"], true, crate::podgc::run;
    "replicaset-controller", "replicaset-controller", ["replicaset"], true, crate::replicaset::run_replica_sets;
    "replicationcontroller-controller", "replication-controller", ["replicationcontroller"], true, crate::replicaset::run_replication_controllers;
    "resourcequota-controller", "resourcequota-controller", ["resourcequota"], true, crate::resourcequota::run;
    "root-ca-certificate-publisher-controller", "root-ca-cert-publisher", ["root-ca-cert-publisher"], true, crate::root_ca::run;
    "serviceaccount-controller", "service-account-controller", ["serviceaccount"], true, crate::serviceaccount::run;
    "serviceaccount-token-controller", "", ["serviceaccount-token"], true, crate::serviceaccount::tokens::run;
    "statefulset-controller", "statefulset-controller", ["statefulset"], true, crate::statefulset::run;
    "taint-eviction-controller", "node-controller", [], true, crate::taint_eviction::run;
    "token-cleaner-controller", "token-cleaner", ["tokencleaner"], false, crate::bootstrap::cleaner::run;
    "ttl-after-finished-controller", "ttl-after-finished-controller", ["ttl-after-finished"], true, crate::ttl_after_finished::run;
    "ttl-controller", "ttl-controller", ["ttl"], true, crate::ttl::run;
    "validatingadmissionpolicy-status-controller", "validatingadmissionpolicy-status-controller", ["validatingadmissionpolicy-status"], true, crate::validatingadmissionpolicystatus::run;
};

/// Controllers that upstream has and this process has not, by their names and older ones: `--controllers` takes them, and there is
/// nothing to turn on or off.
pub const ABSENT: &[(&str, &str)] = &[
    ("cloud-node-lifecycle-controller", "cloud-node-lifecycle"),
    ("device-taint-eviction-controller", ""),
    ("kube-apiserver-serving-clustertrustbundle-publisher-controller", ""),
    ("node-route-controller", "route"),
    ("persistentvolume-attach-detach-controller", "attachdetach"),
    ("persistentvolume-expander-controller", "persistentvolume-expander"),
    ("podcertificaterequest-cleaner-controller", ""),
    ("resourceclaim-controller", "resource-claim-controller"),
    ("selinux-warning-controller", ""),
    ("service-cidr-controller", ""),
    ("service-lb-controller", "service"),
    ("storage-version-migrator-controller", "svm"),
    ("storageversion-garbage-collector-controller", "storage-version-gc"),
    ("volumeattributesclass-protection-controller", ""),
];

/// Whether upstream has a controller of this name, here or not.
pub fn is_known(name: &str) -> bool {
    let here = CONTROLLERS.iter().any(|own| own.name == name || own.aliases.contains(&name));
    here || ABSENT.iter().any(|(own, alias)| !name.is_empty() && (*own == name || *alias == name))
}
