//! Conversion webhooks of custom resources: [sig-api-machinery] CustomResourceConversionWebhook, and what goes with it.

use crate::stand::Stand;
use crate::webhook_server::{Call, Refusal, WebhookServer, create, delete, get, merge, send};
use kube::Client;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn items(version: &str) -> String {
    format!("/apis/stable.example.com/{version}/namespaces/default/testcrs")
}

/// `v1` has `hostPort: host:port`, `v2` has both apart.
fn convert(call: &Call) -> Option<Value> {
    let request = &call.body["request"];
    let wanted = request["desiredAPIVersion"].as_str().unwrap();
    let mut objects = request["objects"].as_array().unwrap().clone();
    for object in &mut objects {
        if wanted.ends_with("v2") {
            let joined = object["hostPort"].take().as_str().unwrap_or("").to_owned();
            let (host, port) = joined.split_once(':').unwrap_or((&joined, ""));
            (object["host"], object["port"]) = (host.into(), port.into());
            object.as_object_mut().unwrap().remove("hostPort");
        } else {
            let text = |name: &str| object[name].as_str().unwrap_or("").to_owned();
            object["hostPort"] = format!("{}:{}", text("host"), text("port")).into();
            object.as_object_mut().unwrap().retain(|name, _| name != "host" && name != "port");
        }
        object["apiVersion"] = wanted.into();
        object["metadata"]["labels"]["converted"] = "yes".into();
        if call.path == "/renames" {
            object["metadata"]["name"] = "other".into();
        }
    }
    let result = match call.path.as_str() {
        "/refuses" => json!({"status": "Failure", "message": "cannot do that"}),
        _ => json!({"status": "Success"}),
    };
    let response = json!({"uid": request["uid"], "convertedObjects": objects, "result": result});
    Some(json!({"kind": "ConversionReview", "apiVersion": call.body["apiVersion"], "response": response}))
}

struct World {
    _stand: Stand,
    client: Client,
    server: WebhookServer,
}

fn versions(stored: &str) -> Value {
    let version = |name: &str, fields: &[&str]| {
        let properties: serde_json::Map<String, Value> =
            fields.iter().map(|f| (f.to_string(), json!({"type": "string"}))).collect();
        json!({"name": name, "served": true, "storage": name == stored,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}})
    };
    json!([version("v1", &["hostPort"]), version("v2", &["host", "port"])])
}

impl World {
    async fn start(stored: &str) -> World {
        let stand = Stand::start().await;
        let client = stand.admin().await;
        let server = WebhookServer::start(convert).await;
        server.publish(&client).await;
        let world = World { _stand: stand, client, server };
        let spec = json!({"group": "stable.example.com", "scope": "Namespaced", "names": {"plural": "testcrs", "kind": "TestCr"},
            "versions": versions(stored), "conversion": world.conversion("/convert")});
        create(&world.client, DEFINITIONS, json!({"metadata": {"name": "testcrs.stable.example.com"}, "spec": spec}))
            .await
            .unwrap();
        world.until(|world| async move { get(&world.client, &items("v2")).await.is_ok() }).await;
        world
    }

    fn conversion(&self, path: &str) -> Value {
        json!({"strategy": "Webhook", "webhook": {"clientConfig": self.server.client(path), "conversionReviewVersions": ["v1", "v1beta1"]}})
    }

    async fn until<'a, F: Future<Output = bool>>(&'a self, done: impl Fn(&'a World) -> F) {
        let started = std::time::Instant::now();
        while !done(self).await {
            assert!(started.elapsed() < std::time::Duration::from_secs(30), "it does not happen");
            tokio::task::yield_now().await;
        }
    }

    async fn change(&self, spec: Value) {
        merge(&self.client, &format!("{DEFINITIONS}/testcrs.stable.example.com"), json!({"spec": spec})).await.unwrap();
    }

    async fn make(&self, version: &str, name: &str, fields: Value) -> Result<Value, Refusal> {
        let mut object = json!({"apiVersion": format!("stable.example.com/{version}"), "kind": "TestCr", "metadata": {"name": name}});
        object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        create(&self.client, &items(version), object).await
    }

    fn calls(&self) -> usize {
        self.server.calls.lock().len()
    }
}

