//! Gathers what Kubernetes says of its types and fields from the schemas that k8s-openapi carries, and leaves it, compressed, for
//! the library to include. The texts are not part of this project's sources, and no binary links the types they are read from.

use flate2::{Compression, write::GzEncoder};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Write;
use std::{env, fs, path::Path};

/// Asks for the schema of each type that is named; those that it refers to come with it.
macro_rules! read {
    ($generator:ident: $($($package:ident)::+ => $($kind:ident)+;)+) => {
        $({
            use k8s_openapi::$($package)::+::*;
            $($generator.subschema_for::<$kind>();)+
        })+
    };
}

/// The types that others are reached from: every kind, and what is sent besides objects.
#[rustfmt::skip]
fn roots(to: &mut SchemaGenerator) {
    read! { to:
        api::admissionregistration::v1 => MutatingWebhookConfiguration ValidatingAdmissionPolicy
            ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration;
        api::admissionregistration::v1alpha1 => MutatingAdmissionPolicy MutatingAdmissionPolicyBinding;
        api::admissionregistration::v1beta1 => MutatingAdmissionPolicy MutatingAdmissionPolicyBinding;
        api::apiserverinternal::v1alpha1 => StorageVersion;
        api::apps::v1 => ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
        api::authentication::v1 => SelfSubjectReview TokenRequest TokenReview;
        api::authorization::v1 => LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview;
        api::autoscaling::v1 => HorizontalPodAutoscaler Scale;
        api::autoscaling::v2 => HorizontalPodAutoscaler;
        api::batch::v1 => CronJob Job;
        api::certificates::v1 => CertificateSigningRequest;
        api::certificates::v1alpha1 => ClusterTrustBundle;
        api::certificates::v1beta1 => ClusterTrustBundle PodCertificateRequest;
        api::coordination::v1 => Lease;
        api::coordination::v1alpha2 => LeaseCandidate;
        api::coordination::v1beta1 => LeaseCandidate;
        api::core::v1 => Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
            PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount;
        api::discovery::v1 => EndpointSlice;
        api::events::v1 => Event;
        api::flowcontrol::v1 => FlowSchema PriorityLevelConfiguration;
        api::networking::v1 => IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR;
        api::networking::v1beta1 => IPAddress ServiceCIDR;
        api::node::v1 => RuntimeClass;
        api::policy::v1 => Eviction PodDisruptionBudget;
        api::rbac::v1 => ClusterRole ClusterRoleBinding Role RoleBinding;
        api::resource::v1 => DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice;
        api::resource::v1alpha3 => DeviceTaintRule;
        api::resource::v1beta1 => DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice;
        api::resource::v1beta2 => DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice;
        api::scheduling::v1 => PriorityClass;
        api::scheduling::v1alpha1 => Workload;
        api::storage::v1 => CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass;
        api::storage::v1beta1 => VolumeAttributesClass;
        api::storagemigration::v1beta1 => StorageVersionMigration;
        apiextensions_apiserver::pkg::apis::apiextensions::v1 => CustomResourceDefinition;
        apimachinery::pkg::apis::meta::v1 => APIGroup APIGroupList APIResourceList APIVersions Condition DeleteOptions
            ListMeta MicroTime Patch Status Time;
        apimachinery::pkg::api::resource => Quantity;
        apimachinery::pkg::runtime => RawExtension;
        apimachinery::pkg::util::intstr => IntOrString;
        apimachinery::pkg::version => Info;
        kube_aggregator::pkg::apis::apiregistration::v1 => APIService;
    }
}

/// The text of each field by type and field; under the empty name that of the type.
type Texts = BTreeMap<(String, String), String>;

fn gather(definitions: &Map<String, Value>) -> Texts {
    let text = |schema: &Value| schema["description"].as_str().map(str::to_owned);
    let mut texts = Texts::new();
    for (name, schema) in definitions {
        texts.extend(text(schema).map(|text| ((name.clone(), String::new()), text)));
        let fields = schema["properties"].as_object().into_iter().flatten();
        texts.extend(fields.filter_map(|(field, schema)| Some(((name.clone(), field.clone()), text(schema)?))));
    }
    texts
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    roots(&mut generator);
    let out = env::var("OUT_DIR")?;
    let mut file = GzEncoder::new(fs::File::create(Path::new(&out).join("documentation.gz"))?, Compression::best());
    // Records of three texts, each ended by a zero byte, in order of type and field.
    for ((name, field), text) in gather(generator.definitions()) {
        for part in [name, field, text] {
            assert!(!part.contains('\0'), "{part}: a zero byte would end the text");
            file.write_all(part.as_bytes())?;
            file.write_all(b"\0")?;
        }
    }
    file.finish()?;
    Ok(())
}
