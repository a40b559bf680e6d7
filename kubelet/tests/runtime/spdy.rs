//! SPDY as API servers speak it to kubelets, against what answers it behind them: the stream server of a real containerd.

use crate::node::{TestNode, eventually};
use bytes::Bytes;
use cri_client::Cri;
use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use proto::cri::ExecRequest;
use serde_json::{Value, json};
use spdy::{Frame, Headers, Reader, Writer};
use std::time::Duration;

#[tokio::test]
async fn a_runtime_understands_our_spdy() {
    if let Some(missing) = crate::node::missing() {
        eprintln!("skipped: this machine has no {missing}");
        return;
    }
    let node = tokio::task::spawn_blocking(TestNode::start).await.expect("a node");
    node.apply(
        "p",
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
            "hostNetwork": true, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "busybox:test"}]}}),
    );
    let status = tokio::task::spawn_blocking(move || {
        let running = || node.container("p", "c").filter(|status| status["state"]["running"].is_object());
        let status = eventually("the container runs", running);
        (status, node)
    });
    let (status, node) = status.await.expect("a status");
    let id = status["containerID"].as_str().and_then(|id| id.strip_prefix("containerd://")).expect("an id");

    let endpoint = format!("unix://{}", node.path("containerd.sock").display());
    let cri = Cri::connect(&endpoint, &endpoint, Duration::from_secs(30)).expect("a client");
    let command = ["sh", "-c", "cat; echo error >&2; exit 3"].map(str::to_owned);
    let exec = ExecRequest {
        container_id: id.to_owned(),
        cmd: command.to_vec(),
        tty: false,
        stdin: true,
        stdout: true,
        stderr: true,
    };
    let url: http::Uri = cri.exec(exec).await.expect("a url").parse().expect("a url");

    let tcp = tokio::net::TcpStream::connect(url.authority().expect("a host").as_str()).await.expect("connected");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.expect("http");
    tokio::spawn(connection.with_upgrades());
    let request = Request::post(url.path()).header("host", "localhost").header("connection", "Upgrade");
    let request = request.header("upgrade", "SPDY/3.1").header("x-stream-protocol-version", "v4.channel.k8s.io");
    let mut answer = sender.send_request(request.body(Empty::<Bytes>::new()).expect("a request")).await.expect("one");
    assert_eq!(answer.status(), 101);
    let upgraded = TokioIo::new(hyper::upgrade::on(&mut answer).await.expect("upgraded"));
    let (from, to) = tokio::io::split(upgraded);
    let (mut reader, mut writer) = (Reader::new(from), Writer::new(to));

    for (stream, name) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        let headers = Headers::from([("streamtype", name)]);
        writer.send(&Frame::Open { stream, fin: false, headers }).await.expect("opened");
    }
    writer.send(&Frame::Ping(1)).await.expect("pinged");
    let input = Bytes::from(vec![b'x'; 500_000]);
    let sending = tokio::spawn(async move {
        writer.send(&Frame::Data { stream: 3, fin: true, bytes: input }).await.expect("sent");
        writer
    });
    let (mut said, mut replies, mut pinged): ([Vec<u8>; 4], _, _) = (Default::default(), 0, false);
    while let Ok(Some(frame)) = reader.next().await {
        match frame {
            Frame::Data { stream, bytes, .. } => said[stream as usize / 2].extend_from_slice(&bytes),
            Frame::Reply { .. } => replies += 1,
            Frame::Ping(1) => pinged = true,
            _ => {}
        }
    }
    drop(sending.await.expect("sent"));
    assert_eq!((replies, pinged), (4, true));
    assert_eq!((said[2].len(), &said[3][..]), (500_000, &b"error\n"[..]));
    let status: Value = serde_json::from_slice(&said[0]).expect("a status");
    assert_eq!(status["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]), "{status}");

    // The command leaves nothing behind that would keep the pod.
    tokio::task::spawn_blocking(move || {
        let uid = node.pod("p").expect("the pod")["metadata"]["uid"].as_str().expect("a uid").to_owned();
        node.remove("p");
        eventually("the pod is gone", || node.pods().is_empty().then_some(()));
        assert_eq!((node.containers(), node.has_pod_cgroup(&uid)), (Vec::new(), false));
    })
    .await
    .expect("gone");
}
