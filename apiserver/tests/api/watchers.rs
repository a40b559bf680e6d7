//! Watches: where they begin, what a selector lets through, and that all see the same order.

use crate::stand::Stand;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// An open watch, read event by event.
struct Watch {
    body: Body,
    read: Vec<u8>,
}

impl Watch {
    async fn open(stand: &Stand, query: &str) -> Watch {
        let request = http::Request::get(format!("{MAPS}?watch=1&timeoutSeconds=30&{query}")).body(Vec::new()).unwrap();
        let response = stand.open(request).await;
        assert_eq!(response.status(), 200);
        Watch { body: response.into_body(), read: Vec::new() }
    }

    /// Type and object of the next event.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some(end) = self.read.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).unwrap();
                return (event["type"].as_str().unwrap().to_owned(), event["object"].take());
            }
            let frame = self.body.frame().await.expect("the watch ended too early").unwrap();
            self.read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
    }

    /// The next events, as `ADDED a 1`: type, name, data.
    async fn take(&mut self, n: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for _ in 0..n {
            let (kind, object) = self.next().await;
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            seen.push(format!("{kind} {} {}", text(&object["metadata"]["name"]), text(&object["data"]["mutation"])));
        }
        seen
    }
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

async fn map(stand: &Stand, name: &str, label: &str) -> Value {
    stand.create(MAPS, json!({"metadata": {"name": name, "labels": {"watched": label}}})).await
}

async fn mutate(stand: &Stand, name: &str, mutation: &str) -> Value {
    stand.merge(&format!("{MAPS}/{name}"), json!({"data": {"mutation": mutation}})).await
}

async fn remove(stand: &Stand, name: &str) -> Value {
    stand.delete(&format!("{MAPS}/{name}"), Value::Null).await
}

#[tokio::test]
async fn a_selector_lets_its_own_events_through() {
    let stand = Stand::start().await;
    let now = stand.get(MAPS).await;
    let since = format!("resourceVersion={}", version(&now));
    let mut a = Watch::open(&stand, &format!("{since}&labelSelector=watched%3Da")).await;
    let mut b = Watch::open(&stand, &format!("{since}&labelSelector=watched%3Db")).await;
    let mut both = Watch::open(&stand, &format!("{since}&labelSelector=watched+in+(a,b)")).await;
    map(&stand, "m-a", "a").await;
    mutate(&stand, "m-a", "1").await;
    map(&stand, "m-b", "b").await;
    map(&stand, "m-c", "c").await;
    mutate(&stand, "m-a", "2").await;
    remove(&stand, "m-a").await;
    remove(&stand, "m-c").await;
    remove(&stand, "m-b").await;
    assert_eq!(a.take(4).await, ["ADDED m-a -", "MODIFIED m-a 1", "MODIFIED m-a 2", "DELETED m-a 2"]);
    assert_eq!(b.take(2).await, ["ADDED m-b -", "DELETED m-b -"]);
    let all = ["ADDED m-a -", "MODIFIED m-a 1", "ADDED m-b -", "MODIFIED m-a 2", "DELETED m-a 2", "DELETED m-b -"];
    assert_eq!(both.take(6).await, all);
}

#[tokio::test]
async fn a_watch_begins_after_the_version_it_names() {
    let stand = Stand::start().await;
    map(&stand, "m", "x").await;
    let first = mutate(&stand, "m", "1").await;
    mutate(&stand, "m", "2").await;
    remove(&stand, "m").await;
    let mut watch =
        Watch::open(&stand, &format!("labelSelector=watched%3Dx&resourceVersion={}", version(&first))).await;
    assert_eq!(watch.take(2).await, ["MODIFIED m 2", "DELETED m 2"]);
}

#[tokio::test]
async fn a_watch_is_restarted_where_the_last_one_ended() {
    let stand = Stand::start().await;
    let now = stand.get(MAPS).await;
    let mut first = Watch::open(&stand, &format!("labelSelector=watched%3Dx&resourceVersion={}", version(&now))).await;
    map(&stand, "m", "x").await;
    mutate(&stand, "m", "1").await;
    assert_eq!(first.next().await.0, "ADDED");
    let (_, last) = first.next().await;
    drop(first);
    mutate(&stand, "m", "2").await;
    remove(&stand, "m").await;
    let mut second =
        Watch::open(&stand, &format!("labelSelector=watched%3Dx&resourceVersion={}", version(&last))).await;
    assert_eq!(second.take(2).await, ["MODIFIED m 2", "DELETED m 2"]);
}

#[tokio::test]
async fn an_object_that_no_longer_matches_is_told_as_deleted() {
    let stand = Stand::start().await;
    let now = stand.get(MAPS).await;
    let mut watch = Watch::open(&stand, &format!("labelSelector=watched%3Dx&resourceVersion={}", version(&now))).await;
    let label =
        async |to: &str| stand.merge(&format!("{MAPS}/m"), json!({"metadata": {"labels": {"watched": to}}})).await;
    map(&stand, "m", "x").await;
    mutate(&stand, "m", "1").await;
    let left = label("other").await;
    assert_eq!(watch.take(2).await, ["ADDED m -", "MODIFIED m 1"]);
    let (kind, object) = watch.next().await;
    // As it was when it still matched, at the version at which it went.
    assert_eq!((kind.as_str(), &object["metadata"]["labels"]["watched"]), ("DELETED", &json!("x")));
    assert_eq!(version(&object), version(&left));
    mutate(&stand, "m", "2").await;
    label("x").await;
    mutate(&stand, "m", "3").await;
    remove(&stand, "m").await;
    assert_eq!(watch.take(3).await, ["ADDED m 2", "MODIFIED m 3", "DELETED m 3"]);
}

#[tokio::test]
async fn watches_begun_at_each_event_see_the_same_order() {
    const EVENTS: usize = 40;
    let stand = std::sync::Arc::new(Stand::start().await);
    let start = stand.get(MAPS).await;
    let since = format!("resourceVersion={}", version(&start));
    let mut first = Watch::open(&stand, &since).await;
    let writer = tokio::spawn({
        let stand = stand.clone();
        async move {
            for round in 0..EVENTS / 4 {
                let name = format!("m{}", round % 5);
                stand.call("POST", MAPS, "application/json", "", &json!({"metadata": {"name": name}})).await;
                for mutation in ["1", "2"] {
                    mutate(&stand, &name, &format!("{round}-{mutation}")).await;
                }
                remove(&stand, &name).await;
            }
        }
    });
    let mut versions = Vec::new();
    let mut others = Vec::new();
    for _ in 0..EVENTS {
        let (_, object) = first.next().await;
        versions.push(version(&object).to_owned());
        others.push(Watch::open(&stand, &format!("resourceVersion={}", version(&object))).await);
    }
    writer.await.unwrap();
    for (i, mut other) in others.into_iter().enumerate() {
        for expected in &versions[i + 1..] {
            assert_eq!(version(&other.next().await.1), expected, "the watch begun at event {i}");
        }
    }
}