#[tokio::test]
async fn a_v1_resource_is_read_as_v2() {
    let world = World::start("v1").await;
    world.make("v1", "a", json!({"hostPort": "localhost:80"})).await.unwrap();
    assert_eq!(world.calls(), 0, "what is stored as it came needs no conversion");
    let path = format!("{}/a", items("v2"));
    let read = get(&world.client, &path).await.unwrap();
    assert_eq!((&read["host"], &read["port"], &read["hostPort"]), (&json!("localhost"), &json!("80"), &Value::Null));
    assert_eq!(
        (&read["apiVersion"], &read["metadata"]["labels"]["converted"]),
        (&json!("stable.example.com/v2"), &json!("yes"))
    );
    get(&world.client, &path).await.unwrap();
    assert_eq!(world.calls(), 1, "what was converted once is remembered");

    // Written in the other version: stored as v1.
    let patched = merge(&world.client, &path, json!({"port": "8080"})).await.unwrap();
    assert_eq!(patched["port"], "8080");
    let old = get(&world.client, &format!("{}/a", items("v1"))).await.unwrap();
    assert_eq!(old["hostPort"], "localhost:8080");
    let made = world.make("v2", "b", json!({"host": "h", "port": "1"})).await.unwrap();
    assert_eq!(made["host"], "h");
    assert_eq!(get(&world.client, &format!("{}/b", items("v1"))).await.unwrap()["hostPort"], "h:1");
    let mut put = get(&world.client, &format!("{}/b", items("v2"))).await.unwrap();
    put["host"] = "g".into();
    send(&world.client, "PUT", &format!("{}/b", items("v2")), "application/json", &put).await.unwrap();
    assert_eq!(get(&world.client, &format!("{}/b", items("v1"))).await.unwrap()["hostPort"], "g:1");
    delete(&world.client, &format!("{}/b", items("v2"))).await.unwrap();
}

#[tokio::test]
async fn a_list_of_objects_of_both_versions_is_converted() {
    let world = World::start("v1").await;
    for name in ["a", "b", "c"] {
        world.make("v1", name, json!({"hostPort": format!("{name}:1")})).await.unwrap();
    }
    world.change(json!({"versions": versions("v2")})).await;
    world.make("v2", "d", json!({"host": "d", "port": "2"})).await.unwrap();
    world
        .until(|world| async move {
            let definition = get(&world.client, &format!("{DEFINITIONS}/testcrs.stable.example.com")).await.unwrap();
            definition["status"]["storedVersions"] == json!(["v1", "v2"])
        })
        .await;
    let before = world.calls();
    let list = get(&world.client, &items("v2")).await.unwrap();
    let hosts: Vec<_> = list["items"].as_array().unwrap().iter().map(|i| i["host"].as_str().unwrap()).collect();
    assert_eq!(hosts, ["a", "b", "c", "d"]);
    assert!(list["items"].as_array().unwrap().iter().all(|i| i["apiVersion"] == "stable.example.com/v2"));
    assert!(world.calls() <= before + 1, "one request for a whole list");
    let list = get(&world.client, &items("v1")).await.unwrap();
    assert_eq!(list["items"].as_array().unwrap().iter().filter(|i| i["hostPort"].is_string()).count(), 4);

    // A write that changes nothing moves an object to the version that is stored now.
    let version = |o: &Value| o["metadata"]["resourceVersion"].clone();
    let path = format!("{}/a", items("v1"));
    let was = get(&world.client, &path).await.unwrap();
    let moved = merge(&world.client, &path, json!({})).await.unwrap();
    assert_ne!(version(&was), version(&moved));
    assert_eq!(version(&merge(&world.client, &path, json!({})).await.unwrap()), version(&moved));
}

