//! Expressions where users meet them: rules of custom resources, and admission policies.

use crate::stand::Stand;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::runtime::{conditions, wait::await_condition};
use serde_json::{Value, json};

fn definition(spec: Value) -> CustomResourceDefinition {
    serde_json::from_value(json!({"metadata": {"name": "gauges.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "gauges", "kind": "Gauge"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
            {"type": "object", "properties": {"spec": spec}}}}]}}))
    .unwrap()
}

fn status<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> Box<Status> {
    match result {
        Err(kube::Error::Api(status)) => status,
        other => panic!("no refusal: {other:?}"),
    }
}

#[tokio::test]
async fn rules_of_custom_resources_are_kept() {
    let stand = Stand::start().await;
    let client = stand.admin().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let create = |spec: Value| {
        let (definitions, definition) = (definitions.clone(), definition(spec));
        async move { definitions.create(&PostParams::default(), &definition).await }
    };
    let rule = |rule: &str| {
        json!({"type": "object", "properties": {"min": {"type": "integer"}, "max": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}}}, "x-kubernetes-validations": [{"rule": rule}]})
    };
    // [sig-api-machinery] CustomResourceValidationRules: syntax errors, unknown properties and rules that are too dear are refused.
    for (bad, why) in [
        ("self = 42", "Syntax error"),
        ("self.missing > 0", "undefined field 'missing'"),
        ("self.tags.all(x, self.tags.all(y, self.tags.all(z, x == y)))", "exceeds budget by factor of more than 100x"),
    ] {
        let refused = status(create(rule(bad)).await);
        assert!(refused.code == 422 && refused.message.contains(why), "{bad}: {}", refused.message);
        assert!(
            refused
                .message
                .contains("spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule")
        );
    }
    let mut spec = rule("self.min <= self.max");
    spec["properties"]["min"]["x-kubernetes-validations"] =
        json!([{"rule": "self >= oldSelf", "message": "min only grows"}]);
    create(spec).await.unwrap();
    await_condition(definitions, "gauges.example.com", conditions::is_crd_established()).await.unwrap();

    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", "v1", "Gauge"), "gauges");
    let gauges: Api<DynamicObject> = Api::default_namespaced_with(client, &kind);
    let apply = |min: i64, max: i64| {
        let object = json!({"apiVersion": "example.com/v1", "kind": "Gauge", "metadata": {"name": "g"}, "spec": {"min": min, "max": max}});
        let gauges = gauges.clone();
        async move { gauges.patch("g", &PatchParams::apply("test"), &Patch::Apply(&object)).await }
    };
    let refused = status(apply(3, 2).await);
    assert_eq!(
        refused.message,
        "Gauge.example.com \"g\" is invalid: spec: Invalid value: \"object\": failed rule: self.min <= self.max"
    );
    apply(1, 2).await.unwrap();
    apply(2, 2).await.unwrap();
    assert!(status(apply(1, 2).await).message.contains("spec.min: Invalid value: \"integer\": min only grows"));
}

#[tokio::test]
async fn policies_judge_writes() {
    let stand = Stand::start().await;
    let client = stand.admin().await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let params: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "limits"}, "data": {"max": "3"}})).unwrap();
    maps.create(&PostParams::default(), &params).await.unwrap();

    let policy = json!({"metadata": {"name": "small"}, "spec": {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}],
            "objectSelector": {"matchLabels": {"judged": "yes"}}},
        "matchConditions": [{"name": "not-exempt", "expression": "!has(object.metadata.annotations) || !('exempt' in object.metadata.annotations)"}],
        "variables": [{"name": "max", "expression": "int(params.data.max)"}, {"name": "fits", "expression": "object.data.size() <= variables.max"}],
        "validations": [
            {"expression": "variables.fits", "messageExpression": "'at most ' + string(variables.max) + ' in ' + namespaceObject.metadata.name", "reason": "Forbidden"},
            {"expression": "authorizer.group('').resource('configmaps').namespace(request.namespace).check('create').allowed()"},
            {"expression": "request.operation == 'CREATE' || oldObject != null", "message": "old"}],
    }});
    // Expressions that can't work are refused, here and in webhooks.
    for (field, bad, why) in [
        (
            "validations",
            json!([{"expression": "object.x >"}]),
            "spec.validations[0].expression: Invalid value: \"object.x >\": compilation failed: ERROR: <input>:1:11: Syntax error",
        ),
        (
            "validations",
            json!([{"expression": "1"}]),
            "spec.validations[0].expression: Invalid value: \"1\": must evaluate to bool",
        ),
        ("validations", json!([{"expression": "request.nothing == ''"}]), "undefined field 'nothing'"),
        (
            "variables",
            json!([{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}]),
            "undeclared reference to 'variables'",
        ),
        (
            "matchConditions",
            json!([{"name": "a", "expression": "objects == null"}]),
            "spec.matchConditions[0].expression: Invalid value: \"objects == null\": compilation failed",
        ),
    ] {
        let mut policy = policy.clone();
        policy["spec"][field] = bad;
        let policy: ValidatingAdmissionPolicy = serde_json::from_value(policy).unwrap();
        let refused = status(policies.create(&PostParams::default(), &policy).await);
        assert!(refused.code == 422 && refused.message.contains(why), "{}", refused.message);
    }
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(policy).unwrap();
    policies.create(&PostParams::default(), &policy).await.unwrap();
    let bind = |name: &str, actions: Value| {
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": "small", "validationActions": actions,
            "paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}}});
        let (bindings, name) = (bindings.clone(), name.to_owned());
        async move {
            bindings
                .patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(with_kind(binding)))
                .await
                .unwrap();
        }
    };
    bind("deny", json!(["Deny"])).await;

    let map = |name: &str, entries: usize, metadata: Value| -> ConfigMap {
        let mut metadata = metadata;
        metadata["name"] = name.into();
        let data: serde_json::Map<String, Value> = (0..entries).map(|i| (format!("k{i}"), "v".into())).collect();
        serde_json::from_value(json!({"metadata": metadata, "data": data})).unwrap()
    };
    let create = |object: ConfigMap| {
        let maps = maps.clone();
        async move { maps.create(&PostParams::default(), &object).await }
    };
    let judged = json!({"labels": {"judged": "yes"}});
    // The caches that hold policy and binding are brought up to date by their watches.
    let mut refused = None;
    for i in 0..500 {
        match create(map(&format!("early-{i}"), 4, judged.clone())).await {
            Err(kube::Error::Api(status)) => {
                refused = Some(status);
                break;
            }
            other => drop(other.unwrap()),
        }
    }
    let refused = refused.expect("the policy is in force");
    assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
    assert!(
        refused.message.ends_with(
            "is forbidden: ValidatingAdmissionPolicy 'small' with binding 'deny' denied request: at most 3 in default"
        ),
        "{}",
        refused.message
    );

    create(map("fits", 3, judged.clone())).await.unwrap();
    create(map("unlabelled", 4, json!({}))).await.unwrap();
    create(map("exempt", 4, json!({"labels": {"judged": "yes"}, "annotations": {"exempt": ""}}))).await.unwrap();
    let grown = Patch::Merge(json!({"data": {"k7": "v", "k8": "v"}}));
    assert_eq!(status(maps.patch("fits", &PatchParams::default(), &grown).await).code, 403);

    // A policy that fails is refused or ignored, as it says.
    let failing = json!({"spec": {"validations": [{"expression": "object.data.missing == ''"}], "variables": null}});
    policies.patch("small", &PatchParams::default(), &Patch::Merge(&failing)).await.unwrap();
    let told = eventually(|i| create(map(&format!("failing-{i}"), 1, judged.clone())), |r| r.is_err()).await;
    assert!(
        status(told).message.contains("expression 'object.data.missing == ''' resulted in error: no such key: missing")
    );
    let ignoring = json!({"spec": {"failurePolicy": "Ignore"}});
    policies.patch("small", &PatchParams::default(), &Patch::Merge(&ignoring)).await.unwrap();
    eventually(|i| create(map(&format!("ignored-{i}"), 1, judged.clone())), |r| r.is_ok()).await.unwrap();
}

