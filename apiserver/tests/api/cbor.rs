//! CBOR (KEP-4222), where its gate is on and where it is not.

use crate::stand::Stand;
use apimachinery::Value;
use apimachinery::codec::cbor;
use apimachinery::schema::Schema;
use http_body_util::BodyExt;
use serde_json::json;

const CBOR: &str = "application/cbor";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const GATE: &str = "--feature-gates=CBORServingAndStorage=true";

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    cbor::encode(Schema::builtin(), None, value, &mut out);
    out
}

/// A request in `content` whose answer is wanted in CBOR: its code, its type and its body, which describes itself.
async fn send(stand: &Stand, method: &str, path: &str, content: &str, body: Vec<u8>) -> (u16, String, Value) {
    let request = http::Request::builder().method(method).uri(path).header("accept", CBOR);
    let answer = stand.send(request.header("content-type", content).body(body).unwrap()).await;
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let code = answer.status().as_u16();
    let body = answer.into_body();
    assert!(cbor::is_self_described(&body), "{method} {path}: {}", String::from_utf8_lossy(&body));
    (code, kind, cbor::parse(&body).unwrap())
}

#[tokio::test]
async fn cbor_is_json_in_other_bytes() {
    let stand = Stand::start_with(&[GATE]).await;
    let get = async |path: &str| send(&stand, "GET", path, CBOR, Vec::new()).await;

    // Written, read, listed, in both encodings the same.
    let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "m"}, "data": {"k": "ä"}});
    let (code, kind, created) = send(&stand, "POST", MAPS, CBOR, encoded(&map)).await;
    assert_eq!((code, &*kind, &created["data"]), (201, CBOR, &map["data"]));
    stand.create(MAPS, json!({"metadata": {"name": "n"}})).await;
    for path in [format!("{MAPS}/m"), MAPS.to_owned(), "/api/v1".into(), "/apis".into(), "/apis/apps".into()] {
        let (code, kind, answer) = get(&path).await;
        assert_eq!((code, &*kind, &answer), (200, CBOR, &stand.get(&path).await), "{path}");
    }
    let (code, _, missing) = get(&format!("{MAPS}/missing")).await;
    assert_eq!((code, &missing["kind"], &missing["reason"]), (404, &json!("Status"), &json!("NotFound")));

    // Bytes are bytes: no base64 on the way.
    let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {"k": "aGVsbG8="}});
    let shape = Schema::builtin().kind("", "v1", "Secret").unwrap().id;
    let mut body = Vec::new();
    cbor::encode(Schema::builtin(), Some(&apimachinery::schema::Shape::Struct(shape)), &secret, &mut body);
    let secrets = "/api/v1/namespaces/default/secrets";
    let (code, _, created) = send(&stand, "POST", secrets, CBOR, body).await;
    assert_eq!((code, &created["data"]["k"]), (201, &json!("aGVsbG8=")));
    for path in [format!("{secrets}/s"), secrets.to_owned()] {
        let request = http::Request::get(path).header("accept", CBOR).body(Vec::new()).unwrap();
        let body = stand.send(request).await.into_body();
        assert!(body.windows(7).any(|bytes| bytes == b"\xd6\x45hello"), "{}", String::from_utf8_lossy(&body));
    }

    // Other views.
    for view in ["Table", "PartialObjectMetadataList"] {
        let accept = |encoding: &str| format!("application/{encoding};as={view};g=meta.k8s.io;v=v1");
        let request = http::Request::get(MAPS).header("accept", accept("cbor")).body(Vec::new()).unwrap();
        let answer = cbor::parse(&stand.send(request).await.into_body()).unwrap();
        assert_eq!(answer, stand.call("GET", MAPS, "", &accept("json"), &Value::Null).await.1);
    }

    // Apply, and update.
    let path = format!("{MAPS}/m?fieldManager=a&force=true");
    let apply = "application/apply-patch+cbor";
    let (code, _, applied) = send(
        &stand,
        "PATCH",
        &path,
        apply,
        encoded(&json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"x": "y"}})),
    )
    .await;
    assert_eq!((code, &applied["data"]), (200, &json!({"k": "ä", "x": "y"})));
    let (code, _, updated) = send(&stand, "PUT", &format!("{MAPS}/m"), CBOR, encoded(&map)).await;
    assert_eq!((code, &updated["data"]), (200, &map["data"]));

    // A watch is a sequence of items.
    let path = format!("{MAPS}?watch=true&fieldSelector=metadata.name=m&timeoutSeconds=1");
    let request = http::Request::get(path).header("accept", CBOR).body(Vec::new()).unwrap();
    let answer = stand.open(request).await;
    assert_eq!(answer.headers()["content-type"], "application/cbor-seq");
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let event = cbor::parse(&bytes).unwrap();
    assert_eq!((&event["type"], &event["object"]["data"]), (&json!("ADDED"), &map["data"]));

    // What is no object.
    for (body, why) in [
        (&b"\xd9\xd9\xf7\xa2\x41a\x01\x41a\x02"[..], "found duplicate map key \"a\""),
        (b"{\"a\":1}", "unable to determine group/version/kind"),
        (b"", "<empty>"),
        (b"\xd9\xd9\xf7\xa1\x44kind\x43Pod", "the kind Pod is not ConfigMap"),
    ] {
        let (code, _, status) = send(&stand, "POST", MAPS, CBOR, body.to_vec()).await;
        let message = status["message"].as_str().unwrap();
        assert!(code == 400 && message.contains(why), "{code} {message}");
    }
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let (code, _, status) =
        send(&stand, "POST", &strict, CBOR, encoded(&json!({"metadata": {"name": "o"}, "x": 1}))).await;
    assert!(code == 400 && status["message"].as_str().unwrap().contains("unknown field \"x\""), "{status}");

    // Documents say so.
    let v3 = stand.get("/openapi/v3/api/v1").await;
    let operation = &v3["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
    assert!(operation["responses"]["200"]["content"][CBOR].is_object());
    assert!(operation["requestBody"]["content"][apply].is_object());
}

#[tokio::test]
async fn custom_resources_are_stored_in_cbor_and_read_without_the_gate() {
    let stand = Stand::start_with(&[GATE]).await;
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"size": {"type": "number"}, "text": {"type": "string"}}}}});
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    stand.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    let path = "/apis/example.com/v1/namespaces/default/widgets";
    stand.until(path, |code, _| code == 200).await;
    let widget = json!({"kind": "Widget", "apiVersion": "example.com/v1", "metadata": {"name": "w"},
        "spec": {"size": 1.5, "text": "x"}});
    let (code, _, created) = send(&stand, "POST", path, CBOR, encoded(&widget)).await;
    assert_eq!((code, &created["spec"]), (201, &widget["spec"]));
    assert!(cbor::is_self_described(&stand.stored("/registry/example.com/widgets/default/w").await));

    let without = stand.beside(&[]).await;
    let read = without.until(&format!("{path}/w"), |code, _| code == 200).await;
    assert_eq!(read["spec"], widget["spec"]);
    // Off is off.
    let body = encoded(&json!({"metadata": {"name": "m"}}));
    let request = http::Request::post(MAPS).header("content-type", CBOR).body(body).unwrap();
    let refused = without.send(request).await;
    assert_eq!(refused.status(), 415);
    assert_eq!(without.call("GET", MAPS, "", CBOR, &Value::Null).await.0, 406);
    let (code, _) = without.call("PATCH", &format!("{MAPS}/m"), "application/apply-patch+cbor", "", &json!({})).await;
    assert_eq!(code, 415);
}
