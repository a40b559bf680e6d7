//! Exec and attach for clients that speak WebSocket, at kubelets that speak SPDY (KEP-4006): `v5.channel.k8s.io` on the one side,
//! SPDY streams of the same channels on the other.
//!
//! A WebSocket message is a channel's number and its bytes; 255 and a number says that the channel has no more. In SPDY a
//! channel is a stream with the header `streamType`. Neither side has windows: who does not read is not read for either.
//!
//!     client ──messages──► uplink ──frames──► queue ──► writer ──► kubelet
//!     client ◄──messages── downlink ◄──────────frames───────────── kubelet
//!
//! All four run in one task, which ends when the downlink has the end of the output and the status, or when the client is gone.

use super::metrics;
use super::spdy_request::{self, internal};
use super::tunnel::Target;
use super::websocket::{self, Handshake, WebSocket};
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use handlers::Response;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use serde_json::{Value, json};
use spdy::{Frame, Headers, Reader, Writer, reset};
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;

/// The protocol of clients that are translated for; those of older ones pass through as they are.
pub const PROTOCOL: &str = "v5.channel.k8s.io";
/// What the kubelet may choose from. They differ in how the status is told and in whether terminals have sizes.
const OFFERED: [&str; 5] = [PROTOCOL, "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// In place of a channel: the next byte names the channel that has ended.
const CLOSE: u8 = 255;

/// Frames that wait for the kubelet to take them.
const QUEUE_FRAMES: usize = 8;
const PING_PERIOD: Duration = Duration::from_secs(5);
/// A session in which neither side says anything for so long is over.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
/// For the kubelet to accept the streams.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// For the client to read what is on its way when the command is over: a close that it did not ask for could cut that off.
const FINISH_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Of a status.
const STATUS_BYTES_MAX: usize = 64 * 1024;

/// What is told where the kubelet goes away. (Upstream takes that for a success.)
const BROKEN_OFF: &str = "error reading from error stream: unexpected EOF";

/// Channels by their numbers in WebSocket messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    Error = 3,
    Resize = 4,
}

impl Channel {
    /// In the order in which streams are opened, with their names in SPDY.
    const ALL: [(Channel, &str); 5] = [
        (Channel::Error, "error"),
        (Channel::Stdin, "stdin"),
        (Channel::Stdout, "stdout"),
        (Channel::Stderr, "stderr"),
        (Channel::Resize, "resize"),
    ];
}

/// What the request asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestedStreams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl RequestedStreams {
    /// The channels that become streams, by the protocol spoken with the kubelet.
    fn channels(self, protocol: &str) -> Vec<(Channel, &'static str)> {
        let sizes = !matches!(protocol, "" | "channel.k8s.io" | "v2.channel.k8s.io");
        let mut channels = Channel::ALL.to_vec();
        channels.retain(|(channel, _)| match channel {
            Channel::Error => true,
            Channel::Stdin => self.stdin,
            Channel::Stdout => self.stdout,
            Channel::Stderr => self.stderr && !self.tty, // a terminal has one output
            Channel::Resize => self.tty && sizes,
        });
        channels
    }

    /// The lowest channel that the client reads.
    fn first_read(self) -> Channel {
        match self {
            RequestedStreams { stdout: true, .. } => Channel::Stdout,
            RequestedStreams { stderr: true, .. } => Channel::Stderr,
            _ => Channel::Error,
        }
    }
}

/// Answers the client's handshake and goes on with the session in a task of its own.
pub fn translate(target: Target, wanted: RequestedStreams, mut request: Request<Incoming>) -> Response {
    let handshake = match Handshake::read(&mut request) {
        Ok(handshake) => handshake,
        Err(refusal) => {
            metrics::STREAM_TRANSLATOR_REQUESTS.with_label_values(&["400"]).inc();
            return refusal.answer();
        }
    };
    let (response, opening) = handshake.accept(Some(HeaderValue::from_static(PROTOCOL)));
    tokio::spawn(async move {
        let Some(client) = opening.open().await else { return };
        session(&target, wanted, client).await;
    });
    response
}

