//! Several servers on one etcd, and servers that come and go: what one acknowledged all know, and nobody is given what another has.

use crate::stand::{Stand, TOKEN};
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const JSON: &str = "application/json";

async fn create(stand: &Stand, path: &str, object: &Value) -> Value {
    let (code, made) = stand.call("POST", path, JSON, "", object).await;
    assert_eq!(code, 201, "{made}");
    made
}

async fn get(stand: &Stand, path: &str) -> (u16, Value) {
    stand.call("GET", path, "", "", &Value::Null).await
}

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": value}})
}

#[tokio::test]
async fn what_one_server_acknowledged_the_other_serves() {
    let one = Stand::start().await;
    let two = one.beside(&[]).await;
    // Reads are consistent: no read through the other is older than the answer to a write.
    for n in 0..50 {
        let (writer, reader) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let made = create(writer, MAPS, &map(&format!("m{n}"), "v")).await;
        assert_eq!(get(reader, &format!("{MAPS}/m{n}")).await, (200, made));
        let (_, list) = get(reader, &format!("{MAPS}?labelSelector=")).await;
        assert!(list["items"].as_array().unwrap().iter().any(|m| m["metadata"]["name"] == format!("m{n}")));
    }
    // A watch through one sees writes through the other.
    let version = get(&one, MAPS).await.1["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    create(&two, MAPS, &map("seen", "v")).await;
    let event = one.first_event(&format!("{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=20")).await;
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("seen")));
    // Of two writers with the same version one wins, whichever server they ask.
    let (_, read) = get(&one, &format!("{MAPS}/seen")).await;
    let path = format!("{MAPS}/seen");
    let (mut a, mut b) = (read.clone(), read);
    (a["data"]["k"], b["data"]["k"]) = ("a".into(), "b".into());
    let (a, b) = tokio::join!(one.call("PUT", &path, JSON, "", &a), two.call("PUT", &path, JSON, "", &b));
    let mut codes = [a.0, b.0];
    codes.sort_unstable();
    assert_eq!(codes, [200, 409], "{a:?} {b:?}");
    let winner = if a.0 == 200 { a.1 } else { b.1 };
    assert_eq!(get(&one, &path).await.1, winner);
    assert_eq!(get(&two, &path).await.1, winner);
    // Patches lose nothing: both are tried again on what is there.
    let patches = (0..40).map(|n| {
        let stand = if n % 2 == 0 { &one } else { &two };
        let patch = json!({"data": {format!("p{n}"): "x"}});
        let path = &path;
        async move { stand.call("PATCH", path, "application/merge-patch+json", "", &patch).await.0 }
    });
    let codes: Vec<u16> = futures::stream::iter(patches.collect::<Vec<_>>()).buffer_unordered(8).collect().await;
    assert!(codes.iter().all(|code| *code == 200), "{codes:?}");
    assert_eq!(get(&two, &path).await.1["data"].as_object().unwrap().len(), 41);
}

