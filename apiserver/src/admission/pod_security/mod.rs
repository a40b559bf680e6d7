//! Pod Security: the policy that a namespace's labels ask for. (KEP-2579) [`checks`] are the policy's rules; here is which of
//! them apply to what, and what becomes of a violation: `enforce` refuses pods, `warn` warns, also of pod templates.

mod checks;

use super::{Attributes, Operation, Plugin};
use crate::api::Api;
use crate::status::Result;
use apimachinery::Value;
use checks::{CHECKS, Level};
use futures::future::BoxFuture;

pub struct PodSecurity;

const PREFIX: &str = "pod-security.kubernetes.io/";
/// Versions of the policy are those of Kubernetes; later ones than ours are taken as ours.
const LATEST: u32 = 35;

/// What a namespace asks for in one mode.
#[derive(Debug, PartialEq)]
struct Policy {
    level: Level,
    /// The minor version.
    version: u32,
    /// As it was written: `latest`, `v1.30`.
    shown: String,
}

impl Policy {
    fn of(labels: &Value, mode: &str) -> Policy {
        let label = |name: String| labels[name.as_str()].as_str();
        let level = match label(format!("{PREFIX}{mode}")) {
            None | Some("privileged") => Level::Privileged,
            Some("baseline") => Level::Baseline,
            // A word nobody knows is taken for the strictest.
            Some(_) => Level::Restricted,
        };
        let shown = label(format!("{PREFIX}{mode}-version")).unwrap_or("latest");
        let version = shown.strip_prefix("v1.").and_then(|minor| minor.parse().ok()).unwrap_or(LATEST);
        Policy { level, version: version.min(LATEST), shown: shown.to_owned() }
    }

    /// What of the pod violates the policy, in words; none if nothing.
    fn violations(&self, metadata: &Value, spec: &Value) -> Option<String> {
        let pod = checks::Pod { metadata, spec };
        let found: Vec<String> = CHECKS
            .iter()
            .filter(|check| check.level <= self.level && self.version >= check.since)
            // A stricter rule on the same subject stands in for the weaker one.
            .filter(|check| check.replaced_at.is_none_or(|level| self.level < level))
            .filter_map(|check| (check.find)(&pod).map(|detail| format!("{} ({detail})", check.what)))
            .collect();
        let level = match self.level {
            Level::Privileged => return None,
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        (!found.is_empty()).then(|| format!("PodSecurity \"{level}:{}\": {}", self.shown, found.join(", ")))
    }
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

impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
            let whole = matches!(attributes.subresource, "" | "ephemeralcontainers");
            let Some(object) = attributes.object.as_ref().filter(|_| writes && whole) else { return Ok(()) };
            let Some((metadata, spec)) = pod_in(attributes, object) else { return Ok(()) };
            // What an update leaves alone was judged before.
            if attributes.old.is_some_and(|old| pod_in(attributes, old).is_some_and(|(_, was)| was == spec)) {
                return Ok(());
            }
            let namespaces = api.builtin("", "v1", "namespaces")?;
            let Ok(namespace) = api.cached(&namespaces, "", attributes.namespace) else { return Ok(()) };
            if !namespace.labels.iter().any(|(key, _)| key.starts_with(PREFIX)) {
                return Ok(());
            }
            let labels = &namespace.tree()["metadata"]["labels"];
            if attributes.is_resource("", "pods")
                && let Some(found) = Policy::of(labels, "enforce").violations(metadata, spec)
            {
                return Err(attributes.forbidden(&format!("violates {found}")));
            }
            if let Some(found) = Policy::of(labels, "warn").violations(metadata, spec) {
                attributes.warnings.push(format!("would violate {found}"));
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn restricted(spec: Value) -> Option<String> {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        Policy::of(&labels, "enforce").violations(&json!({}), &spec)
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
        let baseline = |spec: Value| Policy::of(&labels, "enforce").violations(&json!({}), &spec);
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