type ToClient = SplitSink<WebSocket, Message>;

fn message(channel: Channel, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel as u8);
    message.extend_from_slice(bytes);
    Message::Binary(message.freeze())
}

async fn session(target: &Target, wanted: RequestedStreams, client: WebSocket) {
    let (mut to_client, from_client) = client.split();
    // An empty message says that the connection is there.
    if to_client.send(message(wanted.first_read(), &[])).await.is_err() {
        return;
    }
    let (queue, frames) = mpsc::channel(QUEUE_FRAMES);
    let activity = AtomicBool::new(true);
    let (kubelet, protocol) = match spdy_request::connect(target, &OFFERED).await {
        Ok(connected) => connected,
        Err(status) => {
            drop(frames);
            return finish(&mut to_client, &status, uplink(from_client, &Streams::default(), &queue, &activity)).await;
        }
    };
    let (from_kubelet, to_kubelet) = tokio::io::split(kubelet);
    let (reader, mut writer) = (Reader::new(from_kubelet), Writer::new(to_kubelet));
    let streams = Streams(wanted.channels(&protocol));
    for frame in streams.opening() {
        let _ = writer.send(&frame).await; // what goes wrong here the reader sees too
    }
    let mut uplink = pin!(uplink(from_client, &streams, &queue, &activity));
    let end = tokio::select! {
        end = downlink(reader, &streams, &mut to_client, &queue, &activity) => end,
        () = &mut uplink => None,
        () = write(frames, writer, &activity) => None,
    };
    if let Some(end) = end {
        finish(&mut to_client, &outcome(&protocol, end), uplink).await;
    }
}

/// Tells the status, says that nothing follows, and waits for the client to close: it does when it has read all.
async fn finish(to_client: &mut ToClient, status: &Value, uplink: impl Future<Output = ()>) {
    let code = if status["reason"] == "NonZeroExitCode" { 200 } else { status["code"].as_u64().unwrap_or(200) };
    metrics::STREAM_TRANSLATOR_REQUESTS.with_label_values(&[&code.to_string()]).inc();
    let telling = async {
        to_client.send(message(Channel::Error, status.to_string().as_bytes())).await?;
        to_client.send(websocket::close()).await
    };
    let both = async {
        let mut uplink = pin!(uplink);
        tokio::select! {
            _ = telling => uplink.await,
            () = &mut uplink => {}
        }
    };
    if timeout(FINISH_TIMEOUT, both).await.is_err() {
        tracing::debug!("a client did not close its stream");
    }
}

/// The streams of a session: the channel at index n has the stream 2n+1.
#[derive(Default)]
struct Streams(Vec<(Channel, &'static str)>);

impl Streams {
    fn stream(&self, channel: Channel) -> Option<u32> {
        self.0.iter().position(|(have, _)| *have == channel).map(|index| 2 * index as u32 + 1)
    }

    /// Where a stream is in the list.
    fn index(&self, stream: u32) -> Option<usize> {
        (stream % 2 == 1).then_some(stream as usize / 2).filter(|index| *index < self.0.len())
    }

    fn opening(&self) -> Vec<Frame> {
        let open = |(index, (_, name)): (usize, &(Channel, &str))| Frame::Open {
            stream: 2 * index as u32 + 1,
            fin: false,
            headers: Headers::from([("streamtype", *name)]),
        };
        self.0.iter().enumerate().map(open).collect()
    }
}

/// Takes the client's messages until it closes or says what it must not.
async fn uplink(
    mut from_client: SplitStream<WebSocket>,
    streams: &Streams,
    queue: &mpsc::Sender<Frame>,
    activity: &AtomicBool,
) {
    while let Some(Ok(message)) = from_client.next().await {
        activity.store(true, Relaxed);
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            _ => continue, // pings are answered by the library, and the end comes as one
        };
        let Ok(frame) = frame_of(bytes, streams) else { return };
        if let Some(frame) = frame {
            let _ = queue.send(frame).await; // nobody takes it when the command is over
        }
    }
}

/// What a message of the client is in SPDY; None for channels that nobody listens to. The error ends the session.
fn frame_of(mut bytes: Bytes, streams: &Streams) -> Result<Option<Frame>, ()> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let closes = first == CLOSE;
    let number = match (closes, &bytes[..]) {
        (true, [_, number]) if *number <= Channel::Resize as u8 => *number,
        (true, _) => return Err(()),
        (false, _) => first,
    };
    let channel = match number {
        0 => Channel::Stdin,
        4 => Channel::Resize,
        _ => return Ok(None),
    };
    let rest = bytes.split_off(1);
    Ok(streams.stream(channel).filter(|_| closes || !rest.is_empty()).map(|stream| Frame::Data {
        stream,
        fin: closes,
        bytes: if closes { Bytes::new() } else { rest },
    }))
}