#[tokio::test]
async fn no_address_and_no_port_is_given_twice() {
    // Few enough to be used up.
    let range = ["--service-node-port-range=30000-30049"];
    let one = Stand::start_with(&range).await;
    let two = one.beside(&range).await;
    let stands = [&one, &two];
    let services = (0..70).map(|n| {
        let stand = stands[n % 2];
        let service =
            json!({"metadata": {"name": format!("s{n}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        async move { stand.call("POST", SERVICES, JSON, "", &service).await }
    });
    let made: Vec<(u16, Value)> =
        futures::stream::iter(services.collect::<Vec<_>>()).buffer_unordered(16).collect().await;
    let given: Vec<&Value> = made.iter().filter(|(code, _)| *code == 201).map(|(_, service)| service).collect();
    let refused: Vec<&(u16, Value)> = made.iter().filter(|(code, _)| *code != 201).collect();
    let addresses: BTreeSet<&str> = given.iter().map(|s| s["spec"]["clusterIP"].as_str().unwrap()).collect();
    let ports: BTreeSet<i64> = given.iter().map(|s| s["spec"]["ports"][0]["nodePort"].as_i64().unwrap()).collect();
    assert_eq!((addresses.len(), ports.len()), (given.len(), given.len()), "{given:?}");
    assert_eq!(given.len(), 50, "every port is given once: {refused:?}");
    let in_order = |(code, status): &&(u16, Value)| matches!(code, 422 | 500) && status["kind"] == "Status";
    assert!(refused.iter().all(in_order), "{refused:?}");
    // What is given back through one is given again through the other.
    let name = given[0]["metadata"]["name"].as_str().unwrap();
    assert_eq!(one.call("DELETE", &format!("{SERVICES}/{name}"), "", "", &Value::Null).await.0, 200);
    let again = json!({"metadata": {"name": "again"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let again = create(&two, SERVICES, &again).await;
    assert_eq!(again["spec"]["ports"][0]["nodePort"], given[0]["spec"]["ports"][0]["nodePort"]);
}

#[tokio::test]
async fn a_definition_is_served_by_all() {
    let one = Stand::start().await;
    let two = one.beside(&[]).await;
    let definition = json!({
        "metadata": {"name": "lamps.example.org"},
        "spec": {
            "group": "example.org", "scope": "Namespaced", "names": {"plural": "lamps", "kind": "Lamp"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"watts": {"type": "integer", "default": 40}}}}}],
        },
    });
    create(&one, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    let lamps = "/apis/example.org/v1/namespaces/default/lamps";
    // A server serves a definition when it has seen it; the other's word (Established) says nothing of this one.
    while get(&two, lamps).await.0 == 404 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let lamp = json!({"apiVersion": "example.org/v1", "kind": "Lamp", "metadata": {"name": "a"}});
    let made = create(&two, lamps, &lamp).await;
    assert_eq!(made["watts"], 40);
    while get(&one, lamps).await.0 == 404 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(get(&one, &format!("{lamps}/a")).await, (200, made));
}

#[tokio::test]
async fn a_server_that_is_killed_takes_no_acknowledged_write_with_it() {
    let one = Stand::start().await;
    let mut two = one.beside(&[]).await;
    let client = two.admin().await;
    let mut writers = tokio::task::JoinSet::new();
    let begun = Arc::new(tokio::sync::Semaphore::new(0));
    for writer in 0..8 {
        let (client, begun) = (client.clone(), begun.clone());
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            // Until the server is gone.
            for n in 0.. {
                let name = format!("w{writer}-{n}");
                let body = map(&name, "v").to_string().into_bytes();
                let request = http::Request::post(MAPS).header("content-type", JSON).body(body).unwrap();
                match client.request::<Value>(request).await {
                    Ok(_) => acknowledged.push(name),
                    Err(_) => break,
                }
                begun.add_permits(1);
            }
            acknowledged
        });
    }
    let _ = begun.acquire_many(100).await.unwrap();
    two.kill_server();
    let acknowledged: Vec<String> = writers.join_all().await.concat();
    assert!(acknowledged.len() >= 92, "{}", acknowledged.len());
    let (_, list) = get(&one, MAPS).await;
    let there: BTreeSet<&str> =
        list["items"].as_array().unwrap().iter().map(|m| m["metadata"]["name"].as_str().unwrap()).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|name| !there.contains(name.as_str())).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_drops_nobody() {
    let mut stand = Stand::start_with(&["--shutdown-delay-duration=3s"]).await;
    let watch =
        stand.open(http::Request::get(format!("{MAPS}?watch=1&resourceVersion=0")).body(Vec::new()).unwrap()).await;
    // A request that is on its way when the server is told: half of its body is there.
    let mut half = stand.connect(&["http/1.1"]).await;
    let body = map("late", "v").to_string();
    let head = format!(
        "POST {MAPS} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {JSON}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    half.write_all(head.as_bytes()).await.unwrap();
    half.write_all(&body.as_bytes()[..10]).await.unwrap();
    half.flush().await.unwrap();
    // The server has taken it up when it counts it.
    loop {
        let metrics = stand.send(http::Request::get("/metrics").body(Vec::new()).unwrap()).await;
        let text = String::from_utf8(metrics.into_body()).unwrap();
        if text.contains("apiserver_current_inflight_requests{request_kind=\"mutating\"} 1") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    stand.terminate();
    // Readiness fails first, while all else is answered: also new connections, also new watches.
    while get(&stand, "/readyz").await.0 == 200 {}
    assert_eq!(get(&stand, "/livez").await.0, 200);
    let text = stand.send(http::Request::get("/readyz").body(Vec::new()).unwrap()).await.into_body();
    assert!(String::from_utf8_lossy(&text).contains("[-]shutdown failed"), "{}", String::from_utf8_lossy(&text));
    create(&stand, MAPS, &map("during", "v")).await;
    let fresh = stand.admin().await;
    let request = http::Request::get(MAPS).body(Vec::new()).unwrap();
    assert_eq!(fresh.request::<Value>(request).await.unwrap()["items"].as_array().unwrap().len(), 1);
    // The watch that ran goes on until the end, saw what was written, and ends without an error.
    let bytes = http_body_util::BodyExt::collect(watch.into_body()).await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("\"during\"") && text.ends_with('\n'), "{text}");
    // New connections are refused; what had begun is answered.
    while tokio::net::TcpStream::connect(("127.0.0.1", stand.port)).await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    half.write_all(&body.as_bytes()[10..]).await.unwrap();
    let mut answer = Vec::new();
    half.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer));
    assert!(stand.ended().await);
    stand.start_server().await;
    assert_eq!(get(&stand, &format!("{MAPS}/late")).await.0, 200);
}

#[tokio::test]
async fn certificates_that_are_replaced_are_used() {
    let stand = Stand::start().await;
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let ask = |client: kube::Client| async move {
        let request = http::Request::post(who).header("content-type", JSON);
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
        client.request::<Value>(request.body(body.into_bytes()).unwrap()).await
    };
    let before = stand.alice().await;
    let alice = |review: Value| review["status"]["userInfo"]["username"] == "alice";
    assert!(alice(ask(before.clone()).await.unwrap()));
    stand.replace_certificates();
    // Clients made from now on trust the new CA only, and show certificates of it.
    loop {
        match ask(stand.alice().await).await {
            Ok(review) => break assert!(alice(review)),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
        }
    }
    // A certificate of the old CA is nobody's any more, on whatever connection.
    assert!(ask(before).await.is_err());
}

#[tokio::test]
async fn a_watch_sees_every_change_though_etcd_was_away() {
    let mut stand = Stand::start().await;
    let version = create(&stand, MAPS, &map("first", "v")).await["metadata"]["resourceVersion"].clone();
    let path = format!("{MAPS}?watch=1&resourceVersion={}&timeoutSeconds=60", version.as_str().unwrap());
    let watch = stand.open(http::Request::get(&path).body(Vec::new()).unwrap()).await;
    for round in 0..3 {
        create(&stand, MAPS, &map(&format!("before{round}"), "v")).await;
        stand.kill_etcd();
        stand.start_etcd();
        stand.until_ready().await;
        create(&stand, MAPS, &map(&format!("after{round}"), "v")).await;
    }
    let mut body = watch.into_body();
    let mut seen = Vec::new();
    while seen.iter().filter(|b| **b == b'\n').count() < 6 {
        let frame = http_body_util::BodyExt::frame(&mut body).await.expect("the watch goes on").unwrap();
        seen.extend_from_slice(frame.data_ref().unwrap());
    }
    let names: Vec<String> = seen
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            serde_json::from_slice::<Value>(line).unwrap()["object"]["metadata"]["name"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names, ["before0", "after0", "before1", "after1", "before2", "after2"]);
}

#[tokio::test]
async fn what_is_compacted_is_gone_for_watches_and_lists() {
    let mut stand = Stand::start().await;
    for n in 0..5 {
        create(&stand, MAPS, &map(&format!("m{n}"), "v")).await;
    }
    let (_, page) = get(&stand, &format!("{MAPS}?limit=2")).await;
    let token = page["metadata"]["continue"].as_str().unwrap().to_owned();
    let old = page["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    // Two changes: etcd still tells the one at which it was compacted, so that the version just before it is no gap for a watch.
    create(&stand, MAPS, &map("lost", "v")).await;
    let last = create(&stand, MAPS, &map("last", "v")).await;
    let revision: i64 = last["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    stand.compact(revision).await;
    // A server that starts now has no history of its own: what etcd forgot is gone.
    stand.kill_server();
    stand.start_server().await;
    let event = stand.first_event(&format!("{MAPS}?watch=1&resourceVersion={old}&timeoutSeconds=20")).await;
    assert_eq!(
        (&event["type"], &event["object"]["code"], &event["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired")),
        "{event}"
    );
    for query in [format!("limit=2&continue={token}"), format!("resourceVersion={old}&resourceVersionMatch=Exact")] {
        let (code, status) = get(&stand, &format!("{MAPS}?{query}")).await;
        assert_eq!((code, &status["reason"]), (410, &json!("Expired")), "{query}: {status}");
    }
}
