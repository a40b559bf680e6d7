//! Pod Security: the policy that a namespace's labels ask for. (KEP-2579) What becomes of a violation: `enforce` refuses pods, `warn`
//! warns, also of pod templates, `audit` leaves a note for the audit log.
//!
//! | file | what |
//! |---|---|
//! | [`checks`] | the rules |
//! | [`policy`] | which of them labels and defaults ask for |
//! | [`configuration`] | defaults and exemptions, from `--admission-control-config-file` |
//! | [`namespace`] | the pods that are there when a namespace asks for more |

mod checks;
mod configuration;
mod namespace;
mod policy;

use super::namespace_lifecycle;
use apimachinery::Value;
use checks::Level;
use configuration::Exemptions;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use http::StatusCode;
use policy::{PREFIX, Policies};
use request::status::{Result, Status};

#[derive(Default)]
pub struct PodSecurity {
    /// What holds where a namespace has no labels.
    defaults: Policies,
    exemptions: Exemptions,
}

/// Where the pod is in an object: its metadata and spec.
fn pod_in<'a>(attributes: &Attributes<'_>, object: &'a Value) -> Option<(&'a Value, &'a Value)> {
    let row = &attributes.endpoint.row;
    let template = match (row.kind.group.as_str(), row.plural.as_str()) {
        ("", "pods") => return Some((&object["metadata"], &object["spec"])),
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &object["spec"]["template"],
        ("batch", "cronjobs") => &object["spec"]["jobTemplate"]["spec"]["template"],
        ("", "podtemplates") => &object["template"],
        _ => return None,
    };
    template.is_object().then(|| (&template["metadata"], &template["spec"]))
}

/// The runtime class of a pod; empty for none.
fn pod_class(spec: &Value) -> &str {
    spec["runtimeClassName"].as_str().unwrap_or_default()
}

/// Whether an update of a pod changes what the rules look at: of what they do, only images and the annotations that seccomp once was
/// asked for by can change. A pod that was there before its namespace asked for more can still be worked with otherwise.
fn is_significant(pod: &Value, old: &Value) -> bool {
    fn images(pod: &Value) -> [Vec<&Value>; 3] {
        ["containers", "initContainers", "ephemeralContainers"]
            .map(|list| pod["spec"][list].as_array().into_iter().flatten().map(|c| &c["image"]).collect())
    }
    fn seccomp(pod: &Value) -> Vec<(&String, &Value)> {
        let annotations = pod["metadata"]["annotations"].as_object();
        annotations.into_iter().flatten().filter(|(key, _)| key.contains("seccomp.security.alpha.")).collect()
    }
    images(pod) != images(old) || seccomp(pod) != seccomp(old)
}

impl PodSecurity {
    /// With its part of the admission configuration, if it has one.
    pub fn new(configuration: Option<&Value>) -> anyhow::Result<PodSecurity> {
        let Some(configuration) = configuration else { return Ok(PodSecurity::default()) };
        let (defaults, exemptions) = configuration::read(configuration)?;
        Ok(PodSecurity { defaults, exemptions })
    }

    /// A namespace's labels make sense where they are new, and the client hears of pods that they would refuse.
    fn validate_namespace(&self, api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
        let Some(object) = &attributes.object else { return Ok(()) };
        let policies = |object: &Value| Policies::of(&object["metadata"]["labels"], &self.defaults);
        let (new, errors) = policies(object);
        let old = attributes.old.map(policies);
        if !errors.is_empty() && old.as_ref().is_none_or(|(_, before)| *before != errors) {
            let why = match errors.as_slice() {
                [one] => one.clone(),
                several => format!("[{}]", several.join(", ")),
            };
            let status = attributes.forbidden(&why);
            return Err(Status { code: StatusCode::UNPROCESSABLE_ENTITY, reason: "Invalid".into(), ..status });
        }
        let (Some((old, _)), name) = (old, attributes.name) else { return Ok(()) };
        let relaxed = new.enforce.is_same_version(&old.enforce) && new.enforce.level <= old.enforce.level;
        if relaxed || new.enforce.level == Level::Privileged || self.exemptions.namespaces.contains(name) {
            return Ok(());
        }
        let warnings = namespace::warnings(api, &self.exemptions, name, &new.enforce)?;
        attributes.warnings.extend(warnings);
        Ok(())
    }