/// Hands frames to the kubelet, and pings between them. Ends when nobody has said anything for too long; not when the kubelet
/// takes no more: what it has said before is still to be read.
async fn write(mut frames: mpsc::Receiver<Frame>, mut writer: Writer<impl AsyncWrite + Unpin>, activity: &AtomicBool) {
    let mut pings = tokio::time::interval_at(Instant::now() + PING_PERIOD, PING_PERIOD);
    let (mut number, mut idle, mut works) = (1, Duration::ZERO, true);
    loop {
        let frame = tokio::select! {
            Some(frame) = frames.recv() => frame,
            _ = pings.tick() => {
                idle = if activity.swap(false, Relaxed) { Duration::ZERO } else { idle + PING_PERIOD };
                if idle >= IDLE_TIMEOUT {
                    return;
                }
                number += 2;
                Frame::Ping(number)
            }
        };
        works = works && writer.send(&frame).await.is_ok();
    }
}

/// How the kubelet's side ended.
#[derive(Debug, PartialEq)]
enum End {
    /// What it said in the error stream.
    Said(Vec<u8>),
    /// The connection broke, or it said what makes no sense.
    Broke(String),
}

/// Passes the output on until it has ended and the status is there. None if the client takes no more.
async fn downlink(
    mut reader: Reader<impl AsyncRead + Unpin>,
    streams: &Streams,
    to_client: &mut ToClient,
    queue: &mpsc::Sender<Frame>,
    activity: &AtomicBool,
) -> Option<End> {
    let deadline = Instant::now() + STREAMS_TIMEOUT;
    let mut accepted = vec![false; streams.0.len()];
    // Only what the kubelet writes to is waited for.
    let mut ended: Vec<bool> =
        streams.0.iter().map(|(channel, _)| matches!(channel, Channel::Stdin | Channel::Resize)).collect();
    let mut status = Vec::new();
    while !ended.iter().all(|ended| *ended) {
        let next = if accepted.iter().all(|accepted| *accepted) {
            reader.next().await
        } else {
            match timeout_at(deadline, reader.next()).await {
                Ok(next) => next,
                Err(_) => return Some(End::Broke("timed out waiting for the streams to be accepted".into())),
            }
        };
        let frame = match next {
            Ok(Some(frame)) => frame,
            // A server that closes has ended all streams; the status it must have told before.
            Ok(None) if !status.is_empty() => break,
            Ok(None) => return Some(End::Broke(BROKEN_OFF.into())),
            Err(_) if !status.is_empty() => break,
            // The end of the connection without the end of its TLS, or while something was on the way there.
            Err(spdy::Error::Io(error))
                if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) =>
            {
                return Some(End::Broke(BROKEN_OFF.into()));
            }
            Err(error) => return Some(End::Broke(format!("error reading from error stream: {error}"))),
        };
        let (stream, end, data) = match frame {
            Frame::Reply { stream, fin, .. } => {
                streams.index(stream).into_iter().for_each(|index| accepted[index] = true);
                (stream, fin, Bytes::new())
            }
            Frame::Headers { stream, fin, .. } => (stream, fin, Bytes::new()),
            Frame::Data { stream, fin, bytes } => (stream, fin, bytes),
            Frame::Reset { stream, .. } => match streams.index(stream) {
                Some(index) if !accepted[index] => {
                    return Some(End::Broke(format!("the stream {} was not accepted", streams.0[index].1)));
                }
                _ => (stream, true, Bytes::new()),
            },
            // Answers and refusals are small talk: where the queue is full they are left out.
            Frame::Open { stream, .. } => {
                let _ = queue.try_send(Frame::Reset { stream, status: reset::REFUSED });
                continue;
            }
            Frame::Ping(number) => {
                if number % 2 == 0 {
                    let _ = queue.try_send(Frame::Ping(number));
                }
                continue;
            }
            Frame::GoAway { .. } | Frame::Other(_) => continue,
        };
        let Some(index) = streams.index(stream) else { continue };
        let channel = streams.0[index].0;
        match channel {
            Channel::Error if status.len() + data.len() > STATUS_BYTES_MAX => {
                return Some(End::Broke("error reading from error stream: the status is too long".into()));
            }
            Channel::Error => status.extend_from_slice(&data),
            Channel::Stdout | Channel::Stderr if !data.is_empty() && !ended[index] => {
                activity.store(true, Relaxed);
                to_client.send(message(channel, &data)).await.ok()?;
            }
            _ => {}
        }
        ended[index] |= end;
    }
    Some(End::Said(status))
}

