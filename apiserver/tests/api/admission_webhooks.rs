//! Admission webhooks, by the behaviours of conformance: [sig-api-machinery] AdmissionWebhook.

use crate::stand::Stand;
use crate::webhook_server::{Call, WebhookServer, create, delete, get, merge, send};
use base64::Engine;
use kube::Client;
use serde_json::{Value, json};

const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Answers by path: what each sample webhook says.
fn answer(call: &Call) -> Option<Value> {
    let request = &call.body["request"];
    let object = &request["object"];
    let version = call.body["apiVersion"].clone();
    let allow = |response: Value| {
        let mut response = response;
        response["uid"] = request["uid"].clone();
        Some(json!({"kind": "AdmissionReview", "apiVersion": version, "response": response}))
    };
    let deny =
        |why: &str| allow(json!({"allowed": false, "status": {"message": why, "code": 403, "reason": "Forbidden"}}));
    let patch = |operations: Value| {
        let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
        allow(json!({"allowed": true, "patch": patch, "patchType": "JSONPatch"}))
    };
    let data = |key: &str| &object["data"][key];
    match call.path.as_str() {
        "/always-deny" => deny("this webhook denies all requests"),
        "/hang" => None,
        "/configmaps" if data("webhook-e2e-test") == "webhook-disallow" => {
            deny("the configmap contains unwanted key and value")
        }
        "/pods" if object["spec"]["containers"][0]["name"] == "webhook-disallow" => {
            deny("the pod contains unwanted container name")
        }
        "/custom"
            if object["data"]["webhook-e2e-test"] == "webhook-disallow"
                || request["oldObject"]["data"]["webhook-e2e-test"] == "webhook-nondeletable" =>
        {
            deny("the custom resource contains unwanted data")
        }
        "/stage-1" if data("mutation-start") == "yes" => {
            patch(json!([{"op": "add", "path": "/data/mutation-stage-1", "value": "yes"}]))
        }
        "/stage-2" if data("mutation-stage-1") == "yes" => {
            patch(json!([{"op": "add", "path": "/data/mutation-stage-2", "value": "yes"}]))
        }
        "/count" => {
            let seen = data("count").as_str().and_then(|n| n.parse().ok()).unwrap_or(0) + 1;
            patch(json!([{"op": "add", "path": "/data/count", "value": seen.to_string()}]))
        }
        "/init-container" => patch(json!([{"op": "add", "path": "/spec/initContainers",
            "value": [{"image": "webhook-added-image", "name": "webhook-added-init-container", "resources": {}}]}])),
        "/replicas" => patch(json!([{"op": "replace", "path": "/spec/replicas", "value": 7}])),
        "/warn" => allow(json!({"allowed": true, "warnings": ["careful"], "auditAnnotations": {"k": "v"}})),
        "/wrong-uid" => Some(
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": {"uid": "x", "allowed": true}}),
        ),
        _ => allow(json!({"allowed": true})),
    }
}

struct World {
    _stand: Stand,
    client: Client,
    server: WebhookServer,
}

impl World {
    async fn start() -> World {
        let stand = Stand::start().await;
        let client = stand.admin().await;
        let server = WebhookServer::start(answer).await;
        server.publish(&client).await;
        World { _stand: stand, client, server }
    }

    fn hook(&self, name: &str, path: &str, rule: (&str, &str, &str), more: Value) -> Value {
        let (operation, group, resource) = rule;
        let mut hook = json!({
            "name": format!("{name}.example.com"), "clientConfig": self.server.client(path), "sideEffects": "None",
            "admissionReviewVersions": ["v1", "v1beta1"],
            "rules": [{"operations": operation.split(',').collect::<Vec<_>>(), "apiGroups": [group], "apiVersions": ["*"], "resources": [resource]}],
        });
        if let (Some(hook), Some(more)) = (hook.as_object_mut(), more.as_object()) {
            hook.extend(more.clone());
        }
        hook
    }

