//! Admission policies from end to end: policies that change what is written, and what policies that check tell beside a refusal.

use crate::stand::Stand;
use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Writes until a policy that was just written is in force: the watch of the cache that holds it is all there is to wait for.
const TRIES: usize = 500;

async fn mutating() -> Stand {
    Stand::start_with(&[
        "--feature-gates=MutatingAdmissionPolicy=true",
        "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
    ])
    .await
}

async fn post(stand: &Stand, path: &str, body: &Value) -> (u16, Value) {
    stand.call("POST", path, "application/json", "", body).await
}

async fn made(stand: &Stand, path: &str, body: &Value) -> Value {
    let (code, body) = post(stand, path, body).await;
    assert_eq!(code, 201, "{body}");
    body
}

fn policy(name: &str, spec: Value) -> Value {
    let mut policy = json!({"apiVersion": "admissionregistration.k8s.io/v1beta1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name}, "spec": {"reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]}}});
    for (key, value) in spec.as_object().unwrap() {
        policy["spec"][key] = value.clone();
    }
    policy
}

fn applying(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patching(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

async fn put_in_force(stand: &Stand, policy: &Value, param_ref: Option<Value>) {
    let name = policy["metadata"]["name"].as_str().unwrap();
    made(stand, &format!("{GROUP}/v1beta1/mutatingadmissionpolicies"), policy).await;
    let mut binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
    if let Some(param_ref) = param_ref {
        binding["spec"]["paramRef"] = param_ref;
    }
    made(stand, &format!("{GROUP}/v1beta1/mutatingadmissionpolicybindings"), &binding).await;
}

/// The answer to a dry run of a create, once it is as wanted.
async fn until(stand: &Stand, object: &Value, fits: impl Fn(u16, &Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..TRIES {
        let (code, body) = post(stand, &format!("{MAPS}?dryRun=All"), object).await;
        if fits(code, &body) {
            return body;
        }
        last = body;
    }
    panic!("never as wanted: {last}");
}

#[tokio::test]
async fn policies_change_writes_in_order() {
    let stand = mutating().await;
    made(&stand, MAPS, &json!({"metadata": {"name": "settings"}, "data": {"team": "blue"}})).await;
    // The first sees what the second did only where it wants to be asked again.
    put_in_force(
        &stand,
        &policy(
            "a-counts",
            json!({"reinvocationPolicy": "IfNeeded", "mutations": [
                applying("Object{metadata: Object.metadata{annotations: {'seen': string(object.?data.orValue({}).size())}}}")]}),
        ),
        None,
    )
    .await;
    put_in_force(
        &stand,
        &policy(
            "b-adds",
            json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "matchConditions": [{"name": "plain", "expression": "object.metadata.name != 'exempt'"}],
                "variables": [{"name": "team", "expression": "params.data.team"}],
                "mutations": [
                    applying("Object{data: {'team': variables.team}}"),
                    patching("[JSONPatch{op: 'test', path: '/data/team', value: 'red'}, JSONPatch{op: 'remove', path: '/data'}]"),
                    patching("[JSONPatch{op: 'add', path: '/metadata/labels', value: {'mutated-' + object.data.team: request.operation}}]"),
                ]}),
        ),
        Some(json!({"name": "settings", "parameterNotFoundAction": "Deny"})),
    )
    .await;
    let object = until(&stand, &json!({"metadata": {"name": "x"}, "data": {"own": "1"}}), |_, object| {
        object["data"]["team"] == "blue"
            && object["metadata"]["labels"] == json!({"mutated-blue": "CREATE"})
            && object["metadata"]["annotations"]["seen"] == "2"
    })
    .await;
    assert_eq!(object["data"], json!({"own": "1", "team": "blue"}));
    let exempt = made(&stand, MAPS, &json!({"metadata": {"name": "exempt"}})).await;
    assert_eq!((&exempt["data"], &exempt["metadata"]["annotations"]["seen"]), (&Value::Null, &json!("0")));
    // What was stored is what was changed.
    made(&stand, MAPS, &json!({"metadata": {"name": "kept"}})).await;
    let (_, kept) = stand.call("GET", &format!("{MAPS}/kept"), "", "", &Value::Null).await;
    assert_eq!(kept["data"], json!({"team": "blue"}));
}

#[tokio::test]
async fn failing_mutations_are_refused_or_ignored() {
    let stand = mutating().await;
    for (name, mutation, why) in [
        ("missing", applying("Object{data: {'a': object.data.missing}}"), "resulted in error: no such key: missing"),
        (
            "unknown",
            applying("Object{nothing: 1}"),
            "failed to convert patch object to typed object: .nothing: field not declared in schema",
        ),
        ("nowhere", patching("[JSONPatch{op: 'remove', path: '/data/b'}]"), "JSONPath: "),
    ] {
        let policy = policy(
            name,
            json!({"mutations": [mutation], "matchConstraints": {
            "objectSelector": {"matchLabels": {"for": name}}, "resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]}}),
        );
        put_in_force(&stand, &policy, None).await;
        let object = json!({"metadata": {"name": "x", "labels": {"for": name}}, "data": {"a": "b"}});
        let refused = until(&stand, &object, |code, _| code == 422).await;
        let message = refused["message"].as_str().unwrap();
        let start = format!("configmaps \"x\" is forbidden: policy '{name}' with binding '{name}' denied request: ");
        assert!(message.starts_with(&start) && message.contains(why), "{message}");
        assert_eq!(refused["reason"], "Invalid");
        let ignoring = json!({"spec": {"failurePolicy": "Ignore"}});
        let path = format!("{GROUP}/v1beta1/mutatingadmissionpolicies/{name}");
        let (code, _) = stand.call("PATCH", &path, "application/merge-patch+json", "", &ignoring).await;
        assert_eq!(code, 200);
        until(&stand, &object, |code, _| code == 201).await;
    }
}

#[tokio::test]
async fn mutations_that_cannot_work_are_refused_when_they_are_written() {
    let stand = mutating().await;
    for (mutations, field) in [
        (json!([]), "spec.mutations"),
        (json!([applying("Object{spec: }")]), "spec.mutations[0].applyConfiguration.expression"),
        (json!([applying("{'a': 'b'}")]), "spec.mutations[0].applyConfiguration.expression"),
        (json!([applying("Object{spec: Object.metadata{}}")]), "spec.mutations[0].applyConfiguration.expression"),
        (json!([patching("['a']")]), "spec.mutations[0].jsonPatch.expression"),
        (json!([patching("[JSONPatch{op: 'add', what: 'x'}]")]), "spec.mutations[0].jsonPatch.expression"),
        (json!([{"patchType": "JSONPatch"}]), "spec.mutations[0].jsonPatch"),
        (json!([{"patchType": "Other"}]), "spec.mutations[0].patchType"),
    ] {
        let path = format!("{GROUP}/v1beta1/mutatingadmissionpolicies");
        let (code, refused) = post(&stand, &path, &policy("bad", json!({"mutations": mutations}))).await;
        assert_eq!(code, 422, "{mutations}");
        let fields: Vec<_> = refused["details"]["causes"].as_array().unwrap().iter().map(|c| &c["field"]).collect();
        assert!(fields.contains(&&json!(field)), "{mutations}: {refused}");
    }
}

/// Without the gate the API is there and nothing acts on it.
#[tokio::test]
async fn without_the_gate_policies_change_nothing_and_gated_fields_are_dropped() {
    let stand = Stand::start_with(&["--runtime-config=admissionregistration.k8s.io/v1beta1=true"]).await;
    let mutations = json!({"mutations": [applying("Object{data: {'a': 'b'}}")]});
    put_in_force(&stand, &policy("idle", mutations), None).await;
    let object = made(&stand, MAPS, &json!({"metadata": {"name": "x"}})).await;
    assert_eq!(object["data"], Value::Null);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"automountServiceAccountToken": false, "serviceAccountName": "none",
        "containers": [{"name": "c", "image": "i", "lifecycle": {"stopSignal": "SIGINT"}}]}});
    made(&stand, "/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "none"}})).await;
    let pod = made(&stand, "/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(pod["spec"]["containers"][0]["lifecycle"], Value::Null);
    let (_, metrics) = stand.call("GET", "/metrics", "", "", &Value::Null).await;
    let off = "kubernetes_feature_enabled{name=\"MutatingAdmissionPolicy\",stage=\"BETA\"} 0";
    assert!(metrics.as_str().unwrap().contains(off));
}

/// A policy that names one version of a resource sees a write in another as an object of that version.
#[tokio::test]
async fn policies_see_equivalent_versions_as_the_one_they_name() {
    let stand = Stand::start().await;
    let policy = json!({"metadata": {"name": "versions"}, "spec": {
        "matchConstraints": {"matchPolicy": "Equivalent", "resourceRules": [
            {"apiGroups": ["autoscaling"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["horizontalpodautoscalers"]}]},
        "validations": [{"expression": "false", "messageExpression":
            "object.apiVersion + ' ' + string(object.spec.targetCPUUtilizationPercentage) + ' ' + request.kind.version + ' ' + request.requestKind.version"}]}});
    made(&stand, &format!("{GROUP}/v1/validatingadmissionpolicies"), &policy).await;
    let binding =
        json!({"metadata": {"name": "versions"}, "spec": {"policyName": "versions", "validationActions": ["Deny"]}});
    made(&stand, &format!("{GROUP}/v1/validatingadmissionpolicybindings"), &binding).await;
    let autoscaler = json!({"metadata": {"name": "x"}, "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]}});
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers?dryRun=All";
    let mut message = String::new();
    for _ in 0..TRIES {
        let (code, body) = post(&stand, path, &autoscaler).await;
        if code == 422 {
            message = body["message"].as_str().unwrap().to_owned();
            break;
        }
    }
    assert!(message.ends_with("denied request: autoscaling/v1 70 v1 v2"), "{message}");
}

#[tokio::test]
async fn policies_warn_and_take_params_by_selector() {
    let stand = Stand::start().await;
    for (name, max) in [("low", "1"), ("high", "5")] {
        let params = json!({"metadata": {"name": name, "labels": {"limits": "yes"}}, "data": {"max": max}});
        made(&stand, MAPS, &params).await;
    }
    let policy = json!({"metadata": {"name": "warns"}, "spec": {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"objectSelector": {"matchLabels": {"judged": "yes"}}, "resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]},
        "auditAnnotations": [{"key": "size", "valueExpression": "string(object.data.size())"}],
        "validations": [{"expression": "object.data.size() <= int(params.data.max)",
            "messageExpression": "'more than ' + params.data.max"}]}});
    made(&stand, &format!("{GROUP}/v1/validatingadmissionpolicies"), &policy).await;
    let binding = json!({"metadata": {"name": "warns"}, "spec": {"policyName": "warns", "validationActions": ["Warn", "Audit"],
        "paramRef": {"selector": {"matchLabels": {"limits": "yes"}}, "parameterNotFoundAction": "Deny"}}});
    made(&stand, &format!("{GROUP}/v1/validatingadmissionpolicybindings"), &binding).await;
    let object = json!({"metadata": {"name": "x", "labels": {"judged": "yes"}}, "data": {"a": "", "b": ""}});
    let mut warnings = Vec::new();
    for _ in 0..TRIES {
        let request = http::Request::post(format!("{MAPS}?dryRun=All")).header("content-type", "application/json");
        let response = stand.send(request.body(object.to_string().into_bytes()).unwrap()).await;
        assert_eq!(response.status(), 201);
        warnings =
            response.headers().get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        if !warnings.is_empty() {
            break;
        }
    }
    let want = "299 - \"Validation failed for ValidatingAdmissionPolicy 'warns' with binding 'warns': more than 1\"";
    assert_eq!(warnings, [want]);
    // Policies and bindings are objects like others, and a policy has a status of its own.
    let path = format!("{GROUP}/v1/validatingadmissionpolicies/warns");
    let status = json!({"status": {"observedGeneration": 1, "conditions": [{"type": "Typed", "status": "True", "reason": "Test",
        "message": "", "lastTransitionTime": "2024-01-01T00:00:00Z"}]}, "spec": {"failurePolicy": "Ignore"}});
    let (code, patched) =
        stand.call("PATCH", &format!("{path}/status"), "application/merge-patch+json", "", &status).await;
    assert_eq!((code, &patched["status"]["observedGeneration"]), (200, &json!(1)));
    assert_eq!(patched["spec"]["failurePolicy"], "Fail");
    let (code, read) = stand.call("GET", &format!("{path}/status"), "", "", &Value::Null).await;
    assert_eq!((code, &read["status"]), (200, &patched["status"]));
    for resource in ["validatingadmissionpolicybindings", "validatingadmissionpolicies"] {
        let (code, list) = stand.call("GET", &format!("{GROUP}/v1/{resource}"), "", "", &Value::Null).await;
        assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 1));
        let (code, _) = stand.call("DELETE", &format!("{GROUP}/v1/{resource}"), "", "", &Value::Null).await;
        assert_eq!(code, 200);
        let (_, list) = stand.call("GET", &format!("{GROUP}/v1/{resource}"), "", "", &Value::Null).await;
        assert_eq!(list["items"], json!([]));
    }
}

#[tokio::test]
async fn admission_and_policies_are_counted() {
    let stand = mutating().await;
    let validating = json!({"metadata": {"name": "no"}, "spec": {
        "matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]},
        "validations": [{"expression": "object.metadata.name != 'bad'"}]}});
    made(&stand, &format!("{GROUP}/v1/validatingadmissionpolicies"), &validating).await;
    let binding = json!({"metadata": {"name": "no"}, "spec": {"policyName": "no", "validationActions": ["Deny"]}});
    made(&stand, &format!("{GROUP}/v1/validatingadmissionpolicybindings"), &binding).await;
    put_in_force(&stand, &policy("m", json!({"mutations": [applying("Object{data: {'a': 'b'}}")]})), None).await;
    let bad = json!({"metadata": {"name": "bad"}});
    until(&stand, &bad, |code, _| code == 422).await;
    made(&stand, MAPS, &json!({"metadata": {"name": "good"}})).await;
    let (_, text) = stand.call("GET", "/metrics", "", "", &Value::Null).await;
    let text = text.as_str().unwrap();
    for series in [
        "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"false\",type=\"admit\"}",
        "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"true\",type=\"validate\"}",
        "apiserver_admission_controller_admission_duration_seconds_count{name=\"NamespaceLifecycle\",operation=\"CREATE\",rejected=\"false\",type=\"admit\"}",
        "apiserver_admission_controller_admission_duration_seconds_count{name=\"ValidatingAdmissionPolicy\",operation=\"CREATE\",rejected=\"true\",type=\"validate\"}",
        "apiserver_validating_admission_policy_check_total{enforcement_action=\"deny\",error_type=\"no_error\",policy=\"no\",policy_binding=\"no\"}",
        "apiserver_mutating_admission_policy_check_total{error_type=\"no_error\",policy=\"m\",policy_binding=\"m\"}",
        "apiserver_cel_compilation_duration_seconds_count",
        "apiserver_cel_evaluation_duration_seconds_count",
    ] {
        assert!(text.contains(&format!("\n{series} ")), "{series}");
    }
}
