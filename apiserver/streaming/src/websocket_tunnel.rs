//! Port-forward for clients that speak WebSocket, at kubelets that speak SPDY (KEP-4006): the client puts the bytes of its SPDY
//! connection into binary messages; what they say is between it and the kubelet.

use super::metrics;
use super::spdy_request::{PROTOCOL_VERSION, SPDY, is_accepted};
use super::tunnel::{Target, answer_of, prepare, send};
use super::websocket::{self, Handshake, WebSocket};
use bytes::BytesMut;
use component_base::serving;
use futures::{SinkExt, StreamExt};
use handlers::Response;
use handlers::response::respond;
use http::header::UPGRADE;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use request::status::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

/// Before the name of the SPDY protocol that is tunnelled.
const PREFIX: &str = "SPDY/3.1+";
const SUFFIX: &str = ".k8s.io";
/// Bytes of one message to the client.
const PIECE_BYTES: usize = 32 * 1024;

/// Whether a client wants such a tunnel.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    websocket::is_asked_for(headers) && websocket::protocols(headers).any(|protocol| protocol.starts_with(PREFIX))
}

/// The SPDY protocols that a client offers to tunnel.
fn tunnelled(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    websocket::protocols(headers).filter_map(|protocol| protocol.strip_prefix(PREFIX)).filter(|p| p.ends_with(SUFFIX))
}

/// Connects the client with the target. Whatever the target answers but an upgrade is the client's answer.
pub async fn tunnel(target: Target, mut request: Request<Incoming>) -> Result<Response> {
    let offered: Vec<String> = tunnelled(request.headers()).map(str::to_owned).collect();
    if offered.is_empty() {
        let why = "unable to upgrade: no tunneling spdy protocols provided\n";
        return Ok(count(respond(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", serving::full(why))));
    }
    let handshake = match Handshake::read(&mut request) {
        Ok(handshake) => handshake,
        Err(refusal) => return Ok(count(refusal.answer())),
    };
    let (mut parts, body) = request.into_parts();
    parts.method = Method::POST;
    prepare(&mut parts.headers);
    for name in websocket::HANDSHAKE.into_iter().chain([PROTOCOL_VERSION]) {
        parts.headers.remove(name);
    }
    parts.headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    for protocol in offered.iter().filter_map(|protocol| HeaderValue::from_str(protocol).ok()) {
        parts.headers.append(PROTOCOL_VERSION, protocol);
    }
    let mut answer = send(&target, Request::from_parts(parts, body)).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(count(answer_of(answer)));
    }
    if !is_accepted(answer.status(), answer.headers()) {
        let why = "unable to upgrade: missing upgrade headers in response\n";
        return Ok(count(respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", serving::full(why))));
    }
    let chosen = answer.headers().get(PROTOCOL_VERSION).and_then(|v| v.to_str().ok()).map(str::trim);
    let chosen = chosen.filter(|chosen| offered.iter().any(|o| o == chosen)).map(|chosen| format!("{PREFIX}{chosen}"));
    let (response, opening) = handshake.accept(chosen.and_then(|chosen| HeaderValue::from_str(&chosen).ok()));
    let kubelet = hyper::upgrade::on(&mut answer);
    // Ends with either side.
    tokio::spawn(async move {
        let (Some(client), Ok(kubelet)) = tokio::join!(opening.open(), kubelet) else { return };
        join(client, TokioIo::new(kubelet)).await;
    });
    Ok(count(response))
}

fn count(response: Response) -> Response {
    metrics::STREAM_TUNNEL_REQUESTS.with_label_values(&[response.status().as_str()]).inc();
    response
}

/// Passes bytes both ways until either side ends.
async fn join(client: WebSocket, kubelet: TokioIo<Upgraded>) {
    let (mut to_client, mut from_client) = client.split();
    let (mut from_kubelet, mut to_kubelet) = tokio::io::split(kubelet);
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            let Message::Binary(bytes) = message else { continue };
            to_kubelet.write_all(&bytes).await?;
            to_kubelet.flush().await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let down = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE_BYTES);
            if !matches!(from_kubelet.read_buf(&mut buffer).await, Ok(1..)) {
                break;
            }
            if to_client.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                return;
            }
        }
        let _ = to_client.send(websocket::close()).await; // it is gone, or will be
    };
    tokio::select! {
        result = up => if let Err(error) = result {
            tracing::debug!(%error, "a tunnel ended");
        },
        () = down => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL};

    #[test]
    fn tunnels_are_told_by_their_protocols() {
        for (protocols, asked, offered) in [
            ("SPDY/3.1+portforward.k8s.io", true, &["portforward.k8s.io"][..]),
            ("v4.channel.k8s.io, SPDY/3.1+portforward.k8s.io", true, &["portforward.k8s.io"]),
            ("SPDY/3.1+other", true, &[]),
            ("v4.channel.k8s.io", false, &[]),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocols));
            assert_eq!(is_asked_for(&headers), asked, "{protocols}");
            assert_eq!(tunnelled(&headers).collect::<Vec<_>>(), offered, "{protocols}");
        }
    }
}
