//! exec, attach and port-forward of clients old and new, at a kubelet that speaks SPDY only (KEP-4006).

use crate::spdy_kubelet::SpdyKubelet;
use crate::stand::{Stand, TOKEN};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

const POD: &str = "/api/v1/namespaces/default/pods/p";

const FORWARD: &str = "SPDY/3.1+portforward.k8s.io";

pub type Client = WebSocketStream<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

pub async fn open(stand: &Stand, token: &str, path: &str, protocols: &str) -> Result<(Client, String), (u16, String)> {
    let mut request = format!("wss://127.0.0.1:{}{path}", stand.port).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    match client_async(request, stand.connect(&["http/1.1"]).await).await {
        Ok((client, answer)) => {
            let chosen = answer.headers().get("sec-websocket-protocol").map(|v| v.to_str().unwrap().to_owned());
            Ok((client, chosen.unwrap_or_default()))
        }
        Err(tungstenite::Error::Http(answer)) => {
            let body = answer.body().clone().unwrap_or_default();
            Err((answer.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
        }
        Err(error) => panic!("{path}: {error}"),
    }
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes))
}

/// What was said in each channel until the server closed, and the status.
async fn read(client: &mut Client) -> ([Vec<u8>; 3], Value) {
    let mut channels: [Vec<u8>; 4] = Default::default();
    while let Some(Ok(message)) = client.next().await {
        match message {
            Message::Binary(bytes) => channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]),
            Message::Close(_) => break,
            _ => {}
        }
    }
    let [stdin, stdout, stderr, error] = channels;
    ([stdin, stdout, stderr], serde_json::from_slice(&error).unwrap())
}

/// Waits for what must become so within a minute.
async fn until(done: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "it did not become so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn exec(stand: &Stand, query: &str) -> Client {
    let path = format!("{POD}/exec?container=c&{query}");
    let (client, protocol) = open(stand, TOKEN, &path, "v5.channel.k8s.io, v4.channel.k8s.io").await.unwrap();
    assert_eq!(protocol, "v5.channel.k8s.io");
    client
}