    async fn register(&self, kind: &str, name: &str, hooks: Vec<Value>) {
        let path = format!("{REGISTRATION}/{}webhookconfigurations", kind.to_lowercase());
        let body = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
            "metadata": {"name": name, "labels": {"test": "yes"}}, "webhooks": hooks});
        create(&self.client, &path, body).await.unwrap();
        // A consistent read: afterwards the cache knows what was written, and so does admission.
        get(&self.client, &path).await.unwrap();
    }

    async fn settle(&self, kind: &str) {
        get(&self.client, &format!("{REGISTRATION}/{kind}webhookconfigurations")).await.unwrap();
    }

    async fn map(&self, name: &str, data: Value) -> Result<Value, (u16, String)> {
        create(&self.client, MAPS, json!({"metadata": {"name": name}, "data": data})).await
    }

    async fn pod(&self, name: &str, container: &str) -> Result<Value, (u16, String)> {
        let spec = json!({"containers": [{"name": container, "image": "i"}]});
        create(&self.client, PODS, json!({"metadata": {"name": name}, "spec": spec})).await
    }

    fn calls(&self, path: &str) -> Vec<Call> {
        self.server.calls.lock().iter().filter(|c| c.path == path).cloned().collect()
    }
}

fn refused(result: Result<Value, (u16, String)>, code: u16, words: &str) {
    match result {
        Err((got, message)) => assert!(got == code && message.contains(words), "{got} {message}"),
        Ok(value) => panic!("allowed: {value}"),
    }
}

