//! A kubelet that speaks SPDY only, as upstream's does, with containers that know a few commands, and with pages to be proxied.

use bytes::Bytes;
use component_base::serving::{self, Body, full};
use component_base::tls::{self, CertifiedFiles, ServerTls};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use spdy::{Frame, Headers, Reader, Writer};
use stand::Stand;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::io::{ReadHalf, WriteHalf};
use tokio_util::sync::{CancellationToken, DropGuard};

type Io = TokioIo<hyper::upgrade::Upgraded>;

pub struct SpdyKubelet {
    /// How many connections there are.
    pub sessions: Arc<AtomicUsize>,
    _stop: DropGuard,
    _folder: tempfile::TempDir,
}

impl SpdyKubelet {
    /// Starts it as the node `old`, on which the pod `p` runs.
    pub async fn start(stand: &Stand) -> SpdyKubelet {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let own_key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["old".into()]).unwrap().self_signed(&own_key).unwrap();
        std::fs::write(&cert, own.pem()).unwrap();
        std::fs::write(&key, own_key.serialize_pem()).unwrap();
        let config =
            tls::server_config(ServerTls::new(tls::from_files(CertifiedFiles { cert, key }).unwrap())).unwrap();
        let listener = serving::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let sessions: Arc<AtomicUsize> = Arc::default();
        let counted = sessions.clone();
        let handler = serving::handler(move |request| answer(request, counted.clone()));
        tokio::spawn(serving::serve_https(listener, config, handler, stop.clone()));

        stand.create("/api/v1/nodes", json!({"metadata": {"name": "old"}})).await;
        let status = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}});
        stand.merge("/api/v1/nodes/old/status", json!({"status": status})).await;
        let pod = json!({"metadata": {"name": "p"},
            "spec": {"nodeName": "old", "containers": [{"name": "c", "image": "i"}, {"name": "gone", "image": "i"}]}});
        stand.create("/api/v1/namespaces/default/pods", pod).await;
        stand.merge("/api/v1/namespaces/default/pods/p/status", json!({"status": {"phase": "Running"}})).await;
        SpdyKubelet { sessions, _stop: stop.drop_guard(), _folder: folder }
    }
}

fn refuse(code: u16, why: &'static str) -> Response<Body> {
    Response::builder().status(code).body(full(why)).unwrap()
}

fn page(text: &'static str) -> Response<Body> {
    Response::builder().header("content-type", "text/html; charset=utf-8").body(full(text)).unwrap()
}

/// The first protocol that a client offers of those that this kubelet knows.
fn negotiate(headers: &HeaderMap, known: &[&str]) -> Option<String> {
    let offered = headers.get_all("x-stream-protocol-version").into_iter().filter_map(|v| v.to_str().ok());
    offered.flat_map(|v| v.split(',')).map(str::trim).find(|offer| known.contains(offer)).map(str::to_owned)
}

async fn answer(mut request: Request<Incoming>, sessions: Arc<AtomicUsize>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if path.ends_with("/gone") {
        return refuse(404, "container not found (\"gone\")");
    }
    match path.split('/').nth(1) {
        Some("page") => return page("<html><a href=\"/next\">next</a> <a href=\"other\">other</a></html>"),
        Some("moved") => {
            let answer = Response::builder().status(302).header("location", "/page");
            return answer.body(serving::empty()).unwrap();
        }
        Some("echo") => {
            let target = request.uri().path_and_query().map_or("", |target| target.as_str());
            return Response::new(full(format!("{} {target}", request.method())));
        }
        Some("containerLogs") => return Response::new(full("one\n")),
        _ => {}
    }
    if request.method() != "POST" || request.headers().get("upgrade").is_none_or(|upgrade| upgrade != "SPDY/3.1") {
        return refuse(400, "this kubelet speaks SPDY/3.1 only");
    }
    let forwards = path.starts_with("/portForward/");
    let known: &[&str] = if forwards { &["portforward.k8s.io"] } else { &["v4.channel.k8s.io", "v3.channel.k8s.io"] };
    let Some(protocol) = negotiate(request.headers(), known) else { return refuse(403, "no protocol in common") };
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or("").as_bytes()).into_owned().collect();
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (from, to) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
        sessions.fetch_add(1, SeqCst);
        let session = Session { reader: Reader::new(from), writer: Writer::new(to), streams: BTreeMap::new() };
        // Who leaves early is no failure of the test.
        let _ = if forwards { session.forward().await } else { session.run(&query).await };
        sessions.fetch_sub(1, SeqCst);
    });
    let answer = Response::builder().status(101).header("connection", "Upgrade").header("upgrade", "SPDY/3.1");
    answer.header("x-stream-protocol-version", protocol).body(serving::empty()).unwrap()
}