#[tokio::test]
async fn websockets_are_translated_for_a_kubelet_that_speaks_spdy() {
    let stand = Stand::start().await;
    let kubelet = SpdyKubelet::start(&stand).await;
    let success = json!({"metadata": {}, "status": "Success"});

    // Outputs apart, and the exit code.
    let mut client = exec(&stand, "stdout=true&stderr=true&command=fail").await;
    let ([_, stdout, stderr], status) = read(&mut client).await;
    assert_eq!((&stdout[..], &stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(
        (&status["reason"], &status["details"]["causes"]),
        (&json!("NonZeroExitCode"), &json!([{"reason": "ExitCode", "message": "3"}]))
    );

    // Input of some size, read back while it is written, ended by the close of its channel.
    let input: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let client = exec(&stand, "stdin=true&stdout=true&command=cat").await;
    let (mut to, mut from) = client.split();
    let sent = input.clone();
    let sending = tokio::spawn(async move {
        for piece in sent.chunks(100_000) {
            to.send(binary(&[&[0], piece].concat())).await.unwrap();
        }
        to.send(binary(&[255, 0])).await.unwrap();
        to
    });
    let mut output = Vec::new();
    let mut status = Vec::new();
    while let Some(Ok(message)) = from.next().await {
        match message {
            Message::Binary(bytes) if bytes[0] == 1 => output.extend_from_slice(&bytes[1..]),
            Message::Binary(bytes) => status.extend_from_slice(&bytes[1..]),
            Message::Close(_) => break,
            _ => {}
        }
    }
    drop(sending.await.unwrap());
    assert!(output == input, "{} of {} bytes came back", output.len(), input.len());
    assert_eq!(serde_json::from_slice::<Value>(&status).unwrap(), success);

    // A terminal: its size, and one output.
    let mut client = exec(&stand, "stdin=true&stdout=true&stderr=true&tty=true&command=size").await;
    client.send(binary(b"\x04{\"Width\":80,\"Height\":24}")).await.unwrap();
    let ([_, stdout, _], status) = read(&mut client).await;
    assert_eq!((&stdout[..], status), (&b"{\"Width\":80,\"Height\":24}"[..], success.clone()));

    // Attach; and pings are answered meanwhile.
    let path = format!("{POD}/attach?container=c&stdin=true&stdout=true");
    let (mut client, _) = open(&stand, TOKEN, &path, "v5.channel.k8s.io").await.unwrap();
    client.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
    loop {
        match client.next().await.unwrap().unwrap() {
            Message::Pong(bytes) => break assert_eq!(bytes, "there?"),
            Message::Binary(bytes) => assert_eq!(bytes, vec![1], "only the word that the connection is there"),
            other => panic!("{other:?}"),
        }
    }
    client.send(binary(b"\0hello")).await.unwrap();
    client.send(binary(&[255, 0])).await.unwrap();
    let ([_, stdout, _], status) = read(&mut client).await;
    assert_eq!((&stdout[..], status), (&b"hello"[..], success));

    // What the kubelet refuses is told in the stream.
    let path = format!("{POD}/exec?container=gone&stdout=true&command=ls");
    let (mut client, _) = open(&stand, TOKEN, &path, "v5.channel.k8s.io").await.unwrap();
    let (_, status) = read(&mut client).await;
    let why = "unable to upgrade connection: container not found (\"gone\")";
    assert_eq!(
        (&status["reason"], &status["code"], &status["details"]["causes"], &status["message"]),
        (
            &json!("InternalError"),
            &json!(500),
            &json!([{"message": why}]),
            &json!(format!("Internal error occurred: {why}"))
        )
    );
    // What breaks is told, too.
    let mut client = exec(&stand, "stdout=true&command=break").await;
    let (_, status) = read(&mut client).await;
    let why = "Internal error occurred: error reading from error stream: unexpected EOF";
    assert_eq!((&status["code"], &status["message"]), (&json!(500), &json!(why)));

    // Who goes away takes the connection along.
    let client = exec(&stand, "stdin=true&stdout=true&command=cat").await;
    until(|| kubelet.sessions.load(SeqCst) == 1).await;
    drop(client);
    until(|| kubelet.sessions.load(SeqCst) == 0).await;

    // Older clients are passed on as they are, so that this kubelet cannot understand them.
    let path = format!("{POD}/exec?container=c&stdout=true&command=ls");
    let refused = open(&stand, TOKEN, &path, "v4.channel.k8s.io").await.map(|_| ()).unwrap_err();
    assert_eq!(refused, (400, "this kubelet speaks SPDY/3.1 only".into()));

    let metrics = stand.send(http::Request::get("/metrics").body(Vec::new()).unwrap()).await.into_body();
    let metrics = String::from_utf8(metrics).unwrap();
    let counted = |code: &str, count: u32| {
        metrics.contains(&format!("apiserver_stream_translator_requests_total{{code=\"{code}\"}} {count}\n"))
    };
    assert!(counted("200", 4) && counted("500", 2), "{metrics}");
}

#[tokio::test]
async fn who_may_only_read_opens_no_session() {
    let stand = Stand::start().await;
    let _kubelet = SpdyKubelet::start(&stand).await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    stand.create(accounts, json!({"metadata": {"name": "viewer"}})).await;
    let token = stand.create(&format!("{accounts}/viewer/token"), json!({"spec": {}})).await;
    let token = token["status"]["token"].as_str().unwrap().to_owned();
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = |verbs: &[&str]| {
        let resources = ["pods/exec", "pods/portforward"];
        json!({"metadata": {"name": "viewer"}, "rules": [{"apiGroups": [""], "resources": resources, "verbs": verbs}]})
    };
    stand.create(&format!("{roles}/roles"), role(&["get"])).await;
    let binding = json!({"metadata": {"name": "viewer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "viewer"},
        "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": "default"}]});
    stand.create(&format!("{roles}/rolebindings"), binding).await;

    let paths = [("exec", "stdout=true&command=fail", "v5.channel.k8s.io"), ("portforward", "", FORWARD)];
    for (subresource, query, protocol) in paths {
        let path = format!("{POD}/{subresource}?container=c&{query}");
        let (code, body) = open(&stand, &token, &path, protocol).await.map(|_| ()).unwrap_err();
        let why = format!(
            "User \\\"system:serviceaccount:default:viewer\\\" cannot create resource \\\"pods/{subresource}\\\""
        );
        assert!(code == 403 && body.contains(&why), "{code} {body}");
    }
    stand.update(&format!("{roles}/roles/viewer"), role(&["get", "create"])).await;
    for (subresource, query, protocol) in paths {
        let path = format!("{POD}/{subresource}?container=c&{query}");
        assert_eq!(open(&stand, &token, &path, protocol).await.unwrap().1, protocol);
    }
}

#[tokio::test]
async fn a_spdy_connection_is_tunnelled_through_a_websocket() {
    let stand = Stand::start().await;
    let _kubelet = SpdyKubelet::start(&stand).await;
    let path = format!("{POD}/portforward");
    let (mut client, protocol) = open(&stand, TOKEN, &path, FORWARD).await.unwrap();
    assert_eq!(protocol, FORWARD);
    let (mut encoder, mut decoder) = (spdy::Encoder::default(), spdy::Decoder::default());
    let mut bytes = bytes::BytesMut::new();
    for (stream, kind) in [(1, "error"), (3, "data")] {
        let headers = [("streamType", kind), ("port", "8080"), ("requestID", "0")].into();
        encoder.encode(&spdy::Frame::Open { stream, fin: kind == "error", headers }, &mut bytes);
    }
    encoder.encode(&spdy::Frame::Data { stream: 3, fin: true, bytes: Bytes::from_static(b"hello") }, &mut bytes);
    // However the bytes are cut into messages.
    for piece in bytes.chunks(7) {
        client.send(binary(piece)).await.unwrap();
    }
    let mut answer = Vec::new();
    'answer: loop {
        if let Message::Binary(bytes) = client.next().await.unwrap().unwrap() {
            decoder.buffer.extend_from_slice(&bytes);
        }
        while let Some(frame) = decoder.decode().unwrap() {
            if let spdy::Frame::Data { stream: 3, fin, bytes } = frame {
                answer.extend_from_slice(&bytes);
                if fin {
                    break 'answer;
                }
            }
        }
    }
    assert_eq!(answer, b"port 8080\nHELLO");
    let refused = open(&stand, TOKEN, &path, "SPDY/3.1+other").await.map(|_| ()).unwrap_err();
    assert_eq!(refused, (400, "unable to upgrade: no tunneling spdy protocols provided\n".into()));
}