// [sig-api-machinery] AdmissionWebhook: match conditions that do not compile are refused.
#[tokio::test]
async fn webhooks_with_bad_match_conditions_are_refused() {
    let stand = Stand::start().await;
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(stand.admin().await);
    let hook = |expression: &str| -> ValidatingWebhookConfiguration {
        serde_json::from_value(
            json!({"metadata": {"name": "h"}, "webhooks": [{"name": "a.example.com", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://example.com/"},
            "matchConditions": [{"name": "c", "expression": expression}]}]}),
        )
        .unwrap()
    };
    let create = async |expression: &str| hooks.create(&PostParams::default(), &hook(expression)).await;
    let refused = status(create("... [] bad expression").await);
    assert!(refused.code == 422 && refused.message.contains("webhooks[0].matchConditions[0].expression"));
    assert!(refused.message.contains("compilation failed"), "{}", refused.message);
    assert!(status(create("params.x == 1").await).message.contains("undeclared reference to 'params'"));
    create("request.userInfo.username.startsWith('system:')").await.unwrap();
}

#[tokio::test]
async fn a_policy_with_variables_judges_deployments() {
    let stand = Stand::start().await;
    let registration = "/apis/admissionregistration.k8s.io/v1";
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let policy = json!({"metadata": {"name": "few-replicas"}, "spec": {
        "matchConstraints": {"resourceRules": [
            {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]},
        "variables": [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"}],
        "validations": [
            {"expression": "variables.replicas > 1", "messageExpression": "'wants more than ' + string(variables.replicas)"},
            {"expression": "variables.oddReplicas", "reason": "Invalid"}]}});
    let binding = json!({"metadata": {"name": "few-replicas"}, "spec": {"policyName": "few-replicas", "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}}});
    stand.create(&format!("{registration}/validatingadmissionpolicies"), policy).await;
    stand.create(&format!("{registration}/validatingadmissionpolicybindings"), binding).await;
    let try_create = async |name: &str, replicas: i64| {
        let template =
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let body = json!({"metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}});
        stand.call("POST", deployments, "application/json", "", &body).await
    };
    // Admission hears of a policy when its cache does.
    let (code, refused) = eventually(
        |i| {
            let name = format!("single-{i}");
            async move { try_create(&name, 1).await }
        },
        |(code, _)| *code != 201,
    )
    .await;
    assert!(code == 422 && refused["message"].as_str().unwrap().contains("wants more than 1"), "{refused}");
    assert_eq!(try_create("even", 2).await.0, 422);
    assert_eq!(try_create("odd", 3).await.0, 201);
}

fn with_kind(mut binding: Value) -> Value {
    binding["apiVersion"] = "admissionregistration.k8s.io/v1".into();
    binding["kind"] = "ValidatingAdmissionPolicyBinding".into();
    binding
}

/// Asks again until the answer is as it should become, as caches catch up.
async fn eventually<T, F: Future<Output = T>>(ask: impl Fn(usize) -> F, becomes: impl Fn(&T) -> bool) -> T {
    for i in 0..500 {
        let answer = ask(i).await;
        if becomes(&answer) {
            return answer;
        }
    }
    panic!("it never became so");
}
