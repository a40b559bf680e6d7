//! Clients that no server wants. Each of them gets little, and everybody else gets answers.
//!
//! Memory is checked with much room: what is looked for is growth with what a client does, not figures.

use crate::stand::{Stand, TOKEN};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";
const H1: &[&str] = &["http/1.1"];
const H2: &[&str] = &["h2"];

/// The head of a request of the administrator in HTTP/1.1.
fn head(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n{more}\r\n")
}

/// The server answers, and does what it is asked.
async fn works(stand: &Stand) {
    let name = format!("works-{}", rand::random::<u32>());
    let map = json!({"metadata": {"name": name}});
    assert_eq!(stand.call("POST", MAPS, JSON, "", &map).await.0, 201);
    assert_eq!(stand.call("DELETE", &format!("{MAPS}/{name}"), "", "", &Value::Null).await.0, 200);
}

/// As many open files as this process may have.
fn raise_file_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    hard
}

/// All that comes until the server ends the connection, in whatever way it does.
async fn to_the_end(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        all.extend_from_slice(&buffer[..n]);
    }
    all
}

#[tokio::test]
async fn who_is_slow_or_silent_is_cut_off() {
    let stand = Stand::start_with(&["--request-timeout=3s"]).await;
    // A body that does not come gets an answer when the request's time is up.
    let mut body = stand.connect(H1).await;
    let slow = head("POST", MAPS, "Content-Type: application/json\r\nContent-Length: 1000\r\n");
    body.write_all(slow.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(body);
    let dripping = tokio::spawn(async move {
        while writing.write_all(b" ").await.is_ok() && writing.flush().await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
    let answer = to_the_end(&mut reading).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("\"reason\":\"Timeout\""), "{answer}");
    dripping.abort();
    // A head that comes byte by byte, a connection on which nothing comes, and one without even a handshake.
    let mut dripping = Vec::new();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (mut reading, mut writing) = tokio::io::split(stand.connect(H1).await);
        dripping.push(tokio::spawn(async move {
            for byte in head("GET", MAPS, &"X: y\r\n".repeat(1000)).bytes() {
                if writing.write_all(&[byte]).await.is_err() || writing.flush().await.is_err() {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }));
        waiting.spawn(async move { to_the_end(&mut reading).await });
        for protocols in [H1, H2, &[]] {
            let mut silent = stand.connect(protocols).await;
            waiting.spawn(async move { to_the_end(&mut silent).await });
        }
        let mut tcp = tokio::net::TcpStream::connect(("127.0.0.1", stand.port)).await.unwrap();
        waiting.spawn(async move { to_the_end(&mut tcp).await });
    }
    works(&stand).await;
    for sent in waiting.join_all().await {
        assert!(!sent.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&sent));
    }
    dripping.iter().for_each(tokio::task::JoinHandle::abort);
    works(&stand).await;
}

#[tokio::test]
async fn answers_that_nobody_reads_take_no_memory() {
    let stand = Stand::start().await;
    for n in 0..100 {
        let map = json!({"metadata": {"name": format!("m{n}")}, "data": {"k": "v".repeat(100_000)}});
        assert_eq!(stand.call("POST", MAPS, JSON, "", &map).await.0, 201);
    }
    let (before, _) = stand.memory_mib();
    let mut unread = Vec::new();
    for n in 0..60 {
        let path = if n % 2 == 0 { MAPS.to_owned() } else { format!("{MAPS}?watch=1&resourceVersion=0") };
        let mut connection = stand.connect(H1).await;
        connection.write_all(head("GET", &path, "").as_bytes()).await.unwrap();
        // It has begun to answer.
        connection.read_exact(&mut [0; 100]).await.unwrap();
        unread.push(connection);
    }
    // Sixty times 10 MB are asked for, and thirty watchers are told of 30 MB more.
    for n in 0..300 {
        let patch = json!({"metadata": {"annotations": {"n": n.to_string()}}});
        let path = format!("{MAPS}/m{}", n % 100);
        assert_eq!(stand.call("PATCH", &path, "application/merge-patch+json", "", &patch).await.0, 200);
    }
    works(&stand).await;
    let (_, most) = stand.memory_mib();
    assert!(most < before + 250, "{before} MiB before, {most} MiB at most");
}

#[tokio::test]
async fn idle_connections_cost_little() {
    // In debug builds handshakes are slow; the load tool measures 10,000.
    let count = 2_000.min(raise_file_limit() as usize / 3);
    let stand = Stand::start().await;
    let (before, _) = stand.memory_mib();
    // Connections with one request behind them, which may stay for a while.
    let idle = futures::stream::iter(0..count)
        .map(|_| async {
            let mut connection = stand.connect(H1).await;
            connection.write_all(head("GET", "/livez/ping", "").as_bytes()).await.unwrap();
            connection.read_exact(&mut [0; 15]).await.unwrap();
            connection
        })
        .buffer_unordered(16);
    let idle: Vec<_> = idle.collect().await;
    works(&stand).await;
    let (after, _) = stand.memory_mib();
    assert!(after < before + 50 + idle.len() as u64 / 10, "{before} MiB before, {after} MiB with {} idle", idle.len());
}

#[tokio::test]
async fn uploads_that_are_given_up_leave_nothing() {
    let stand = Stand::start().await;
    let upload = head("POST", MAPS, "Content-Type: application/json\r\nContent-Length: 3000000\r\n");
    for _ in 0..50 {
        let mut connection = stand.connect(H1).await;
        connection.write_all(upload.as_bytes()).await.unwrap();
        connection.write_all(&[b' '; 100_000]).await.unwrap();
        connection.flush().await.unwrap();
    }
    works(&stand).await;
    // Their places among the requests that run are given back.
    loop {
        let metrics = stand.send(http::Request::get("/metrics").body(Vec::new()).unwrap()).await;
        let text = String::from_utf8(metrics.into_body()).unwrap();
        if text.contains("apiserver_current_inflight_requests{request_kind=\"mutating\"} 0") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(stand.memory_mib().0 < 250, "{:?} MiB", stand.memory_mib());
}

#[tokio::test]
async fn large_bodies_are_taken_a_few_at_a_time() {
    let stand = Stand::start().await;
    // What grows most when it is read: very many very small objects.
    let body = format!(r#"{{"metadata":{{"name":"m"}},"x":[{}{{}}]}}"#, r#"{"a":0},"#.repeat(370_000)).into_bytes();
    let requests = (0..64).map(|_| async {
        let request = http::Request::post(format!("{MAPS}?fieldValidation=Strict")).header("content-type", JSON);
        stand.send(request.body(body.clone()).unwrap()).await.status().as_u16()
    });
    let codes: Vec<u16> = futures::stream::iter(requests.collect::<Vec<_>>()).buffer_unordered(64).collect().await;
    // Refused for the unknown field, or because there is too much to do.
    assert!(codes.iter().all(|code| matches!(code, 400 | 429 | 504)), "{codes:?}");
    assert!(codes.contains(&400), "{codes:?}");
    let (_, most) = stand.memory_mib();
    assert!(most < 2_000, "{most} MiB at most");
    works(&stand).await;
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// GET / in HPACK, without a table.
const GET: &[u8] = b"\x82\x87\x84\x01\x01a";

#[tokio::test]
async fn floods_of_streams_end_with_their_connection() {
    let stand = Stand::start().await;
    let (before, _) = stand.memory_mib();
    for reset in [true, false] {
        let mut connection = stand.connect(H2).await;
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        sent.extend(frame(4, 0, 0, &[]));
        for n in 0..20_000 {
            let stream = 2 * n + 1;
            // Headers that end stream and headers, then, in one of the floods, a change of mind.
            sent.extend(frame(1, 0x5, stream, GET));
            if reset {
                sent.extend(frame(3, 0, stream, &8u32.to_be_bytes()));
            }
        }
        // Nothing is read while it is sent: the server has to bound what it answers, or hang up.
        let (mut reading, mut writing) = tokio::io::split(&mut connection);
        let flood = async {
            let _ = writing.write_all(&sent).await;
            let _ = writing.flush().await;
        };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(10), flood).await;
        works(&stand).await;
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), to_the_end(&mut reading)).await;
    }
    let (after, _) = stand.memory_mib();
    assert!(after < before + 200, "{before} MiB before, {after} MiB after");
}

#[tokio::test]
async fn headers_are_bounded_and_pipelines_are_answered_in_order() {
    let stand = Stand::start().await;
    let mut huge = stand.connect(H1).await;
    let bytes = head("GET", "/livez", &format!("X: {}\r\n", "y".repeat(4_000_000)));
    let (mut reading, mut writing) = tokio::io::split(&mut huge);
    let (_, answer) = tokio::join!(writing.write_all(bytes.as_bytes()), to_the_end(&mut reading));
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let mut many = stand.connect(H1).await;
    let bytes = head("GET", "/livez", &(0..5_000).map(|n| format!("X{n}: y\r\n")).collect::<String>());
    let (mut reading, mut writing) = tokio::io::split(&mut many);
    let (_, answer) = tokio::join!(writing.write_all(bytes.as_bytes()), to_the_end(&mut reading));
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let mut pipeline = stand.connect(H1).await;
    let mut bytes: String =
        (0..200).map(|n| head("GET", if n % 2 == 0 { "/livez/ping" } else { "/nowhere" }, "")).collect();
    bytes.push_str(&head("GET", "/livez/ping", "Connection: close\r\n"));
    let (mut reading, mut writing) = tokio::io::split(&mut pipeline);
    let (_, answers) = tokio::join!(writing.write_all(bytes.as_bytes()), to_the_end(&mut reading));
    let answers = String::from_utf8_lossy(&answers);
    let codes: Vec<&str> = answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
    let expected: Vec<&str> = (0..201).map(|n| if n % 2 == 0 { "200" } else { "404" }).collect();
    assert_eq!(codes, expected);
    works(&stand).await;
}

#[tokio::test]
async fn what_is_taken_can_be_read_again_however_deep() {
    let mut stand = Stand::start().await;
    let definition = json!({
        "metadata": {"name": "wells.example.org"},
        "spec": {
            "group": "example.org", "scope": "Namespaced", "names": {"plural": "wells", "kind": "Well"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(stand.call("POST", definitions, JSON, "", &definition).await.0, 201);
    let wells = "/apis/example.org/v1/namespaces/default/wells";
    while stand.call("GET", wells, "", "", &Value::Null).await.0 == 404 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let chain = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"a": inner}));
    let well = |name: &str, levels: usize| json!({"apiVersion": "example.org/v1", "kind": "Well", "metadata": {"name": name}, "a": chain(levels)});
    let mut taken = Vec::new();
    for levels in (100..130).step_by(2) {
        let name = format!("w{levels}");
        let (code, made) = stand.call("POST", wells, JSON, "", &well(&name, levels)).await;
        assert_eq!(code, if levels <= 118 { 201 } else { 400 }, "{levels}: {made}");
        if code == 201 {
            taken.push((name, made));
        }
    }
    // Depth by a patch on what is deep, in steps of a few bytes each.
    let patch: Value = (0..12).map(|n| json!({"op": "copy", "from": "", "path": "/a".repeat(100 << n)})).collect();
    for patch in [patch, json!([{"op": "copy", "from": "/a", "path": "/a/a/a/a/a/a/a/a/b"}])] {
        let path = format!("{wells}/w118");
        assert_eq!(stand.call("PATCH", &path, "application/json-patch+json", "", &patch).await.0, 422);
    }
    let merge = json!({"metadata": {"labels": {"x": "y"}}, "b": chain(100)});
    let (code, merged) =
        stand.call("PATCH", &format!("{wells}/w118"), "application/merge-patch+json", "", &merge).await;
    assert_eq!(code, 200, "{merged}");
    taken.pop();
    taken.push(("w118".into(), merged));
    stand.kill_server();
    stand.start_server().await;
    while stand.call("GET", wells, "", "", &Value::Null).await.0 == 404 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for (name, made) in taken {
        assert_eq!(stand.call("GET", &format!("{wells}/{name}"), "", "", &Value::Null).await, (200, made), "{name}");
    }
}