#[tokio::test]
async fn without_the_gates_websockets_are_passed_on() {
    let gates = "--feature-gates=TranslateStreamCloseWebsocketRequests=false,PortForwardWebsockets=false";
    let stand = Stand::start_with(&[gates]).await;
    let _kubelet = SpdyKubelet::start(&stand).await;
    for (path, protocol) in [("exec?container=c&stdout=true&command=ls", "v5.channel.k8s.io"), ("portforward", FORWARD)]
    {
        let refused = open(&stand, TOKEN, &format!("{POD}/{path}"), protocol).await.map(|_| ()).unwrap_err();
        assert_eq!(refused, (400, "this kubelet speaks SPDY/3.1 only".into()));
    }
}

#[tokio::test]
async fn kubectl_of_every_age_runs_and_forwards() {
    let clients = kubectls();
    if clients.is_empty() {
        eprintln!("skipped: there is no kubectl");
        return;
    }
    let stand = Stand::start().await;
    let _kubelet = SpdyKubelet::start(&stand).await;
    let stand = std::sync::Arc::new(stand);
    for kubectl in clients {
        let stand = stand.clone();
        tokio::task::spawn_blocking(move || with_kubectl(&stand, &kubectl)).await.unwrap();
    }
}

/// Every kubectl there is: those of the path, and those that the tests of clusters have fetched.
fn kubectls() -> Vec<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([target]);
    let files = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().filter_map(Result::ok);
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name == "kubectl" || name.starts_with("kubectl-1.") || name.starts_with("kubectl.1.")
    };
    files.map(|file| file.path()).filter(named).collect()
}

fn with_kubectl(stand: &Stand, kubectl: &Path) {
    let command = |arguments: &[&str]| {
        let mut command = Command::new(kubectl);
        command.arg(format!("--server=https://127.0.0.1:{}", stand.port)).arg(format!("--token={TOKEN}"));
        command.arg(format!("--certificate-authority={}", stand.path("ca.crt").display())).args(arguments);
        command.env("KUBECONFIG", "/dev/null").env("HOME", stand.path("")).stdin(Stdio::null());
        command
    };
    let name = kubectl.display();

    let output = command(&["exec", "p", "-c", "c", "--", "fail"]).output().unwrap();
    let texts = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert_eq!((&*texts[0], output.status.code()), ("out\n", Some(3)), "{name}: {texts:?}");
    assert!(
        texts[1].contains("err\n") && texts[1].contains("command terminated with exit code 3"),
        "{name}: {texts:?}"
    );

    let input: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut cat = command(&["exec", "-i", "p", "-c", "c", "--", "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, sent) = (cat.stdin.take().unwrap(), input.clone());
    let sending = std::thread::spawn(move || to.write_all(&sent).unwrap());
    let output = cat.wait_with_output().unwrap();
    sending.join().unwrap();
    assert!(output.status.success() && output.stdout == input, "{name}: {} bytes", output.stdout.len());

    let mut forward = command(&["port-forward", "pod/p", ":8080"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut stdout = std::io::BufReader::new(forward.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut said).unwrap();
    // "Forwarding from 127.0.0.1:40123 -> 8080"
    let address = said.split_ascii_whitespace().nth(2).unwrap_or_else(|| panic!("{name}: {said:?}"));
    for _ in 0..2 {
        let mut connection = std::net::TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        connection.write_all(b"hello").unwrap();
        connection.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "port 8080\nHELLO", "{name}");
    }
    forward.kill().unwrap();
    forward.wait().unwrap();
}
