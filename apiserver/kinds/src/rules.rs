//! The rules of kinds as a table: an object that is fine, one change to it, and where that is an error.

use apimachinery::Value;
use apimachinery::codec::Report;
use apimachinery::validation::{Cursor, Errors};
use serde_json::json;

use crate::rows::builtin;
use registry::resource::Resource;
use registry::strategy::Context;

fn row<'a>(rows: &'a [std::sync::Arc<Resource>], name: &str) -> &'a Resource {
    let (group, plural) = name.split_once('/').unwrap_or(("", name));
    rows.iter().find(|r| r.kind.group == group && r.plural == plural).unwrap_or_else(|| panic!("{name}"))
}

fn made(row: &Resource, mut object: Value) -> Value {
    let context = Context { user: &request::user::NOBODY, now: "2024-01-01T00:00:00Z", labelled: false };
    row.form.normalize(&mut object, &mut Report::default()).unwrap();
    (row.strategy.default)(&mut object);
    (row.strategy.prepare_for_create)(&mut object, &context);
    row.form.normalize(&mut object, &mut Report::default()).unwrap();
    object
}

fn found(errors: Errors) -> Vec<String> {
    errors
        .into_vec()
        .iter()
        .map(|e| format!("{} {}", e.field, e.kind.reason().trim_start_matches("FieldValue")))
        .collect()
}

/// Where a new object is wrong.
fn create(row: &Resource, object: Value) -> Vec<String> {
    let errors = Errors::new();
    (row.strategy.validate)(&Cursor::root(&made(row, object), &errors));
    found(errors)
}

/// Where a change is wrong.
fn update(row: &Resource, object: Value, old: Value) -> Vec<String> {
    let context = Context { user: &request::user::NOBODY, now: "2024-01-01T00:00:00Z", labelled: false };
    let (mut object, old) = (made(row, object), made(row, old));
    (row.strategy.prepare_for_update)(&mut object, &old, &context);
    let errors = Errors::new();
    (row.strategy.validate_update)(&Cursor::root(&object, &errors), &Cursor::root(&old, &Errors::new()));
    found(errors)
}

/// `object` with the value at a JSON pointer set, or taken away by null.
fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut object = object.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    match parent {
        Value::Array(items) => {
            let i: usize = name.parse().unwrap();
            if i == items.len() {
                items.push(value);
            } else {
                items[i] = value;
            }
        }
        parent => parent[name] = value,
    }
    object
}

fn pod_spec() -> Value {
    json!({"containers": [{"name": "c", "image": "i:1"}]})
}

fn template() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": pod_spec()})
}

fn job_template() -> Value {
    let mut template = template();
    template["spec"]["restartPolicy"] = "Never".into();
    template
}

fn selector() -> Value {
    json!({"matchLabels": {"a": "b"}})
}

fn meta() -> Value {
    json!({"name": "x", "namespace": "n", "uid": "6f2a4c1e-0000-4000-8000-000000000001"})
}