    async fn validate_pod(&self, api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
        let whole = matches!(attributes.subresource, "" | "ephemeralcontainers");
        let Some(object) = attributes.object.as_ref().filter(|_| whole) else { return Ok(()) };
        let Some((metadata, spec)) = pod_in(attributes, object) else { return Ok(()) };
        let is_pod = attributes.is_resource("", "pods");
        if is_pod && attributes.old.is_some_and(|old| !is_significant(object, old)) {
            return Ok(());
        }
        let exempt = &self.exemptions;
        if exempt.namespaces.contains(attributes.namespace)
            || exempt.usernames.contains(&attributes.user.name)
            || exempt.runtime_classes.contains(pod_class(spec))
        {
            return Ok(());
        }
        let namespace = namespace_lifecycle::namespace(api, attributes.namespace).await?;
        let labelled = namespace.labels.iter().any(|(key, _)| key.starts_with(PREFIX));
        let of_labels = labelled.then(|| Policies::of(&namespace.tree()["metadata"]["labels"], &self.defaults).0);
        let policies = of_labels.as_ref().unwrap_or(&self.defaults);
        if is_pod && let Some(found) = policies.enforce.told(metadata, spec) {
            return Err(attributes.forbidden(&format!("violates {found}")));
        }
        let (audit, warn) = (policies.audit.told(metadata, spec), policies.warn.told(metadata, spec));
        let audit = audit.map(|found| ("audit-violations".to_owned(), format!("would violate {found}")));
        let warn = warn.map(|found| format!("would violate {found}"));
        attributes.record("pod-security.kubernetes.io", warn.into_iter().collect(), audit.into_iter().collect());
        Ok(())
    }
}

impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("", "CU")
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match attributes.operation {
                Operation::Create | Operation::Update if attributes.is_resource("", "namespaces") => {
                    if attributes.subresource.is_empty() { self.validate_namespace(api, attributes) } else { Ok(()) }
                }
                Operation::Create | Operation::Update => self.validate_pod(api, attributes).await,
                _ => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn restricted(spec: Value) -> Option<String> {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        Policies::of(&labels, &Policies::default()).0.enforce.told(&json!({}), &spec)
    }

    #[test]
    fn a_pod_that_forgoes_everything_is_restricted() {
        let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        let spec = json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": context}],
        });
        assert_eq!(restricted(spec), None);
    }

    #[test]
    fn only_updates_of_what_rules_look_at_are_judged() {
        let pod = |image: &str, ephemeral: Value, annotation: &str| {
            json!({
                "metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": annotation}},
                "spec": {"containers": [{"name": "c", "image": image}], "ephemeralContainers": ephemeral},
            })
        };
        let old = pod("a", json!(null), "x");
        let mut tolerant = old.clone();
        tolerant["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        for (new, significant) in [
            (old.clone(), false),
            (tolerant, false),
            (pod("b", json!(null), "x"), true),
            (pod("a", json!([{"name": "e", "image": "e"}]), "x"), true),
            (pod("a", json!(null), "y"), true),
        ] {
            assert_eq!(is_significant(&new, &old), significant, "{new}");
        }
    }

    #[test]
    fn violations_are_told_in_upstreams_words() {
        let told = restricted(json!({"hostNetwork": true, "containers": [{"name": "c"}]})).unwrap();
        assert_eq!(
            told,
            "PodSecurity \"restricted:latest\": host namespaces (hostNetwork=true), \
             allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }

    #[test]
    fn baseline_forbids_only_known_escalations() {
        let labels = json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.30"});
        let baseline = |spec: Value| Policies::of(&labels, &Policies::default()).0.enforce.told(&json!({}), &spec);
        assert_eq!(baseline(json!({"containers": [{"name": "c"}]})), None);
        for spec in [
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            json!({"hostPID": true}),
            json!({"containers": [{"name": "c", "securityContext": {"privileged": true}}]}),
            json!({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]}),
            json!({"containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]}),
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}),
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            json!({"initContainers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]}),
        ] {
            assert!(baseline(spec.clone()).is_some_and(|told| told.contains("baseline:v1.30")), "{spec}");
        }
    }
}