struct Session {
    reader: Reader<ReadHalf<Io>>,
    writer: Writer<WriteHalf<Io>>,
    /// By `streamType`.
    streams: BTreeMap<String, u32>,
}

impl Session {
    /// The next frame; pings are answered, streams accepted.
    async fn next(&mut self) -> spdy::Result<Option<Frame>> {
        loop {
            match self.reader.next().await? {
                Some(Frame::Ping(number)) => self.writer.send(&Frame::Ping(number)).await?,
                Some(Frame::Open { stream, headers, .. }) => {
                    self.writer.send(&Frame::Reply { stream, fin: false, headers: Headers::default() }).await?;
                    self.streams.insert(headers.get("streamType").unwrap_or("").to_owned(), stream);
                    return Ok(Some(Frame::Open { stream, fin: false, headers }));
                }
                other => return Ok(other),
            }
        }
    }

    async fn say(&mut self, stream: &str, bytes: impl Into<Bytes>) -> spdy::Result<()> {
        let stream = self.streams[stream];
        self.writer.send(&Frame::Data { stream, fin: false, bytes: bytes.into() }).await
    }

    /// Runs a command: `fail`, `break`, `size`, or else one that says what it hears.
    async fn run(mut self, query: &[(String, String)]) -> spdy::Result<()> {
        let on = |name: &str| query.iter().any(|(have, value)| have == name && value == "1");
        let tty = on("tty");
        let wanted = [on("input"), on("output"), on("error") && !tty, tty, true];
        while self.streams.len() < wanted.iter().filter(|wanted| **wanted).count() {
            if self.next().await?.is_none() {
                return Ok(());
            }
        }
        let command: Vec<&str> = query.iter().filter(|(k, _)| k == "command").map(|(_, v)| v.as_str()).collect();
        let code = match command.first() {
            // As a shell that is told to say both and to fail.
            Some(&"fail") => {
                self.say("stdout", "out\n").await?;
                self.say("stderr", "err\n").await?;
                3
            }
            // The node's power goes.
            Some(&"break") => return Ok(()),
            // Tells the size of the terminal.
            Some(&"size") => {
                let resize = self.streams["resize"];
                loop {
                    match self.next().await? {
                        Some(Frame::Data { stream, bytes, .. }) if stream == resize => {
                            self.say("stdout", bytes).await?;
                            break;
                        }
                        None => return Ok(()),
                        _ => {}
                    }
                }
                0
            }
            // cat, and what a container that is attached to does.
            _ => {
                let stdin = self.streams["stdin"];
                loop {
                    match self.next().await? {
                        Some(Frame::Data { stream, bytes, fin }) if stream == stdin => {
                            self.say("stdout", bytes).await?;
                            if fin {
                                break;
                            }
                        }
                        None => return Ok(()),
                        _ => {}
                    }
                }
                0
            }
        };
        let status = match code {
            0 => json!({"metadata": {}, "status": "Success"}),
            code => json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": "command terminated with non-zero exit code",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}}),
        };
        self.say("error", status.to_string()).await?;
        // As upstream closes: each stream is reset, then the connection goes.
        for stream in self.streams.clone().into_values() {
            self.writer.send(&Frame::Reset { stream, status: spdy::reset::CANCEL }).await?;
        }
        self.writer.send(&Frame::GoAway { last: 0 }).await?;
        // Closed with something unread, a connection takes along what it has not delivered yet.
        while self.reader.next().await?.is_some() {}
        Ok(())
    }

    /// Says back, in capitals, what comes for a port. A connection has two streams of the same request: data, and errors.
    async fn forward(mut self) -> spdy::Result<()> {
        let mut errors = BTreeMap::new();
        let mut data = BTreeMap::new();
        while let Some(frame) = self.next().await? {
            match frame {
                Frame::Open { stream, headers, .. } => {
                    let id = headers.get("requestID").unwrap_or("").to_owned();
                    if headers.get("streamType") == Some("error") {
                        errors.insert(id, stream);
                        continue;
                    }
                    data.insert(stream, errors[&id]);
                    let bytes = format!("port {}\n", headers.get("port").unwrap_or("?")).into();
                    self.writer.send(&Frame::Data { stream, fin: false, bytes }).await?;
                }
                Frame::Data { stream, fin, bytes } if data.contains_key(&stream) => {
                    let bytes = bytes.to_ascii_uppercase().into();
                    self.writer.send(&Frame::Data { stream, fin, bytes }).await?;
                    if fin {
                        let stream = data[&stream];
                        self.writer.send(&Frame::Data { stream, fin, bytes: Bytes::new() }).await?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
