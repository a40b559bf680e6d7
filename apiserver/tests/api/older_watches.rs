//! Watches from revisions that the server has forgotten or never seen: they get what etcd still has, and go on from there.

use crate::stand::Stand;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Watch {
    body: Body,
    read: Vec<u8>,
}

impl Watch {
    async fn open(stand: &Stand, query: &str) -> Watch {
        let path = format!("{MAPS}?watch=1&timeoutSeconds=30&{query}");
        let response = stand.open(http::Request::get(path).body(Vec::new()).unwrap()).await;
        assert_eq!(response.status(), 200);
        Watch { body: response.into_body(), read: Vec::new() }
    }

    /// The next events, whole.
    async fn take(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            if let Some(end) = self.read.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                events.push(serde_json::from_slice(&line).unwrap());
                continue;
            }
            let frame = self.body.frame().await.unwrap_or_else(|| panic!("the watch ended after {events:?}")).unwrap();
            self.read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
        events
    }
}

async fn map(stand: &Stand, name: &str, label: &str) -> Value {
    stand.create(MAPS, json!({"metadata": {"name": name, "labels": {"watched": label}}})).await
}

async fn relabel(stand: &Stand, name: &str, label: &str) {
    stand.merge(&format!("{MAPS}/{name}"), json!({"metadata": {"labels": {"watched": label}}})).await;
}