#[tokio::test]
async fn pod_and_configmap_creation_is_denied() {
    let world = World::start().await;
    let bad = json!({"webhook-e2e-test": "webhook-disallow"});
    let exempt =
        json!({"namespaceSelector": {"matchExpressions": [{"key": "exempt", "operator": "NotIn", "values": ["yes"]}]}});
    world
        .register(
            "Validating",
            "deny",
            vec![
                world.hook("maps", "/configmaps", ("CREATE,UPDATE,DELETE", "", "configmaps"), exempt),
                world.hook("pods", "/pods", ("CREATE", "", "pods"), json!({})),
            ],
        )
        .await;
    refused(
        world.pod("p", "webhook-disallow").await,
        403,
        "admission webhook \"pods.example.com\" denied the request: the pod contains unwanted",
    );
    refused(
        world.map("m", bad.clone()).await,
        403,
        "admission webhook \"maps.example.com\" denied the request: the configmap contains unwanted key and value",
    );
    world.map("m", json!({"a": "b"})).await.unwrap();
    let path = format!("{MAPS}/m");
    refused(merge(&world.client, &path, json!({"data": bad})).await, 403, "unwanted key");
    let mut put = get(&world.client, &path).await.unwrap();
    put["data"] = bad.clone();
    refused(send(&world.client, "PUT", &path, "application/json", &put).await, 403, "unwanted key");
    create(&world.client, "/api/v1/namespaces", json!({"metadata": {"name": "free", "labels": {"exempt": "yes"}}}))
        .await
        .unwrap();
    create(&world.client, "/api/v1/namespaces/free/configmaps", json!({"metadata": {"name": "m"}, "data": bad}))
        .await
        .unwrap();

    // What the webhook was told.
    let call = &world.calls("/configmaps")[0];
    let request = &call.body["request"];
    assert_eq!(call.body["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(call.query, "timeout=10s");
    assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(request["requestResource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!(
        (&request["operation"], &request["name"], &request["namespace"]),
        (&json!("CREATE"), &json!("m"), &json!("default"))
    );
    assert_eq!(request["userInfo"]["username"], "admin");
    assert_eq!(
        (&request["options"]["kind"], &request["dryRun"], &request["oldObject"]),
        (&json!("CreateOptions"), &json!(false), &Value::Null)
    );
    assert_eq!(request["object"]["kind"], "ConfigMap");
    delete(&world.client, &path).await.unwrap();
    let request = world.calls("/configmaps").pop().unwrap().body["request"].clone();
    assert_eq!(
        (&request["operation"], &request["object"], &request["options"]["kind"]),
        (&json!("DELETE"), &Value::Null, &json!("DeleteOptions"))
    );
    assert_eq!(request["oldObject"]["data"], json!({"a": "b"}));
}

#[tokio::test]
async fn timeouts_are_honored() {
    let world = World::start().await;
    let limits = |seconds: u64, policy: &str| json!({"timeoutSeconds": seconds, "failurePolicy": policy});
    world
        .register(
            "Validating",
            "slow",
            vec![world.hook("slow", "/hang", ("CREATE", "", "configmaps"), limits(1, "Fail"))],
        )
        .await;
    let result = world.map("m", json!({})).await;
    refused(result.clone(), 500, "failed calling webhook \"slow.example.com\": failed to call webhook: Post");
    refused(result, 500, "/hang?timeout=1s\": context deadline exceeded");
    let path = format!("{REGISTRATION}/validatingwebhookconfigurations/slow");
    let hooks = vec![world.hook("slow", "/hang", ("CREATE", "", "configmaps"), limits(1, "Ignore"))];
    merge(&world.client, &path, json!({"webhooks": hooks})).await.unwrap();
    world.settle("validating").await;
    world.map("m", json!({})).await.unwrap();
}

#[tokio::test]
async fn a_webhook_that_cannot_be_called_fails_closed() {
    let world = World::start().await;
    let mut hook = world.hook("closed", "/configmaps", ("CREATE", "", "configmaps"), json!({"failurePolicy": "Fail"}));
    hook["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    let nowhere =
        json!({"failurePolicy": "Fail", "clientConfig": {"service": {"namespace": "default", "name": "none"}}});
    world.register("Validating", "closed", vec![hook, world.hook("none", "/", ("CREATE", "", "pods"), nowhere)]).await;
    refused(
        world.map("m", json!({})).await,
        500,
        "Internal error occurred: failed calling webhook \"closed.example.com\": failed to call webhook: Post \"https://hook.default.svc:",
    );
    refused(world.map("m", json!({})).await, 500, "x509: certificate signed by unknown authority");
    refused(world.pod("p", "c").await, 500, "service \"none\" not found");
    let confused = world.hook("uid", "/wrong-uid", ("CREATE", "", "secrets"), json!({}));
    world.register("Mutating", "confused", vec![confused]).await;
    let secret = create(&world.client, "/api/v1/namespaces/default/secrets", json!({"metadata": {"name": "s"}})).await;
    refused(secret, 500, "received invalid webhook response: expected response.uid=");
}

#[tokio::test]
async fn configmaps_are_mutated_in_order() {
    let world = World::start().await;
    // Named so that order by name is the order of the stages.
    world.register("Mutating", "b", vec![world.hook("two", "/stage-2", ("CREATE", "", "configmaps"), json!({}))]).await;
    world.register("Mutating", "a", vec![world.hook("one", "/stage-1", ("CREATE", "", "configmaps"), json!({}))]).await;
    let made = world.map("m", json!({"mutation-start": "yes"})).await.unwrap();
    assert_eq!(made["data"], json!({"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}));
}

#[tokio::test]
async fn a_webhook_is_asked_again_when_others_changed_the_object() {
    let world = World::start().await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    world
        .register(
            "Mutating",
            "a",
            vec![
                world.hook("count", "/count", ("CREATE", "", "configmaps"), again),
                world.hook("once", "/stage-1", ("CREATE", "", "configmaps"), json!({})),
            ],
        )
        .await;
    let made = world.map("m", json!({"mutation-start": "yes"})).await.unwrap();
    assert_eq!(made["data"]["count"], "2");
    assert_eq!(world.calls("/stage-1").len(), 1);
}

#[tokio::test]
async fn pods_are_mutated_and_defaults_applied_after() {
    let world = World::start().await;
    world
        .register("Mutating", "init", vec![world.hook("init", "/init-container", ("CREATE", "", "pods"), json!({}))])
        .await;
    let pod = world.pod("p", "c").await.unwrap();
    let init = &pod["spec"]["initContainers"][0];
    assert_eq!(
        (&init["name"], &init["terminationMessagePolicy"]),
        (&json!("webhook-added-init-container"), &json!("File"))
    );
}

#[tokio::test]
async fn attaching_to_a_pod_is_denied() {
    let world = World::start().await;
    world
        .register(
            "Validating",
            "attach",
            vec![world.hook("attach", "/always-deny", ("CONNECT", "", "pods/attach"), json!({}))],
        )
        .await;
    world.pod("p", "c").await.unwrap();
    let attach =
        send(&world.client, "POST", &format!("{PODS}/p/attach?stdin=true&container=c"), "", &Value::Null).await;
    refused(
        attach,
        403,
        "admission webhook \"attach.example.com\" denied the request: this webhook denies all requests",
    );
    let request = world.calls("/always-deny")[0].body["request"].clone();
    assert_eq!(
        request["object"],
        json!({"kind": "PodAttachOptions", "apiVersion": "v1", "stdin": true, "container": "c"})
    );
    assert_eq!((&request["subResource"], &request["operation"]), (&json!("attach"), &json!("CONNECT")));
}

#[tokio::test]
async fn webhook_configurations_are_not_put_to_webhooks() {
    let world = World::start().await;
    let all = ("*", "admissionregistration.k8s.io", "*");
    world.register("Validating", "v", vec![world.hook("v", "/always-deny", all, json!({}))]).await;
    world.register("Mutating", "m", vec![world.hook("m", "/always-deny", all, json!({}))]).await;
    world.register("Mutating", "dummy", vec![world.hook("d", "/x", ("CREATE", "", "nothings"), json!({}))]).await;
    delete(&world.client, &format!("{REGISTRATION}/mutatingwebhookconfigurations/dummy")).await.unwrap();
    assert!(world.calls("/always-deny").is_empty());
}

#[tokio::test]
async fn definitions_and_custom_resources_are_denied_and_mutated() {
    let world = World::start().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let data = json!({"type": "object", "properties": {"mutation-start": {"type": "string"}, "mutation-stage-1": {"type": "string"},
        "webhook-e2e-test": {"type": "string"}, "other": {"type": "string"}}});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"data": data}}}})
    };
    let definition = |plural: &str| {
        json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {"group": "example.com",
        "scope": "Namespaced", "names": {"plural": plural, "kind": plural}, "versions": [version("v1", true), version("v2", false)]}})
    };
    create(&world.client, definitions, definition("foos")).await.unwrap();
    let foos = "/apis/example.com/v1/namespaces/default/foos";
    while get(&world.client, foos).await.is_err() {
        tokio::task::yield_now().await;
    }
    world
        .register(
            "Validating",
            "crd",
            vec![
                world.hook("crd", "/always-deny", ("CREATE", "apiextensions.k8s.io", "*"), json!({})),
                world.hook("custom", "/custom", ("CREATE,UPDATE,DELETE", "example.com", "foos"), json!({})),
            ],
        )
        .await;
    refused(create(&world.client, definitions, definition("bars")).await, 403, "denies all requests");
    let foo = |name: &str, data: Value| json!({"apiVersion": "example.com/v1", "kind": "foos", "metadata": {"name": name}, "data": data});
    refused(
        create(&world.client, foos, foo("a", json!({"webhook-e2e-test": "webhook-disallow"}))).await,
        403,
        "unwanted data",
    );
    create(&world.client, foos, foo("a", json!({"webhook-e2e-test": "webhook-nondeletable"}))).await.unwrap();
    let a = format!("{foos}/a");
    refused(
        merge(&world.client, &a, json!({"data": {"webhook-e2e-test": "webhook-disallow"}})).await,
        403,
        "unwanted data",
    );
    refused(delete(&world.client, &a).await, 403, "unwanted data");
    // Fields that the schema does not know are pruned after mutation.
    world
        .register(
            "Mutating",
            "mutate",
            vec![
                world.hook("one", "/stage-1", ("CREATE", "example.com", "foos"), json!({})),
                world.hook("two", "/stage-2", ("CREATE", "example.com", "foos"), json!({})),
            ],
        )
        .await;
    let made = create(&world.client, foos, foo("b", json!({"mutation-start": "yes"}))).await.unwrap();
    assert_eq!(made["data"], json!({"mutation-start": "yes", "mutation-stage-1": "yes"}));
    // The stored version changes; objects of the old one are patched all the same.
    let two = json!({"spec": {"versions": [version("v1", false), version("v2", true)]}});
    merge(&world.client, &format!("{definitions}/foos.example.com"), two).await.unwrap();
    let patched = merge(&world.client, &format!("{foos}/b"), json!({"data": {"other": "x"}})).await.unwrap();
    assert_eq!((&patched["data"]["other"], &patched["data"]["mutation-stage-1"]), (&json!("x"), &json!("yes")));
}