/// The `metav1.Status` for the client, of what came in the error stream.
fn outcome(protocol: &str, end: End) -> Value {
    let said = match end {
        End::Broke(why) => return internal(&why),
        End::Said(said) => said,
    };
    let success = || json!({"metadata": {}, "status": "Success"});
    if said.is_empty() {
        return success();
    }
    let text = String::from_utf8_lossy(&said);
    if !matches!(protocol, PROTOCOL | "v4.channel.k8s.io") {
        return internal(&format!("error executing remote command: {text}"));
    }
    let Ok(status) = serde_json::from_slice::<Value>(&said) else {
        return internal(&format!("error stream protocol error: not a Status: {text:?}"));
    };
    match (status["status"].as_str(), status["reason"].as_str()) {
        (Some("Success"), _) => success(),
        (Some("Failure"), Some("NonZeroExitCode")) => exit(&status),
        (Some("Failure"), _) => status,
        _ => internal("error stream protocol error: unknown error"),
    }
}

/// A command that ended with another code than 0.
fn exit(status: &Value) -> Value {
    if !status["details"].is_object() {
        return internal("error stream protocol error: details must be set");
    }
    let mut causes = status["details"]["causes"].as_array().into_iter().flatten();
    let Some(cause) = causes.find(|cause| cause["reason"] == "ExitCode") else {
        return internal("error stream protocol error: no ExitCode cause given");
    };
    let code = cause["message"].as_str().unwrap_or("");
    if code.parse::<u8>().is_err() {
        return internal(&format!("error stream protocol error: invalid exit code value {code:?}"));
    }
    let message = format!("command terminated with non-zero exit code: command terminated with exit code {code}");
    json!({"metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code}]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_those_that_were_asked_for() {
        let all = RequestedStreams { stdin: true, stdout: true, stderr: true, tty: false };
        for (wanted, protocol, names) in [
            (all, PROTOCOL, &["error", "stdin", "stdout", "stderr"][..]),
            (RequestedStreams { tty: true, ..all }, PROTOCOL, &["error", "stdin", "stdout", "resize"]),
            (RequestedStreams { tty: true, ..all }, "v2.channel.k8s.io", &["error", "stdin", "stdout"]),
            (RequestedStreams { stderr: true, ..RequestedStreams::default() }, "", &["error", "stderr"]),
        ] {
            let have: Vec<&str> = wanted.channels(protocol).into_iter().map(|(_, name)| name).collect();
            assert_eq!(have, names, "{wanted:?} {protocol}");
        }
        assert_eq!(all.first_read(), Channel::Stdout);
        assert_eq!(RequestedStreams { stderr: true, ..RequestedStreams::default() }.first_read(), Channel::Stderr);
        assert_eq!(RequestedStreams::default().first_read(), Channel::Error);
    }

    #[test]
    fn messages_become_frames() {
        let wanted = RequestedStreams { stdin: true, stdout: true, stderr: false, tty: true };
        let streams = Streams(wanted.channels(PROTOCOL)); // error 1, stdin 3, stdout 5, resize 7
        let data =
            |stream, fin, bytes: &'static [u8]| Ok(Some(Frame::Data { stream, fin, bytes: Bytes::from_static(bytes) }));
        for (message, want) in [
            (&b"\0ls\n"[..], data(3, false, b"ls\n")),
            (b"\x04{}", data(7, false, b"{}")),
            (b"\xff\0", data(3, true, b"")),
            (b"\xff\x04", data(7, true, b"")),
            // Nobody listens: outputs, channels that are not there, nothing.
            (b"\x01x", Ok(None)),
            (b"\x09x", Ok(None)),
            (b"\xff\x01", Ok(None)),
            (b"\0", Ok(None)),
            (b"", Ok(None)),
            // Against the protocol.
            (b"\xff", Err(())),
            (b"\xff\0\0", Err(())),
            (b"\xff\x05", Err(())),
        ] {
            assert_eq!(frame_of(Bytes::from_static(message), &streams), want, "{message:?}");
        }
        let none = Streams(RequestedStreams::default().channels(PROTOCOL));
        assert_eq!(frame_of(Bytes::from_static(b"\0x"), &none), Ok(None));
    }

    #[test]
    fn a_status_is_told_as_upstream_tells_it() {
        let exit = r#"{"status":"Failure","reason":"NonZeroExitCode","message":"x","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        let exited = json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code: command terminated with exit code 3",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
        let failed = json!({"status": "Failure", "reason": "InternalError", "message": "no such file", "code": 500});
        let success = json!({"metadata": {}, "status": "Success"});
        let broken = "error stream protocol error: ";
        for (protocol, said, want) in [
            ("v4.channel.k8s.io", r#"{"metadata":{},"status":"Success"}"#, success.clone()),
            ("v4.channel.k8s.io", "", success.clone()),
            ("channel.k8s.io", "", success),
            (PROTOCOL, exit, exited),
            (PROTOCOL, &failed.to_string(), failed.clone()),
            ("v3.channel.k8s.io", "boom", internal("error executing remote command: boom")),
            (PROTOCOL, "boom", internal(&format!("{broken}not a Status: \"boom\""))),
            (PROTOCOL, "{}", internal(&format!("{broken}unknown error"))),
            (
                PROTOCOL,
                r#"{"status":"Failure","reason":"NonZeroExitCode"}"#,
                internal(&format!("{broken}details must be set")),
            ),
            (
                PROTOCOL,
                &exit.replace("\"3\"", "\"300\""),
                internal(&format!("{broken}invalid exit code value \"300\"")),
            ),
            (
                PROTOCOL,
                &exit.replace("\"ExitCode\"", "\"Other\""),
                internal(&format!("{broken}no ExitCode cause given")),
            ),
        ] {
            assert_eq!(outcome(protocol, End::Said(said.as_bytes().to_vec())), want, "{protocol} {said}");
        }
    }
}