#[tokio::test]
async fn watches_and_tables_show_the_version_asked_for() {
    use futures::{AsyncBufReadExt, StreamExt};
    let world = World::start("v1").await;
    world.make("v1", "a", json!({"hostPort": "a:1"})).await.unwrap();
    let watch = |version: &str| format!("{}?watch=1&timeoutSeconds=20", items(version));
    let open = async |path: String| {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        world.client.request_stream(request).await.unwrap().lines()
    };
    let table = http::Request::get(format!("{}?includeObject=Object", items("v2")))
        .header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
        .body(Vec::new())
        .unwrap();
    let table: Value = world.client.request(table).await.unwrap();
    assert_eq!((&table["kind"], &table["rows"][0]["object"]["host"]), (&json!("Table"), &json!("a")));
    let (mut v1, mut v2) = (Box::pin(open(watch("v1")).await), Box::pin(open(watch("v2")).await));
    world.make("v1", "b", json!({"hostPort": "b:2"})).await.unwrap();
    delete(&world.client, &format!("{}/b", items("v1"))).await.unwrap();
    for (kind, name) in [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "b")] {
        let one: Value = serde_json::from_str(&v1.next().await.unwrap().unwrap()).unwrap();
        let two: Value = serde_json::from_str(&v2.next().await.unwrap().unwrap()).unwrap();
        assert_eq!((&one["type"], &two["type"]), (&json!(kind), &json!(kind)));
        assert_eq!(
            (&one["object"]["apiVersion"], &two["object"]["apiVersion"]),
            (&json!("stable.example.com/v1"), &json!("stable.example.com/v2"))
        );
        assert!(one["object"]["hostPort"].is_string() && two["object"]["host"] == name, "{one} {two}");
    }
}