#[tokio::test]
async fn changed_configurations_take_effect() {
    let world = World::start().await;
    let rule = |operation: &str| json!([{"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    world.register("Mutating", "m", vec![world.hook("m", "/stage-1", ("CREATE", "", "configmaps"), json!({}))]).await;
    world
        .register("Validating", "v", vec![world.hook("v", "/configmaps", ("CREATE", "", "configmaps"), json!({}))])
        .await;
    let bad = json!({"webhook-e2e-test": "webhook-disallow", "mutation-start": "yes"});
    let patch = |operation: &str| json!([{"op": "replace", "path": "/webhooks/0/rules", "value": rule(operation)}]);
    for (operation, name) in [("UPDATE", "one"), ("CREATE", "two")] {
        for kind in ["mutating/m", "validating/v"] {
            let (kind, object) = kind.split_once('/').unwrap();
            let path = format!("{REGISTRATION}/{kind}webhookconfigurations/{object}");
            send(&world.client, "PATCH", &path, "application/json-patch+json", &patch(operation)).await.unwrap();
            world.settle(kind).await;
        }
        let made = world.map(name, bad.clone()).await;
        match operation {
            "UPDATE" => assert!(made.unwrap()["data"]["mutation-stage-1"].is_null()),
            _ => refused(made, 403, "unwanted key"),
        }
    }
    let made = world.map("three", json!({"mutation-start": "yes"})).await.unwrap();
    assert_eq!(made["data"]["mutation-stage-1"], "yes");
}

#[tokio::test]
async fn listed_configurations_are_deleted_as_a_collection() {
    let world = World::start().await;
    for i in 0..10 {
        let (m, v) = (format!("m{i}"), format!("v{i}"));
        world.register("Mutating", &m, vec![world.hook(&m, "/stage-1", ("CREATE", "", "configmaps"), json!({}))]).await;
        world
            .register("Validating", &v, vec![world.hook(&v, "/configmaps", ("CREATE", "", "configmaps"), json!({}))])
            .await;
    }
    let data = json!({"mutation-start": "yes"});
    assert_eq!(world.map("a", data.clone()).await.unwrap()["data"]["mutation-stage-1"], "yes");
    refused(world.map("b", json!({"webhook-e2e-test": "webhook-disallow"})).await, 403, "unwanted key");
    for kind in ["mutating", "validating"] {
        let path = format!("{REGISTRATION}/{kind}webhookconfigurations?labelSelector=test%3Dyes");
        assert_eq!(get(&world.client, &path).await.unwrap()["items"].as_array().unwrap().len(), 10);
        delete(&world.client, &path).await.unwrap();
        world.settle(kind).await;
    }
    let made = world.map("b", json!({"webhook-e2e-test": "webhook-disallow", "mutation-start": "yes"})).await.unwrap();
    assert!(made["data"]["mutation-stage-1"].is_null());
}

#[tokio::test]
async fn match_conditions_are_stored_and_discovery_names_the_configurations() {
    let world = World::start().await;
    let condition = |expression: &str| json!({"matchConditions": [{"name": "c", "expression": expression}]});
    for (kind, small) in [("Mutating", "mutating"), ("Validating", "validating")] {
        world.register(kind, "c", vec![world.hook("c", "/x", ("CREATE", "", "nothings"), condition("true"))]).await;
        let path = format!("{REGISTRATION}/{small}webhookconfigurations/c");
        let mut stored = get(&world.client, &path).await.unwrap();
        assert_eq!(stored["webhooks"][0]["matchConditions"][0]["expression"], "true");
        stored["webhooks"][0]["matchConditions"][0]["expression"] = "false".into();
        let updated = send(&world.client, "PUT", &path, "application/json", &stored).await.unwrap();
        assert_eq!(updated["webhooks"][0]["matchConditions"][0]["expression"], "false");
        let resources = get(&world.client, REGISTRATION).await.unwrap();
        let plural = format!("{small}webhookconfigurations");
        assert!(resources["resources"].as_array().unwrap().iter().any(|r| r["name"] == *plural));
    }
}

#[tokio::test]
async fn dry_runs_reach_only_webhooks_without_side_effects() {
    let world = World::start().await;
    world
        .register(
            "Mutating",
            "m",
            vec![world.hook("m", "/stage-1", ("CREATE", "", "configmaps"), json!({"sideEffects": "NoneOnDryRun"}))],
        )
        .await;
    let body = json!({"metadata": {"name": "m"}, "data": {"mutation-start": "yes"}});
    let made = create(&world.client, &format!("{MAPS}?dryRun=All&fieldManager=me"), body).await.unwrap();
    assert_eq!(made["data"]["mutation-stage-1"], "yes");
    let request = world.calls("/stage-1")[0].body["request"].clone();
    assert_eq!(request["dryRun"], true);
    assert_eq!(
        request["options"],
        json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"], "fieldManager": "me"})
    );
}

#[tokio::test]
async fn other_versions_and_subresources_are_put_to_webhooks_in_the_form_they_name() {
    let world = World::start().await;
    let only_v1 = json!({"admissionReviewVersions": ["v1beta1"],
        "rules": [{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"], "resources": ["horizontalpodautoscalers"]}]});
    world
        .register(
            "Validating",
            "v",
            vec![
                world.hook("hpa", "/hpa", ("", "", ""), only_v1.clone()),
                world.hook("warn", "/warn", ("CREATE", "", "pods/eviction"), json!({})),
                world.hook(
                    "bind",
                    "/bind",
                    ("CREATE", "", "pods/binding"),
                    json!({"objectSelector": {"matchLabels": {"none": "such"}}}),
                ),
            ],
        )
        .await;
    world
        .register(
            "Mutating",
            "m",
            vec![world.hook("scale", "/replicas", ("UPDATE", "apps", "deployments/scale"), json!({}))],
        )
        .await;
    let spec = json!({"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]});
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    create(&world.client, path, json!({"metadata": {"name": "h"}, "spec": spec})).await.unwrap();
    let call = world.calls("/hpa")[0].clone();
    let request = &call.body["request"];
    assert_eq!(call.body["apiVersion"], "admission.k8s.io/v1beta1");
    assert_eq!((&request["kind"]["version"], &request["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
    assert_eq!(request["object"]["spec"]["targetCPUUtilizationPercentage"], 50);
    assert_eq!(request["object"]["apiVersion"], "autoscaling/v1");

    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}});
    create(&world.client, "/apis/apps/v1/namespaces/default/deployments", deployment).await.unwrap();
    let scale = "/apis/apps/v1/namespaces/default/deployments/d/scale";
    let scaled = merge(&world.client, scale, json!({"spec": {"replicas": 2}})).await.unwrap();
    assert_eq!(scaled["spec"]["replicas"], 7);
    let request = world.calls("/replicas")[0].body["request"].clone();
    assert_eq!((&request["object"]["kind"], &request["oldObject"]["spec"]["replicas"]), (&json!("Scale"), &json!(1)));

    world.pod("p", "c").await.unwrap();
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    create(&world.client, &format!("{PODS}/p/binding"), binding).await.unwrap();
    assert!(world.calls("/bind").is_empty(), "the object selector selects no Binding");
    create(
        &world.client,
        &format!("{PODS}/p/eviction"),
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}),
    )
    .await
    .unwrap();
    assert_eq!(world.calls("/warn")[0].body["request"]["object"]["kind"], "Eviction");
}

#[tokio::test]
async fn warnings_reach_the_client_of_what_passes_and_of_what_does_not() {
    let world = World::start().await;
    let labelled = json!({"objectSelector": {"matchLabels": {"deny": "yes"}}});
    world
        .register(
            "Mutating",
            "m",
            vec![
                world.hook("warn", "/warn", ("CREATE,UPDATE", "", "configmaps"), json!({})),
                world.hook("deny", "/always-deny", ("CREATE,UPDATE", "", "configmaps"), labelled),
            ],
        )
        .await;
    for (name, label, code) in [("a", "no", 201), ("b", "yes", 403)] {
        let body = json!({"metadata": {"name": name, "labels": {"deny": label}}}).to_string();
        let request =
            http::Request::post(MAPS).header("content-type", "application/json").body(body.into_bytes().into());
        let answer = world.client.send(request.unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), code);
        assert_eq!(answer.headers()["warning"], "299 - \"careful\"");
    }
    // The old object counts too: taking the label away does not get around the webhook.
    let denied = json!({"metadata": {"labels": {"deny": "yes"}}});
    refused(merge(&world.client, &format!("{MAPS}/a"), denied).await, 403, "denied the request");
}

#[tokio::test]
async fn namespaces_are_selected_by_their_own_labels() {
    let world = World::start().await;
    let only = json!({"namespaceSelector": {"matchLabels": {"guarded": "yes"}}});
    let all = ("CREATE,UPDATE,DELETE", "", "namespaces");
    world.register("Validating", "v", vec![world.hook("ns", "/always-deny", all, only)]).await;
    let namespaces = "/api/v1/namespaces";
    create(&world.client, namespaces, json!({"metadata": {"name": "a"}})).await.unwrap();
    let guarded = json!({"metadata": {"name": "b", "labels": {"guarded": "yes"}}});
    refused(create(&world.client, namespaces, guarded).await, 403, "denied the request");
    let label = json!({"metadata": {"labels": {"guarded": "yes"}}});
    refused(merge(&world.client, &format!("{namespaces}/a"), label).await, 403, "denied the request");
    delete(&world.client, &format!("{namespaces}/a")).await.unwrap();
}

#[tokio::test]
async fn match_conditions_exempt_objects_and_must_compile() {
    let world = World::start().await;
    let condition = |expression: &str| json!({"matchConditions": [{"name": "skip-me", "expression": expression}]});
    let hook =
        world.hook("count", "/count", ("CREATE", "", "configmaps"), condition("object.metadata.name != 'skip-me'"));
    world.register("Mutating", "count", vec![hook]).await;
    assert!(world.map("skip-me", json!({"a": "b"})).await.unwrap()["data"]["count"].is_null());
    assert_eq!(world.map("other", json!({"a": "b"})).await.unwrap()["data"]["count"], "1");

    for kind in ["Mutating", "Validating"] {
        let hook = world.hook("bad", "/x", ("CREATE", "", "nothings"), condition("... [] bad expression"));
        let body = json!({"metadata": {"name": "bad"}, "webhooks": [hook]});
        let path = format!("{REGISTRATION}/{}webhookconfigurations", kind.to_lowercase());
        let (code, message) = create(&world.client, &path, body).await.unwrap_err();
        assert!(code == 422 && message.contains("compilation failed"), "{message}");
    }
}