/// Objects in which nothing is wrong.
fn fine(name: &str) -> Value {
    let rule = json!({"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]});
    let webhook = json!({"name": "a.b.c", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": "https://h/p"}, "rules": [rule.clone()]});
    let mut object = match name {
        "pods" => json!({"spec": pod_spec()}),
        "services" => json!({"spec": {"ports": [{"port": 80}]}}),
        "nodes" => json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
        "secrets" | "configmaps" => json!({}),
        "persistentvolumeclaims" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        }
        "persistentvolumes" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}})
        }
        "limitranges" => json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}}),
        "resourcequotas" => json!({"spec": {"hard": {"pods": "5"}}}),
        "endpoints" => json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
        "replicationcontrollers" => json!({"spec": {"selector": {"a": "b"}, "template": template()}}),
        "apps/deployments" | "apps/replicasets" | "apps/daemonsets" | "apps/statefulsets" => {
            json!({"spec": {"selector": selector(), "template": template()}})
        }
        "apps/controllerrevisions" => json!({"revision": 1, "data": {"a": 1}}),
        "batch/jobs" => json!({"spec": {"template": job_template()}}),
        "batch/cronjobs" => {
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": job_template()}}}})
        }
        "networking.k8s.io/ingresses" => {
            json!({"spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}})
        }
        "networking.k8s.io/ingressclasses" => json!({"spec": {"controller": "a.b/c"}}),
        "networking.k8s.io/networkpolicies" => {
            json!({"spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}})
        }
        "policy/poddisruptionbudgets" => json!({"spec": {"minAvailable": 1, "selector": selector()}}),
        "autoscaling/horizontalpodautoscalers" => {
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}})
        }
        "rbac.authorization.k8s.io/clusterroles" => {
            json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]})
        }
        "rbac.authorization.k8s.io/clusterrolebindings" => {
            json!({"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]})
        }
        "scheduling.k8s.io/priorityclasses" => json!({"value": 5}),
        "storage.k8s.io/storageclasses" => json!({"provisioner": "a.b/c"}),
        "storage.k8s.io/csidrivers" => json!({"spec": {}}),
        "storage.k8s.io/volumeattachments" => {
            json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
        }
        "coordination.k8s.io/leases" => json!({"spec": {"leaseDurationSeconds": 5}}),
        "discovery.k8s.io/endpointslices" => {
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]})
        }
        "admissionregistration.k8s.io/validatingwebhookconfigurations" => json!({"webhooks": [webhook]}),
        "flowcontrol.apiserver.k8s.io/flowschemas" => json!({"spec": {"priorityLevelConfiguration": {"name": "p"}}}),
        "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations" => {
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue"}}}})
        }
        "node.k8s.io/runtimeclasses" => json!({"handler": "h"}),
        "apiregistration.k8s.io/apiservices" => {
            json!({"spec": {"group": "a.b", "version": "v1", "groupPriorityMinimum": 5, "versionPriority": 5}})
        }
        "apiextensions.k8s.io/customresourcedefinitions" => json!({"spec": {"group": "a.b", "scope": "Namespaced",
            "names": {"plural": "xs", "kind": "X"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
        "networking.k8s.io/servicecidrs" => json!({"spec": {"cidrs": ["10.0.0.0/24"]}}),
        "networking.k8s.io/ipaddresses" => json!({"spec": {"parentRef": {"resource": "services", "name": "s"}}}),
        "storage.k8s.io/csinodes" => {
            json!({"spec": {"drivers": [{"name": "d", "nodeID": "i", "topologyKeys": ["a/b"]}]}})
        }
        "storage.k8s.io/volumeattributesclasses" => json!({"driverName": "d", "parameters": {"a": "b"}}),
        "resource.k8s.io/deviceclasses" => {
            json!({"spec": {"config": [{"opaque": {"driver": "d.e", "parameters": {"a": 1}}}]}})
        }
        "resource.k8s.io/resourceclaims" => json!({"spec": {"devices": {
            "requests": [{"name": "r", "exactly": {"deviceClassName": "d"}}],
            "constraints": [{"requests": ["r"], "matchAttribute": "d.e/a"}]}}}),
        "resource.k8s.io/resourceslices" => json!({"spec": {"driver": "d.e", "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "d", "attributes": {"a": {"string": "x"}}}]}}),
        "admissionregistration.k8s.io/validatingadmissionpolicies" => json!({"spec": {
            "matchConstraints": {"resourceRules": [rule.clone()]}, "validations": [{"expression": "true"}],
            "auditAnnotations": [{"key": "k", "valueExpression": "'v'"}]}}),
        other => panic!("{other}"),
    };
    object["metadata"] = meta();
    match name {
        "apiregistration.k8s.io/apiservices" => object["metadata"]["name"] = "v1.a.b".into(),
        "networking.k8s.io/ipaddresses" => object["metadata"]["name"] = "10.0.0.1".into(),
        "apiextensions.k8s.io/customresourcedefinitions" => object["metadata"]["name"] = "xs.a.b".into(),
        _ => {}
    }
    object
}

/// Kind, where the change is, what is put there, and the errors.
type Rule = (&'static str, &'static str, Value, &'static [&'static str]);

/// A StatefulSet's spec with a container that mounts `data`, and a claim template of a name.
fn with_claim(name: &str) -> Value {
    let mut template = template();
    template["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    json!({"selector": selector(), "template": template, "volumeClaimTemplates": [{"metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]})
}

fn create_rules() -> Vec<Rule> {
    vec![
        ("pods", "/spec/containers/1", json!({"name": "c", "image": "i"}), &["spec.containers[1].name Duplicate"]),
        ("pods", "/spec/restartPolicy", json!("Sometimes"), &["spec.restartPolicy NotSupported"]),
        ("pods", "/spec/activeDeadlineSeconds", json!(0), &["spec.activeDeadlineSeconds Invalid"]),
        (
            "pods",
            "/spec/containers/0/volumeMounts",
            json!([{"name": "v", "mountPath": "/v"}]),
            &["spec.containers[0].volumeMounts[0].name NotFound"],
        ),
        ("pods", "/spec/volumes", json!([{"name": "v"}, {"name": "v"}]), &["spec.volumes[1].name Duplicate"]),
        (
            "pods",
            "/spec/volumes",
            json!([{"name": "v", "secret": {}}]),
            &["spec.volumes[0].secret.secretName Required"],
        ),
        (
            "pods",
            "/spec/containers/0/resources",
            json!({"requests": {"cpu": "-1"}}),
            &["spec.containers[0].resources.requests[cpu] Invalid"],
        ),
        (
            "pods",
            "/spec/containers/0/resources",
            json!({"requests": {"gpu": "1"}}),
            &["spec.containers[0].resources.requests[gpu] Invalid"],
        ),
        (
            "pods",
            "/spec/containers/0/resources",
            json!({"requests": {"a.b/gpu": "1"}}),
            &["spec.containers[0].resources.limits Required"],
        ),
        (
            "pods",
            "/spec/containers/0/ports",
            json!([{"containerPort": 0}]),
            &["spec.containers[0].ports[0].containerPort Required"],
        ),
        (
            "pods",
            "/spec/containers/0/ports",
            json!([{"containerPort": 80, "protocol": "X"}]),
            &["spec.containers[0].ports[0].protocol NotSupported"],
        ),
        (
            "pods",
            "/spec/containers/0/ports",
            json!([{"containerPort": 70000}]),
            &["spec.containers[0].ports[0].containerPort Invalid"],
        ),
        (
            "pods",
            "/spec/containers/0/securityContext",
            json!({"privileged": true, "allowPrivilegeEscalation": false}),
            &["spec.containers[0].securityContext Invalid"],
        ),
        ("pods", "/spec/securityContext", json!({"runAsUser": -1}), &["spec.securityContext.runAsUser Invalid"]),
        ("pods", "/spec/nodeSelector", json!({"a": "b c"}), &["spec.nodeSelector Invalid"]),
        ("pods", "/spec/dnsPolicy", json!("None"), &["spec.dnsConfig Required"]),
        (
            "pods",
            "/spec/topologySpreadConstraints",
            json!([{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]),
            &["spec.topologySpreadConstraints[0].maxSkew Invalid"],
        ),
        (
            "pods",
            "/spec/initContainers",
            json!([{"name": "i", "image": "i", "readinessProbe": {"exec": {"command": ["x"]}}}]),
            &["spec.initContainers[0].readinessProbe Forbidden"],
        ),
        (
            "pods",
            "/spec/containers/0/livenessProbe",
            json!({"exec": {"command": ["x"]}, "successThreshold": 2}),
            &["spec.containers[0].livenessProbe.successThreshold Invalid"],
        ),
        (
            "pods",
            "/spec/ephemeralContainers",
            json!([{"name": "e", "image": "i"}]),
            &["spec.ephemeralContainers Forbidden"],
        ),
        ("services", "/spec/ports", json!([]), &["spec.ports Required"]),
        (
            "services",
            "/spec/ports",
            json!([{"name": "a", "port": 80}, {"name": "b", "port": 80}]),
            &["spec.ports[1] Duplicate"],
        ),
        ("services", "/spec/ports", json!([{"port": 80}, {"name": "b", "port": 81}]), &["spec.ports[0].name Required"]),
        ("services", "/spec/type", json!("ExternalName"), &["spec.externalName Required"]),
        ("services", "/spec/type", json!("Bogus"), &["spec.type NotSupported"]),
        ("services", "/spec/ports/0/nodePort", json!(30000), &["spec.ports[0].nodePort Forbidden"]),
        ("services", "/spec/sessionAffinity", json!("X"), &["spec.sessionAffinity NotSupported"]),
        ("nodes", "/spec/taints/0/effect", json!("X"), &["metadata.taints[0].effect NotSupported"]),
        ("nodes", "/spec/taints/1", json!({"key": "k", "effect": "NoSchedule"}), &["metadata.taints[1] Duplicate"]),
        ("secrets", "/type", json!("kubernetes.io/tls"), &["data[tls.crt] Required", "data[tls.key] Required"]),
        (
            "secrets",
            "/type",
            json!("kubernetes.io/basic-auth"),
            &["data[username] Required", "data[password] Required"],
        ),
        ("configmaps", "/data", json!({"..": "x"}), &["data[..] Invalid"]),
        (
            "persistentvolumeclaims",
            "/spec",
            json!({}),
            &["spec.accessModes Required", "spec.resources[storage] Required"],
        ),
        ("persistentvolumeclaims", "/spec/accessModes", json!(["X"]), &["spec.accessModes NotSupported"]),
        ("persistentvolumes", "/spec/nfs", json!({"server": "s", "path": "/p"}), &["spec.nfs Forbidden"]),
        ("persistentvolumes", "/spec/capacity", json!({}), &["spec.capacity Required", "spec.capacity NotSupported"]),
        (
            "limitranges",
            "/spec/limits/0/min",
            json!({"cpu": "3"}),
            &[
                "spec.limits[0].min[cpu] Invalid",
                "spec.limits[0].defaultRequest[cpu] Invalid",
                "spec.limits[0].default[cpu] Invalid",
            ],
        ),
        ("resourcequotas", "/spec/hard", json!({"nonsense": "1"}), &["spec.hard[nonsense] Invalid"]),
        ("resourcequotas", "/spec/hard", json!({"pods": "1500m"}), &["spec.hard[pods] Invalid"]),
        ("endpoints", "/subsets/0/addresses", json!([{"ip": "127.0.0.1"}]), &["subsets[0].addresses[0].ip Invalid"]),
        ("replicationcontrollers", "/spec/selector", json!({"a": "c"}), &["spec.template.metadata.labels Invalid"]),
        (
            "apps/deployments",
            "/spec/selector",
            json!(null),
            &["spec.selector Required", "spec.template.metadata.labels Invalid"],
        ),
        ("apps/deployments", "/spec/selector", json!({}), &["spec.selector Invalid"]),
        ("apps/deployments", "/spec/replicas", json!(-1), &["spec.replicas Invalid"]),
        ("apps/deployments", "/spec/minReadySeconds", json!(600), &["spec.progressDeadlineSeconds Invalid"]),
        ("apps/daemonsets", "/spec/selector", json!(null), &["spec.template.metadata.labels Invalid"]),
        ("apps/daemonsets", "/spec/updateStrategy", json!({"type": "X"}), &["spec.updateStrategy NotSupported"]),
        ("apps/statefulsets", "/spec", with_claim("data"), &[]),
        (
            "apps/statefulsets",
            "/spec",
            with_claim("other"),
            &["spec.template.spec.containers[0].volumeMounts[0].name NotFound"],
        ),
        ("apps/statefulsets", "/spec/podManagementPolicy", json!("X"), &["spec.podManagementPolicy Invalid"]),
        (
            "apps/replicasets",
            "/spec/template/spec/restartPolicy",
            json!("OnFailure"),
            &["spec.template.spec.restartPolicy NotSupported"],
        ),
        ("apps/controllerrevisions", "/revision", json!(-1), &["revision Invalid"]),
        (
            "batch/jobs",
            "/spec/template/spec/restartPolicy",
            json!("Always"),
            &["spec.template.spec.restartPolicy Required"],
        ),
        ("batch/jobs", "/spec/completionMode", json!("Indexed"), &[]),
        ("batch/jobs", "/spec/parallelism", json!(-1), &["spec.parallelism Invalid"]),
        ("batch/cronjobs", "/spec/schedule", json!("x"), &["spec.schedule Invalid"]),
        ("batch/cronjobs", "/spec/schedule", json!("TZ=UTC * * * * *"), &["spec.schedule Invalid"]),
        ("batch/cronjobs", "/spec/jobTemplate/spec/selector", json!({}), &["spec.jobTemplate.spec.selector Invalid"]),
        ("batch/cronjobs", "/spec/concurrencyPolicy", json!("x"), &["spec.concurrencyPolicy NotSupported"]),
        ("networking.k8s.io/ingresses", "/spec", json!({}), &["spec Invalid"]),
        ("networking.k8s.io/ingresses", "/spec/rules/0/host", json!("1.2.3.4"), &["spec.rules[0].host Invalid"]),
        ("networking.k8s.io/ingressclasses", "/spec/controller", json!("x"), &["spec.controller Invalid"]),
        (
            "networking.k8s.io/networkpolicies",
            "/spec/ingress/0/from/0/ipBlock/cidr",
            json!("x"),
            &["spec.ingress[0].from[0].ipBlock.cidr Invalid"],
        ),
        (
            "networking.k8s.io/networkpolicies",
            "/spec/ingress/0/from/0",
            json!({}),
            &["spec.ingress[0].from[0] Required"],
        ),
        ("policy/poddisruptionbudgets", "/spec/maxUnavailable", json!(1), &["spec Invalid"]),
        (
            "autoscaling/horizontalpodautoscalers",
            "/spec/maxReplicas",
            json!(0),
            &["spec.maxReplicas Invalid", "spec.maxReplicas Invalid"],
        ),
        ("rbac.authorization.k8s.io/clusterroles", "/rules/0/resources", json!([]), &["rules[0].resources Required"]),
        (
            "rbac.authorization.k8s.io/clusterrolebindings",
            "/roleRef/kind",
            json!("Role"),
            &["roleRef.kind NotSupported"],
        ),
        (
            "rbac.authorization.k8s.io/clusterrolebindings",
            "/subjects/0",
            json!({"kind": "ServiceAccount", "name": "s"}),
            &["subjects[0].namespace Required"],
        ),
        ("scheduling.k8s.io/priorityclasses", "/metadata/name", json!("system-x"), &["metadata.name Forbidden"]),
        ("storage.k8s.io/storageclasses", "/provisioner", json!(""), &["provisioner Required"]),
        ("storage.k8s.io/storageclasses", "/reclaimPolicy", json!("X"), &["reclaimPolicy NotSupported"]),
        ("storage.k8s.io/csidrivers", "/spec/fsGroupPolicy", json!("X"), &["spec.fsGroupPolicy NotSupported"]),
        ("storage.k8s.io/volumeattachments", "/spec/source", json!({}), &["spec.source Required"]),
        ("coordination.k8s.io/leases", "/spec/leaseDurationSeconds", json!(0), &["spec.leaseDurationSeconds Invalid"]),
        ("discovery.k8s.io/endpointslices", "/addressType", json!("X"), &["addressType NotSupported"]),
        ("discovery.k8s.io/endpointslices", "/endpoints/0/addresses", json!([]), &["endpoints[0].addresses Required"]),
        (
            "admissionregistration.k8s.io/validatingwebhookconfigurations",
            "/webhooks/0/name",
            json!("short"),
            &["webhooks[0].name Invalid"],
        ),
        (
            "admissionregistration.k8s.io/validatingwebhookconfigurations",
            "/webhooks/0/timeoutSeconds",
            json!(31),
            &["webhooks[0].timeoutSeconds Invalid"],
        ),
        (
            "admissionregistration.k8s.io/validatingwebhookconfigurations",
            "/webhooks/0/clientConfig",
            json!({}),
            &["webhooks[0].clientConfig Required"],
        ),
        (
            "flowcontrol.apiserver.k8s.io/flowschemas",
            "/spec/matchingPrecedence",
            json!(20000),
            &["spec.matchingPrecedence Invalid"],
        ),
        (
            "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations",
            "/spec/type",
            json!("X"),
            &["spec.type NotSupported"],
        ),
        ("node.k8s.io/runtimeclasses", "/handler", json!("A"), &["handler Invalid"]),
        ("apiregistration.k8s.io/apiservices", "/metadata/name", json!("x"), &["metadata.name Invalid"]),
        ("apiextensions.k8s.io/customresourcedefinitions", "/spec/scope", json!("X"), &["spec.scope NotSupported"]),
        (
            "apiextensions.k8s.io/customresourcedefinitions",
            "/spec/versions/0/storage",
            json!(false),
            &["spec.versions Invalid", "status.storedVersions Invalid"],
        ),
        ("batch/jobs", "/spec/managedBy", json!(""), &["spec.managedBy Required"]),
        ("batch/jobs", "/spec/completionMode", json!(""), &["spec.completionMode NotSupported"]),
        (
            "batch/jobs",
            "/spec/manualSelector",
            json!(true),
            &["spec.selector Required", "spec.template.metadata.labels Invalid"],
        ),
        (
            "batch/jobs",
            "/spec/successPolicy",
            json!({"rules": [{"succeededCount": 1}]}),
            &["spec.successPolicy Invalid"],
        ),
        (
            "batch/jobs",
            "/spec/podFailurePolicy",
            json!({"rules": [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [2, 0]}}]}),
            &[
                "spec.podFailurePolicy.rules[0].action Invalid",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[1] Invalid",
                "spec.podFailurePolicy.rules[0].onExitCodes.values Invalid",
            ],
        ),
        (
            "networking.k8s.io/ingressclasses",
            "/spec/parameters",
            json!({"kind": "K", "name": "n", "scope": ""}),
            &["spec.parameters.scope NotSupported"],
        ),
        (
            "networking.k8s.io/networkpolicies",
            "/spec/ingress/0/ports",
            json!([{"protocol": ""}]),
            &["spec.ingress[0].ports[0].protocol NotSupported"],
        ),
        ("networking.k8s.io/networkpolicies", "/spec/ingress/0/from/0/ipBlock/cidr", json!("010.0.0.0/08"), &[]),
        ("networking.k8s.io/servicecidrs", "/spec/cidrs/0", json!("10.0.0.1/24"), &["spec.cidrs[0] Invalid"]),
        ("networking.k8s.io/ipaddresses", "/metadata/name", json!("0:0::1"), &["metadata.name Invalid"]),
        (
            "limitranges",
            "/spec/limits/0/maxLimitRequestRatio",
            json!({"cpu": "0"}),
            &["spec.limits[0].maxLimitRequestRatio[cpu] Invalid"],
        ),
        ("limitranges", "/spec/limits/0/type", json!("Bogus"), &["spec.limits[0].type Invalid"]),
        (
            "limitranges",
            "/spec/limits/1",
            json!({"type": "PersistentVolumeClaim"}),
            &["spec.limits[1].limits Required"],
        ),
        (
            "endpoints",
            "/subsets/0/addresses",
            json!([{"ip": "10.0.0.1", "nodeName": ""}]),
            &["subsets[0].addresses[0].nodeName Invalid"],
        ),
        (
            "discovery.k8s.io/endpointslices",
            "/endpoints/0/addresses",
            json!(["::1:2"]),
            &["endpoints[0].addresses Invalid"],
        ),
        (
            "discovery.k8s.io/endpointslices",
            "/endpoints/0/hints",
            json!({"forNodes": [{"name": "n"}, {"name": "n"}]}),
            &["endpoints[0].hints.forNodes[1].name Duplicate"],
        ),
        ("discovery.k8s.io/endpointslices", "/endpoints/0/hostname", json!(""), &["endpoints[0].hostname Invalid"]),
        ("storage.k8s.io/storageclasses", "/reclaimPolicy", json!(""), &[]),
        ("storage.k8s.io/storageclasses", "/volumeBindingMode", json!(""), &["volumeBindingMode NotSupported"]),
        (
            "storage.k8s.io/csidrivers",
            "/spec/volumeLifecycleModes",
            json!(["X"]),
            &["spec.volumeLifecycleModes NotSupported"],
        ),
        (
            "storage.k8s.io/csinodes",
            "/spec/drivers/0/topologyKeys",
            json!(["a/b", "a/b"]),
            &["spec.drivers[0] Duplicate"],
        ),
        (
            "storage.k8s.io/volumeattachments",
            "/spec/source/persistentVolumeName",
            json!(""),
            &["spec.source.persistentVolumeName Required", "spec.source.persistentVolumeName Invalid"],
        ),
        ("resource.k8s.io/deviceclasses", "/spec/config/0", json!({}), &["spec.config[0].opaque Required"]),
        (
            "resource.k8s.io/deviceclasses",
            "/spec/config/0/opaque",
            json!({"driver": "d", "parameters": 1}),
            &["spec.config[0].opaque.parameters Invalid"],
        ),
        (
            "resource.k8s.io/resourceclaims",
            "/spec/devices/constraints/0",
            json!({}),
            &["spec.devices.constraints[0].matchAttribute Required"],
        ),
        (
            "resource.k8s.io/resourceclaims",
            "/spec/devices/constraints/0/requests",
            json!(["s"]),
            &["spec.devices.constraints[0].requests[0] Invalid"],
        ),
        ("resource.k8s.io/resourceslices", "/spec/pool/name", json!("../x"), &["spec.pool.name Invalid"]),
        (
            "resource.k8s.io/resourceslices",
            "/spec/devices/0/attributes",
            json!({"a": {}, "b/c/d": {"int": 1}}),
            &["spec.devices[0].attributes[a] Required"],
        ),
        (
            "resource.k8s.io/resourceslices",
            "/spec/devices/0/attributes",
            json!({"a": {"version": "1"}}),
            &["spec.devices[0].attributes[a].version Invalid"],
        ),
        (
            "resource.k8s.io/resourceslices",
            "/spec/devices/0/consumesCounters",
            json!([{"counterSet": "s", "counters": {"c": {"value": "1"}}}]),
            &["spec.devices[0].consumesCounters[0].counterSet Invalid"],
        ),
        (
            "admissionregistration.k8s.io/validatingwebhookconfigurations",
            "/webhooks/0/name",
            json!(""),
            &["webhooks[0].name Required"],
        ),
        (
            "admissionregistration.k8s.io/validatingwebhookconfigurations",
            "/webhooks/0/failurePolicy",
            json!(""),
            &["webhooks[0].failurePolicy NotSupported"],
        ),
        (
            "admissionregistration.k8s.io/validatingwebhookconfigurations",
            "/webhooks/0/rules/0/resources",
            json!(["pods/*", "pods/*"]),
            &["webhooks[0].rules[0].resources[1] Invalid"],
        ),
        (
            "admissionregistration.k8s.io/validatingwebhookconfigurations",
            "/webhooks/0/clientConfig",
            json!({"service": {"namespace": "n"}}),
            &["webhooks[0].clientConfig.service.namespace Required"],
        ),
        (
            "admissionregistration.k8s.io/validatingadmissionpolicies",
            "/spec/matchConstraints/resourceRules/0/resourceNames",
            json!(["x", "x"]),
            &["spec.matchConstraints.resourceRules[0].resourceNames[1] Duplicate"],
        ),
        (
            "admissionregistration.k8s.io/validatingadmissionpolicies",
            "/spec/validations/0/messageExpression",
            json!(" "),
            &["spec.validations[0].messageExpression Invalid"],
        ),
        (
            "admissionregistration.k8s.io/validatingadmissionpolicies",
            "/spec/auditAnnotations/0/key",
            json!("a b"),
            &["spec.auditAnnotations[0].key Invalid"],
        ),
        (
            "flowcontrol.apiserver.k8s.io/flowschemas",
            "/spec/rules",
            json!([{"subjects": [{"kind": "User"}], "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/"]}]}]),
            &["spec.rules[0].subjects[0].user Required"],
        ),
        (
            "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations",
            "/spec/limited/limitResponse/queuing",
            json!({"queues": 64, "handSize": 20}),
            &["spec.limited.limitResponse.queuing.handSize Invalid"],
        ),
        (
            "node.k8s.io/runtimeclasses",
            "/overhead",
            json!({"podFixed": {"cpu": "-1"}}),
            &["overhead.limits[cpu] Invalid"],
        ),
        ("scheduling.k8s.io/priorityclasses", "/preemptionPolicy", json!(""), &["preemptionPolicy Required"]),
        ("coordination.k8s.io/leases", "/spec/strategy", json!("X"), &["spec.strategy.strategy NotSupported"]),
        (
            "autoscaling/horizontalpodautoscalers",
            "/spec/scaleTargetRef/apiVersion",
            json!("a/b/c"),
            &["spec.scaleTargetRef.apiVersion Invalid"],
        ),
    ]
}

