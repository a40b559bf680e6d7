//! Input that no client should send: each is answered by a Status, nothing is written, and the server goes on.

use crate::stand::Stand;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTO: &str = "application/vnd.kubernetes.protobuf";

/// Method, path, content type and body; the code and the reason of the answer.
type Case = (&'static str, String, &'static str, Vec<u8>, u16, &'static str);

/// Aliases of aliases: a few hundred bytes that stand for millions of items.
fn bomb() -> Vec<u8> {
    let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (before, name) in ('a'..'i').zip('b'..) {
        text += &format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(", "));
    }
    text.into_bytes()
}

#[tokio::test]
async fn bad_input_gets_a_status_and_writes_nothing() {
    let stand = Stand::start().await;
    let nested = |open: &str, close: &str, depth: usize| {
        format!(r#"{{"metadata":{{"name":"d"}},"x":{}1{}}}"#, open.repeat(depth), close.repeat(depth)).into_bytes()
    };
    let map = |inside: &str| format!(r#"{{"metadata":{{"name":"m"}},"data":{{{inside}}}}}"#).into_bytes();
    let pod = |priority: &str| {
        format!(r#"{{"metadata":{{"name":"p"}},"spec":{{"priority":{priority},"containers":[{{"name":"c","image":"i"}}]}}}}"#)
            .into_bytes()
    };
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let cases: Vec<Case> = vec![
        ("POST", MAPS.into(), JSON, nested("[", "]", 100_000), 400, "BadRequest"),
        ("POST", MAPS.into(), JSON, nested("{\"a\":", "}", 100_000), 400, "BadRequest"),
        ("POST", MAPS.into(), YAML, nested("[", "]", 10_000), 400, "BadRequest"),
        ("POST", MAPS.into(), YAML, bomb(), 400, "BadRequest"),
        ("POST", MAPS.into(), JSON, b"{\"metadata\":{\"name\":\"\xff\xfe\"}}".to_vec(), 400, "BadRequest"),
        ("POST", strict.clone(), JSON, map(r#""a":"1","a":"2""#), 400, "BadRequest"),
        ("POST", strict.clone(), YAML, b"metadata: {name: m}\ndata:\n  a: x\n  a: y\n".to_vec(), 400, "BadRequest"),
        ("POST", MAPS.into(), JSON, map(r#""a":1"#), 400, "BadRequest"),
        ("POST", MAPS.into(), JSON, map(&format!(r#""a":"{}""#, "x".repeat(3_200_000))), 413, "RequestEntityTooLarge"),
        ("POST", PODS.into(), JSON, pod("1e400"), 400, "BadRequest"),
        ("POST", PODS.into(), JSON, pod("99999999999999999999999"), 400, "BadRequest"),
        ("POST", PODS.into(), JSON, pod("3000000000"), 400, "BadRequest"),
        ("POST", MAPS.into(), JSON, b"".to_vec(), 400, "BadRequest"),
        ("POST", MAPS.into(), JSON, b"null".to_vec(), 422, "Invalid"),
        ("POST", MAPS.into(), JSON, b"[]".to_vec(), 400, "BadRequest"),
        ("POST", MAPS.into(), JSON, b"{\"metadata\":{\"name\":\"m\"}} x".to_vec(), 400, "BadRequest"),
        ("POST", MAPS.into(), PROTO, b"k8s\0\xff\xff\xff".to_vec(), 400, "BadRequest"),
        ("POST", MAPS.into(), PROTO, b"{}".to_vec(), 400, "BadRequest"),
        ("POST", MAPS.into(), "text/plain", b"{}".to_vec(), 415, "UnsupportedMediaType"),
        ("PUT", MAPS.into(), JSON, b"{}".to_vec(), 405, "MethodNotAllowed"),
        ("PATCH", format!("{MAPS}/m"), "application/merge-patch+json", b"{".to_vec(), 400, "BadRequest"),
        ("DELETE", format!("{MAPS}/m"), JSON, b"{\"gracePeriodSeconds\":\"x\"}".to_vec(), 400, "BadRequest"),
        ("GET", format!("{MAPS}?limit=x"), JSON, vec![], 400, "BadRequest"),
        ("GET", format!("{MAPS}?continue=zzz"), JSON, vec![], 400, "BadRequest"),
        ("GET", format!("{MAPS}?resourceVersion=x"), JSON, vec![], 400, "BadRequest"),
        ("GET", format!("{MAPS}?labelSelector=a%3D%3D%3D"), JSON, vec![], 400, "BadRequest"),
        ("GET", format!("{MAPS}?fieldSelector=a"), JSON, vec![], 400, "BadRequest"),
        ("GET", format!("{MAPS}/{}", "a".repeat(20_000)), JSON, vec![], 404, "NotFound"),
    ];
    for (method, path, content, body, code, reason) in cases {
        let what = format!(
            "{method} {} {:?}",
            &path[..path.len().min(80)],
            String::from_utf8_lossy(&body[..body.len().min(60)])
        );
        let request =
            http::Request::builder().method(method).uri(&path).header("content-type", content).body(body).unwrap();
        let answer = stand.send(request).await;
        let status: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        assert_eq!(
            (answer.status().as_u16(), &status["reason"], &status["kind"]),
            (code, &json!(reason), &json!("Status")),
            "{what}: {status}"
        );
    }
    for path in [MAPS, PODS] {
        let (code, list) = stand.call("GET", path, "", "", &Value::Null).await;
        assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(0)), "{path}");
    }
    // What upstream takes, however odd.
    for query in ["limit=-1", "unknown=1", "pretty=maybe", "resourceVersion=", "allowWatchBookmarks=maybe"] {
        assert_eq!(stand.call("GET", &format!("{MAPS}?{query}"), "", "", &Value::Null).await.0, 200, "{query}");
    }
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask_and_all_is_counted() {
    use std::io::Read;
    let stand = Stand::start().await;
    for n in 0..20 {
        let map = json!({"metadata": {"name": format!("m{n}")}, "data": {"k": "v".repeat(20_000)}});
        assert_eq!(stand.call("POST", MAPS, JSON, "", &map).await.0, 201);
    }
    let plain = stand.send(http::Request::get(MAPS).body(Vec::new()).unwrap()).await;
    assert!(plain.headers().get("content-encoding").is_none());
    for accept in [JSON, PROTO, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"] {
        let request = http::Request::get(MAPS).header("accept", accept).header("accept-encoding", "gzip");
        let packed = stand.send(request.body(Vec::new()).unwrap()).await;
        let small = accept.contains("Partial");
        assert_eq!(packed.headers().get("content-encoding").is_none(), small, "{accept}");
        if accept == JSON {
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(&**packed.body()).read_to_end(&mut text).unwrap();
            assert!(text == *plain.body() && packed.body().len() < text.len() / 10);
        }
    }
    let metrics = stand.send(http::Request::get("/metrics").body(Vec::new()).unwrap()).await;
    let text = String::from_utf8(metrics.into_body()).unwrap();
    for line in [
        "apiserver_storage_objects{resource=\"configmaps\"} 22",
        "apiserver_resource_objects{group=\"\",resource=\"configmaps\"} 22",
        "apiserver_request_total{code=\"201\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\",scope=\"namespace\",subresource=\"\",verb=\"CREATE\",version=\"v1\"} 20",
        "etcd_requests_total{group=\"\",operation=\"create\",resource=\"configmaps\"} 2",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}
