//! What a pod's spec is when the user does not say: for pods and for the templates of pods.

use apimachinery::Value;
use apimachinery::quantity::Quantity;
use oci_spec::distribution::Reference;

use registry::edit::{at, default, default_number, default_text, each, object, remove, text};

/// Defaults of a spec in a template; a pod itself has [more](pod).
pub fn template_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    default_text(spec, "restartPolicy", "Always");
    default(spec, "terminationGracePeriodSeconds", 30);
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "schedulerName", "default-scheduler");
    object(spec, "securityContext");
    service_account_names(spec);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, list, container);
    }
    each(spec, "volumes", volume);
    if let Some(resources) = at(spec, "resources") {
        resource_lists(resources);
    }
    if let Some(overhead) = at(spec, "overhead") {
        round_to_milli(overhead);
    }
}

/// Defaults of a pod's own spec.
pub fn pod(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    template_spec(spec);
    default(spec, "enableServiceLinks", true);
    let host_network = spec["hostNetwork"] == true;
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| {
            if let Some(resources) = at(container, "resources") {
                requests_from_limits(resources);
            }
            if host_network {
                each(container, "ports", |port| {
                    let container_port = port["containerPort"].as_i64().unwrap_or_default();
                    if container_port != 0 {
                        default_number(port, "hostPort", container_port);
                    }
                });
            }
        });
    }
    if let Some(resources) = at(spec, "resources") {
        requests_from_limits(resources);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`: both are always shown.
pub fn service_account_names(spec: &mut Value) {
    let name = ["serviceAccountName", "serviceAccount"].map(|n| text(spec, n).to_owned());
    match name {
        [name, old] if name.is_empty() && old.is_empty() => {}
        [name, old] => {
            let name = if name.is_empty() { old } else { name };
            spec["serviceAccountName"] = name.clone().into();
            spec["serviceAccount"] = name.into();
        }
    }
}

fn requests_from_limits(resources: &mut Value) {
    let Some(limits) = resources.get("limits").and_then(Value::as_object).filter(|l| !l.is_empty()).cloned() else {
        return;
    };
    let requests = object(resources, "requests");
    for (name, limit) in limits {
        default(requests, &name, limit);
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(text(container, "image"));
    default_text(container, "imagePullPolicy", policy);
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    each(container, "ports", |port| default_text(port, "protocol", "TCP"));
    each(container, "env", |env| {
        if let Some(field) = at(env, "valueFrom.fieldRef") {
            default_text(field, "apiVersion", "v1");
        }
        if let Some(file) = at(env, "valueFrom.fileKeyRef") {
            default(file, "optional", false);
        }
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = at(container, name) {
            default_number(probe, "timeoutSeconds", 1);
            default_number(probe, "periodSeconds", 10);
            default_number(probe, "successThreshold", 1);
            default_number(probe, "failureThreshold", 3);
            handler(probe);
            if let Some(grpc) = at(probe, "grpc") {
                default(grpc, "service", "");
            }
        }
    }
    for hook in ["lifecycle.postStart", "lifecycle.preStop"] {
        if let Some(hook) = at(container, hook) {
            handler(hook);
        }
    }
    if let Some(resources) = at(container, "resources") {
        resource_lists(resources);
    }
    if let Some(security) = at(container, "securityContext.procMount").filter(|p| *p == "") {
        *security = "Default".into();
    }
}

fn handler(handler: &mut Value) {
    if let Some(http) = at(handler, "httpGet") {
        default_text(http, "path", "/");
        default_text(http, "scheme", "HTTP");
    }
}

/// Images that may change under their name are pulled each time. What is no reference to an image is not looked at further.
pub fn pull_policy(image: &str) -> &'static str {
    match image.parse::<Reference>() {
        Ok(reference) if reference.tag() == Some("latest") => "Always",
        _ => "IfNotPresent",
    }
}

pub fn resource_lists(resources: &mut Value) {
    for list in ["limits", "requests"] {
        if let Some(list) = at(resources, list) {
            round_to_milli(list);
        }
    }
}

/// Upstream counts no resource finer than in thousandths.
pub fn round_to_milli(list: &mut Value) {
    for value in list.as_object_mut().into_iter().flat_map(|l| l.values_mut()) {
        let Some(quantity) = value.as_str().and_then(|q| Quantity::parse(q).ok()) else { continue };
        let milli = Quantity::from_milli(quantity.milli_value(), quantity.format());
        if quantity.milli_value() != i64::MAX && milli != quantity {
            *value = milli.to_string().into();
        }
    }
}

/// Permissions of files in volumes, `rw-r--r--`.
const MODE: i64 = 0o644;

/// Sources with what they are given; `items` lists are those of the downward API.
fn volume(volume: &mut Value) {
    let sources =
        volume.as_object().map_or(0, |v| v.iter().filter(|(name, v)| *name != "name" && !v.is_null()).count());
    if sources == 0 {
        object(volume, "emptyDir");
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = at(volume, source) {
            default(source, "defaultMode", MODE);
        }
    }
    if let Some(downward) = at(volume, "downwardAPI") {
        each(downward, "items", downward_item);
    }
    if let Some(projected) = at(volume, "projected") {
        each(projected, "sources", |source| {
            if let Some(downward) = at(source, "downwardAPI") {
                each(downward, "items", downward_item);
            }
            if let Some(token) = at(source, "serviceAccountToken") {
                default(token, "expirationSeconds", 3600);
            }
        });
    }
    if let Some(template) = at(volume, "ephemeral.volumeClaimTemplate") {
        default(object(template, "spec"), "volumeMode", "Filesystem");
    }
    if let Some(image) = at(volume, "image") {
        let policy = pull_policy(text(image, "reference"));
        default_text(image, "pullPolicy", policy);
    }
    source_defaults(volume);
}

/// Defaults of sources that persistent volumes have as well.
pub fn source_defaults(volume: &mut Value) {
    const TABLE: &[(&str, &[(&str, &str)])] = &[
        ("hostPath", &[("type", "")]),
        ("iscsi", &[("iscsiInterface", "default")]),
        ("rbd", &[("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")]),
        ("azureDisk", &[("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4")]),
        ("scaleIO", &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")]),
    ];
    for (source, defaults) in TABLE {
        if let Some(source) = at(volume, source) {
            defaults.iter().for_each(|(name, value)| default(source, name, *value));
        }
    }
    if let Some(disk) = at(volume, "azureDisk") {
        default(disk, "readOnly", false);
    }
}

fn downward_item(item: &mut Value) {
    if let Some(field) = at(item, "fieldRef") {
        default_text(field, "apiVersion", "v1");
    }
}

/// Drops what clients may send for a field that upstream fills from another: nothing but the old name of the service account.
pub fn canonicalize(spec: &mut Value) {
    if text(spec, "serviceAccountName").is_empty() {
        remove(spec, "serviceAccount");
    } else {
        spec["serviceAccount"] = spec["serviceAccountName"].clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_that_may_change_are_pulled_always() {
        let digest = format!("nginx@sha256:{}", "a".repeat(64));
        let both = format!("nginx:latest@sha256:{}", "a".repeat(64));
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/x:latest", "Always"),
            ("nginx@sha256:abc", "IfNotPresent"),
            (&digest, "IfNotPresent"),
            (&both, "Always"),
            ("ko://example.com/x", "IfNotPresent"),
            ("../x", "IfNotPresent"),
            (" ", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn limits_become_requests_and_fine_amounts_are_rounded() {
        let mut spec = json!({"containers": [{"image": "i:1", "resources": {
            "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "0.0001"}}}]});
        pod(&mut spec);
        assert_eq!(spec["containers"][0]["resources"]["requests"], json!({"cpu": "1m", "memory": "1Gi"}));
    }

    #[test]
    fn volumes_without_a_source_are_empty_dirs() {
        let mut spec = json!({"volumes": [{"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}, {"name": "c", "hostPath": {"path": "/"}}]});
        template_spec(&mut spec);
        assert_eq!(
            spec["volumes"],
            json!([
                {"name": "a", "emptyDir": {}},
                {"name": "b", "secret": {"secretName": "s", "defaultMode": 420}},
                {"name": "c", "hostPath": {"path": "/", "type": ""}}
            ])
        );
    }

    #[test]
    fn host_ports_follow_container_ports_on_the_hosts_network() {
        let mut spec = json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80}]}]});
        pod(&mut spec);
        assert_eq!(spec["containers"][0]["ports"][0], json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"}));
    }
}