async fn delete(stand: &Stand, name: &str) {
    stand.delete(&format!("{MAPS}/{name}"), json!({})).await;
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

/// Changes of every kind as selectors see them; the version before them, and how many events each selector gets of them.
async fn change_everything(stand: &Stand) -> (String, [(&'static str, usize); 4]) {
    let first = map(stand, "first", "yes").await;
    map(stand, "a", "yes").await;
    map(stand, "b", "no").await;
    // Other resources in between are nobody's events.
    stand.create("/api/v1/namespaces/default/secrets", json!({"metadata": {"name": "s"}})).await;
    relabel(stand, "a", "no").await;
    relabel(stand, "b", "yes").await;
    relabel(stand, "first", "still").await;
    delete(stand, "a").await;
    delete(stand, "b").await;
    map(stand, "a", "yes").await;
    let queries = [
        ("", 8),
        ("labelSelector=watched%3Dyes", 6),
        ("fieldSelector=metadata.name%3Da", 4),
        ("labelSelector=watched", 8),
    ];
    (version(&first), queries)
}

#[tokio::test]
async fn a_watch_from_before_a_restart_goes_on_as_if_there_had_been_none() {
    let mut stand = Stand::start().await;
    let (from, queries) = change_everything(&stand).await;
    let mut before = Vec::new();
    for (query, count) in queries {
        let mut watch = Watch::open(&stand, &format!("resourceVersion={from}&{query}")).await;
        before.push(watch.take(count).await);
    }
    stand.kill_server();
    stand.start_server().await;
    let mut watches = Vec::new();
    for ((query, count), before) in queries.into_iter().zip(before) {
        let mut watch = Watch::open(&stand, &format!("resourceVersion={from}&{query}")).await;
        assert_eq!(watch.take(count).await, before, "{query}");
        watches.push(watch);
    }
    // They have joined what happens now.
    relabel(&stand, "a", "no").await;
    for (mut watch, kind) in watches.into_iter().zip(["MODIFIED", "DELETED", "MODIFIED", "MODIFIED"]) {
        let event = watch.take(1).await.remove(0);
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!(kind), &json!("a")), "{event}");
    }
}

#[tokio::test]
async fn what_the_history_has_forgotten_comes_from_etcd() {
    // So little that it holds some of the changes only.
    let stand = Stand::start_with(&["--watch-history-bytes-max=8000"]).await;
    let first = map(&stand, "first", "yes").await;
    let mut unbroken = Watch::open(&stand, &format!("resourceVersion={}", version(&first))).await;
    for n in 0..40 {
        let name = format!("m{}", n % 5);
        if n < 5 {
            map(&stand, &name, "yes").await;
        } else {
            relabel(&stand, &name, &format!("v{n}")).await;
        }
    }
    let all = unbroken.take(40).await;
    // From any version, whether etcd tells all of the rest, some or none.
    for at in [0, 1, 7, 20, 33, 38, 39] {
        let from = version(&all[at]["object"]);
        let mut watch = Watch::open(&stand, &format!("resourceVersion={from}")).await;
        let name = format!("late{at}");
        map(&stand, &name, "yes").await;
        assert_eq!(unbroken.take(1).await[0]["object"]["metadata"]["name"], json!(name));
        let got = watch.take(40 - at).await;
        // Those that were made for the versions before come in between.
        let of_all: Vec<_> =
            got.iter().filter(|e| !e["object"]["metadata"]["name"].to_string().contains("late")).collect();
        assert_eq!(of_all, all[at + 1..].iter().collect::<Vec<_>>(), "from {from}");
    }
}

#[tokio::test]
async fn large_objects_come_from_etcd_in_pieces() {
    let stand = Stand::start_with(&["--watch-history-bytes-max=8000"]).await;
    let first = map(&stand, "first", "yes").await;
    let large = |n: usize| json!({"data": {"k": n.to_string().repeat(700_000)}});
    map(&stand, "large", "yes").await;
    for n in 0..6 {
        stand.merge(&format!("{MAPS}/large"), large(n)).await;
    }
    map(&stand, "last", "yes").await;
    let mut watch = Watch::open(&stand, &format!("resourceVersion={}", version(&first))).await;
    let events = watch.take(8).await;
    let told: Vec<_> = events.iter().map(|e| e["object"]["data"]["k"].as_str().map_or("-", |k| &k[..1])).collect();
    assert_eq!(told, ["-", "0", "1", "2", "3", "4", "5", "-"]);
    assert_eq!(events[7]["object"]["metadata"]["name"], "last");
}

#[tokio::test]
async fn many_that_come_back_at_once_are_all_served() {
    let mut stand = Stand::start().await;
    let first = map(&stand, "first", "yes").await;
    for n in 0..20 {
        map(&stand, &format!("m{n}"), "yes").await;
    }
    stand.kill_server();
    stand.start_server().await;
    let stand = &stand;
    let query = &format!("resourceVersion={}", version(&first));
    let watches = (0..60).map(|_| async move { Watch::open(stand, query).await.take(20).await.len() });
    assert!(futures::future::join_all(watches).await.into_iter().all(|count| count == 20));
}

#[tokio::test]
async fn a_collection_is_deleted_and_answered_whole() {
    let stand = Stand::start().await;
    for n in 0..70 {
        map(&stand, &format!("m{n:02}"), if n % 7 == 0 { "no" } else { "yes" }).await;
    }
    let mut watch = Watch::open(&stand, "resourceVersion=0&labelSelector=watched%3Dyes").await;
    watch.take(60).await;
    let path = format!("{MAPS}?labelSelector=watched%3Dyes");
    let (code, list) = stand.call("DELETE", &path, "", "", &Value::Null).await;
    assert_eq!((code, &list["kind"]), (200, &json!("ConfigMapList")), "{list}");
    let names: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|m| m["metadata"]["name"].as_str().unwrap()).collect();
    let wanted: Vec<_> = (0..70).filter(|n| n % 7 != 0).map(|n| format!("m{n:02}")).collect();
    assert_eq!(names, wanted, "in the order of the list");
    let gone = watch.take(60).await;
    assert!(gone.iter().all(|event| event["type"] == "DELETED"));
    // An item is the object as of its deletion, as the watch has it.
    let mut gone: Vec<_> = gone.into_iter().map(|mut event| event["object"].take()).collect();
    gone.sort_by_key(|object| object["metadata"]["name"].to_string());
    for (item, gone) in list["items"].as_array().unwrap().iter().zip(gone) {
        assert_eq!((&item["metadata"], item.get("kind")), (&gone["metadata"], None));
    }
    let (_, left) = stand.call("GET", MAPS, "", "", &Value::Null).await;
    let left = left["items"].as_array().unwrap().iter().filter(|m| m["metadata"]["labels"]["watched"] == "no").count();
    assert_eq!(left, 10);
}
