//! Requests like real ones, mutated, at a running server: whatever is sent, an answer comes, errors are a Status, and the server works
//! on. What single parsers make of hostile bytes is the fuzzer's own business (docs/fuzz.md); this is about all of them together.

use crate::stand::Stand;
use futures::StreamExt;
use fuzz::{Corpus, input, parts};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::Duration;

/// Mutated requests, unless `FUZZ_REQUESTS` says otherwise; the corpus is sent before them.
const REQUESTS: u64 = 2_500;
/// At once.
const IN_FLIGHT: usize = 8;
/// How long a watch is read, which goes on for as long as it is.
const WATCHED: Duration = Duration::from_millis(200);

/// What mutations put into requests.
const WORDS: &[&str] = &[
    "spec",
    "metadata",
    "name",
    "namespace",
    "$patch",
    "null",
    "watch=1",
    "limit=-1",
    "dryRun=All",
    "continue=",
    "%2F",
    "%00",
    "..",
    "/status",
    "/scale",
    "/log",
    "/proxy",
    "/pods",
    "/namespaces/",
    "application/yaml",
    "as=Table",
    "resourceVersion=0",
    "fieldManager=",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "DELETE",
    "PUT",
    "GET",
];

/// A number from the environment.
fn given(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A request as the corpus writes it: `METHOD path`, a line for each header, and the body as the second part. None where HTTP's own
/// grammar is broken.
fn request(input: &[u8]) -> Option<http::Request<Vec<u8>>> {
    let parts = parts(input);
    let head = String::from_utf8_lossy(parts[0]).into_owned();
    let mut lines = head.lines();
    let (method, path) = lines.next()?.split_once(' ')?;
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    let request = request.body(parts[1].to_vec()).ok()?;
    let path = request.uri().path();
    // What another host answers, and what takes the whole cluster away, is not what is asked here.
    let kept = path.starts_with('/') && !(request.method() == "DELETE" && path.contains("namespaces/default?"));
    kept.then_some(request)
}

/// Sends a request and says what is wrong with the answer.
async fn check_answer(stand: &Stand, input: &[u8]) -> Option<String> {
    let response = stand.open(request(input)?).await;
    let code = response.status().as_u16();
    let json = response.headers().get("content-type").is_some_and(|kind| kind == "application/json");
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    // A watch goes on; its beginning is enough.
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            bytes.extend(frame.into_data().unwrap_or_default());
        }
    };
    let _ = tokio::time::timeout(WATCHED, reading).await;
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("apiserver to panic") {
        return Some(format!("a panic: {code} {text}"));
    }
    let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let wrong = code >= 400 && json && (status["kind"] != "Status" || status["code"] != code);
    wrong.then(|| format!("no Status: {code} {text}"))
}

#[tokio::test]
async fn whatever_is_asked_is_answered() {
    let stand = Stand::start().await;
    let corpus = Corpus::of("requests").unwrap();
    let (before, _) = stand.memory_mib();
    let (seed, requests) = (given("FUZZ_SEED", 1), given("FUZZ_REQUESTS", REQUESTS));
    let wrong: Vec<String> = futures::stream::iter(0..corpus.files.len() as u64 + requests)
        .map(|number| {
            let input = input(&corpus, WORDS, seed, number);
            let stand = &stand;
            async move {
                let why = check_answer(stand, &input).await?;
                Some(format!("request {number}: {why}\n{}", String::from_utf8_lossy(&input)))
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .filter_map(|wrong| async { wrong })
        .collect()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let (_, most) = stand.memory_mib();
    assert!(most < before + 300, "{before} MiB before, {most} MiB at most");
    // The server does as ever.
    let path = "/api/v1/namespaces/kube-public/configmaps";
    let map = json!({"metadata": {"name": "after"}});
    assert_eq!(stand.call("POST", path, "application/json", "", &map).await.0, 201);
    assert_eq!(stand.call("DELETE", &format!("{path}/after"), "", "", &Value::Null).await.0, 200);
}