#[tokio::test]
async fn owners_of_fields_are_told_across_versions() {
    let world = World::start("v1").await;
    let apply = async |version: &str, manager: &str, fields: Value| {
        let mut object =
            json!({"apiVersion": format!("stable.example.com/{version}"), "kind": "TestCr", "metadata": {"name": "a"}});
        object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let path = format!("{}/a?fieldManager={manager}", items(version));
        send(&world.client, "PATCH", &path, "application/apply-patch+yaml", &object).await
    };
    apply("v1", "one", json!({"hostPort": "a:1"})).await.unwrap();
    let conflict = apply("v2", "two", json!({"host": "b"})).await.unwrap_err();
    assert!(conflict.0 == 409 && conflict.1.contains("conflict with \"one\""), "{conflict:?}");
    apply("v2", "two", json!({"host": "a"})).await.unwrap();
    // A plain write in the other version takes the field from its owner.
    let written =
        merge(&world.client, &format!("{}/a?fieldManager=three", items("v2")), json!({"port": "9"})).await.unwrap();
    let managers: Vec<_> = written["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["manager"].as_str().unwrap())
        .collect();
    assert_eq!(managers, ["two", "three"]);
}

#[tokio::test]
async fn conversions_that_fail_are_told_in_upstreams_words() {
    let world = World::start("v1").await;
    world.make("v1", "a", json!({"hostPort": "a:1"})).await.unwrap();
    for (path, words) in [
        ("/refuses", "conversion webhook for stable.example.com/v1, Kind=TestCr failed: cannot do that"),
        (
            "/renames",
            "conversion webhook for stable.example.com/v1, Kind=TestCr returned invalid converted object at index 0: must have the same name: a != other",
        ),
    ] {
        world.change(json!({"conversion": world.conversion(path)})).await;
        world
            .until(|world| async move {
                get(&world.client, &format!("{}/a", items("v2"))).await.is_err_and(|e| e.1 == words)
            })
            .await;
    }
    let mut gone = world.conversion("/convert");
    gone["webhook"]["clientConfig"]["service"]["name"] = "gone".into();
    world.change(json!({"conversion": gone})).await;
    let words = "conversion webhook for stable.example.com/v1, Kind=TestCr failed: Post \"https://gone.default.svc:";
    world
        .until(|world| async move {
            get(&world.client, &items("v2")).await.is_err_and(|e| e.0 == 500 && e.1.starts_with(words))
        })
        .await;
    // What is stored can still be read as it is, and the definition be deleted.
    get(&world.client, &items("v1")).await.unwrap();
    delete(&world.client, &format!("{DEFINITIONS}/testcrs.stable.example.com")).await.unwrap();
    world
        .until(|world| async move {
            get(&world.client, &format!("{DEFINITIONS}/testcrs.stable.example.com")).await.is_err()
        })
        .await;

    let wrong = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v9"]}});
    let spec = json!({"group": "stable.example.com", "scope": "Namespaced", "names": {"plural": "testcrs", "kind": "TestCr"},
        "versions": versions("v1"), "conversion": wrong});
    let refused =
        create(&world.client, DEFINITIONS, json!({"metadata": {"name": "testcrs.stable.example.com"}, "spec": spec}))
            .await
            .unwrap_err();
    assert!(
        refused
            .1
            .contains("spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook"),
        "{refused:?}"
    );
    assert!(refused.1.contains("spec.conversion.conversionReviewVersions: Invalid value"), "{refused:?}");
}

#[tokio::test]
async fn without_a_webhook_each_version_keeps_its_fields() {
    let stand = Stand::start().await;
    let client = stand.admin().await;
    let spec = json!({"group": "stable.example.com", "scope": "Namespaced", "names": {"plural": "testcrs", "kind": "TestCr"},
        "versions": versions("v2")});
    create(&client, DEFINITIONS, json!({"metadata": {"name": "testcrs.stable.example.com"}, "spec": spec}))
        .await
        .unwrap();
    let started = std::time::Instant::now();
    while get(&client, &items("v1")).await.is_err() {
        assert!(started.elapsed() < std::time::Duration::from_secs(30), "it is not served");
        tokio::task::yield_now().await;
    }
    // Stored as v2, which does not know the field: its readers do not see it, those of v1 do.
    let object =
        json!({"apiVersion": "stable.example.com/v1", "kind": "TestCr", "metadata": {"name": "a"}, "hostPort": "h:1"});
    let made = create(&client, &items("v1"), object).await.unwrap();
    assert_eq!(made["hostPort"], "h:1");
    assert_eq!(get(&client, &format!("{}/a", items("v1"))).await.unwrap()["hostPort"], "h:1");
    let other = get(&client, &format!("{}/a", items("v2"))).await.unwrap();
    assert_eq!((&other["hostPort"], &other["apiVersion"]), (&Value::Null, &json!("stable.example.com/v2")));
    let list = get(&client, &items("v2")).await.unwrap();
    assert!(list["items"][0]["hostPort"].is_null());
}

#[tokio::test]
async fn fields_are_selected_by_in_the_version_they_are_asked_for() {
    let world = World::start("v1").await;
    let mut selectable = versions("v1");
    selectable[0]["selectableFields"] = json!([{"jsonPath": ".hostPort"}]);
    selectable[1]["selectableFields"] = json!([{"jsonPath": ".host"}, {"jsonPath": ".port"}]);
    world.change(json!({"versions": selectable})).await;
    world
        .until(
            |world| async move { get(&world.client, &format!("{}?fieldSelector=host%3Dx", items("v2"))).await.is_ok() },
        )
        .await;
    for (version, name, fields) in [
        ("v1", "a", json!({"hostPort": "host1:80"})),
        ("v1", "b", json!({"hostPort": "host1:8080"})),
        ("v2", "c", json!({"host": "host2", "port": "80"})),
    ] {
        world.make(version, name, fields).await.unwrap();
    }
    for (version, selector, found) in [
        ("v1", "hostPort=host1:80", vec!["a"]),
        ("v2", "host=host1", vec!["a", "b"]),
        ("v2", "host=host1,port=8080", vec!["b"]),
        ("v2", "port=80", vec!["a", "c"]),
        ("v2", "host!=host1", vec!["c"]),
    ] {
        let query = selector.replace('=', "%3D");
        let list = get(&world.client, &format!("{}?fieldSelector={query}", items(version))).await.unwrap();
        let names: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, found, "{version} {selector}");
    }

    // A watch tells what begins and ceases to match.
    let since =
        get(&world.client, &items("v2")).await.unwrap()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    merge(&world.client, &format!("{}/a", items("v2")), json!({"host": "host3"})).await.unwrap();
    merge(&world.client, &format!("{}/c", items("v1")), json!({"hostPort": "host1:1"})).await.unwrap();
    delete(&world.client, &format!("{}/b", items("v1"))).await.unwrap();
    let watch = format!("{}?watch=1&timeoutSeconds=1&fieldSelector=host%3Dhost1&resourceVersion={since}", items("v2"));
    let (_, events) = world._stand.call("GET", &watch, "", "", &Value::Null).await;
    let told: Vec<String> = events
        .as_str()
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .map(|event: Value| {
            format!(
                "{} {}",
                event["type"].as_str().unwrap(),
                event["object"]["metadata"]["name"].as_str().unwrap_or("")
            )
        })
        .filter(|text| !text.starts_with("BOOKMARK"))
        .collect();
    assert_eq!(told, ["DELETED a", "ADDED c", "DELETED b"]);
}