fn update_rules() -> Vec<Rule> {
    vec![
        ("services", "/spec/clusterIP", json!("10.0.0.9"), &["spec.clusterIPs[0] Invalid"]),
        ("nodes", "/spec/providerID", json!("b"), &["spec.providerID Forbidden"]),
        ("secrets", "/type", json!("a/b"), &["type Invalid"]),
        ("configmaps", "/data", json!({"k": "other"}), &["data Forbidden"]),
        ("persistentvolumeclaims", "/spec/accessModes", json!(["ReadWriteMany"]), &["spec Forbidden"]),
        ("persistentvolumes", "/spec/hostPath/path", json!("/other"), &["spec.persistentvolumesource Forbidden"]),
        ("resourcequotas", "/spec/scopes", json!(["Terminating"]), &["spec.scopes Invalid"]),
        (
            "apps/deployments",
            "/spec/selector",
            json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]}),
            &["spec.selector Invalid"],
        ),
        ("apps/deployments", "/spec/replicas", json!(5), &[]),
        ("apps/statefulsets", "/spec/serviceName", json!("other"), &["spec Forbidden"]),
        ("apps/statefulsets", "/spec/replicas", json!(5), &[]),
        ("apps/controllerrevisions", "/data", json!({"a": 2}), &["data Invalid"]),
        ("batch/jobs", "/spec/template/spec/containers/0/image", json!("i:2"), &["spec.template Invalid"]),
        ("batch/jobs", "/spec/completions", json!(5), &["spec.completions Invalid"]),
        ("networking.k8s.io/ingressclasses", "/spec/controller", json!("a.b/d"), &["spec.controller Invalid"]),
        ("rbac.authorization.k8s.io/clusterrolebindings", "/roleRef/name", json!("other"), &["roleRef Invalid"]),
        ("scheduling.k8s.io/priorityclasses", "/value", json!(6), &["value Forbidden"]),
        ("storage.k8s.io/storageclasses", "/provisioner", json!("a.b/d"), &["provisioner Forbidden"]),
        ("storage.k8s.io/volumeattachments", "/spec/nodeName", json!("m"), &["spec Invalid"]),
        ("discovery.k8s.io/endpointslices", "/addressType", json!("FQDN"), &["addressType Invalid"]),
        ("node.k8s.io/runtimeclasses", "/handler", json!("g"), &["handler Invalid"]),
        ("networking.k8s.io/servicecidrs", "/spec/cidrs/0", json!("10.1.0.0/24"), &["spec.cidrs[0] Invalid"]),
        ("networking.k8s.io/servicecidrs", "/spec/cidrs/1", json!("fd00::/64"), &[]),
        ("storage.k8s.io/csinodes", "/spec/drivers/0/topologyKeys", json!([]), &["spec.drivers Invalid"]),
        ("storage.k8s.io/csidrivers", "/spec/attachRequired", json!(false), &["spec.attachedRequired Invalid"]),
        ("storage.k8s.io/volumeattachments", "/spec/attacher", json!("a/b/c"), &["spec Invalid"]),
        (
            "storage.k8s.io/volumeattributesclasses",
            "/parameters",
            json!({}),
            &["parameters Required", "parameters Forbidden"],
        ),
        ("resource.k8s.io/resourceslices", "/spec/pool/name", json!("q"), &["spec.pool.name Invalid"]),
    ]
}

#[test]
fn what_is_wrong_with_new_objects() {
    let (rows, mut wrong) = (builtin(), Vec::new());
    for (name, pointer, value, expected) in create_rules() {
        let row = row(&rows, name);
        assert_eq!(create(row, fine(name)), Vec::<String>::new(), "{name}");
        let errors = create(row, with(&fine(name), pointer, value.clone()));
        if errors != expected {
            wrong.push(format!("{name} {pointer} {value}: expected {expected:?}, got {errors:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_may_not_change() {
    let (rows, mut wrong) = (builtin(), Vec::new());
    for (name, pointer, value, expected) in update_rules() {
        let row = row(&rows, name);
        let mut old = fine(name);
        match name {
            "services" => old["spec"]["clusterIP"] = "10.0.0.1".into(),
            "nodes" => old["spec"]["providerID"] = "a".into(),
            "configmaps" => {
                old["immutable"] = true.into();
                old["data"] = json!({"k": "v"});
            }
            _ => {}
        }
        assert_eq!(update(row, old.clone(), old.clone()), Vec::<String>::new(), "{name}");
        let errors = update(row, with(&old, pointer, value.clone()), old);
        if errors != expected {
            wrong.push(format!("{name} {pointer} {value}: expected {expected:?}, got {errors:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
