//! Logs over a WebSocket: each piece of the log a message, as bytes or in base64. What the client sends is read and dropped.

use super::tunnel::{Target, answer_of, send};
use super::websocket::{self, HANDSHAKE, Handshake, WebSocket};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::{SinkExt, StreamExt};
use handlers::Response;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyStream;
use hyper::body::Incoming;
use request::status::Result;
use tokio_tungstenite::tungstenite::Message;

/// How the pieces of a log are sent, by the subprotocol that the client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    Binary,
    Base64,
}

/// The first subprotocol that we know of those on offer. A client that offers none gets bytes.
fn chosen(headers: &http::HeaderMap) -> Option<(Pieces, Option<&'static str>)> {
    let mut offered = websocket::protocols(headers).peekable();
    if offered.peek().is_none() {
        return Some((Pieces::Binary, None));
    }
    offered.find_map(|protocol| match protocol {
        "binary.k8s.io" => Some((Pieces::Binary, Some("binary.k8s.io"))),
        "base64.binary.k8s.io" => Some((Pieces::Base64, Some("base64.binary.k8s.io"))),
        _ => None,
    })
}

/// Asks the kubelet for the log and, if it has one, answers the handshake and sends it. A refusal goes to the client as it is.
pub async fn stream(target: Target, mut request: Request<Incoming>) -> Result<Response> {
    let handshake = match Handshake::read(&mut request) {
        Ok(handshake) => handshake,
        Err(refusal) => return Ok(refusal.answer()),
    };
    let Some((pieces, protocol)) = chosen(request.headers()) else {
        return Ok(handlers::response::respond(
            StatusCode::FORBIDDEN,
            "text/plain; charset=utf-8",
            component_base::serving::full("none of the requested subprotocols is supported"),
        ));
    };
    let mut asked = Request::new(http_body_util::Empty::<bytes::Bytes>::new());
    *asked.headers_mut() = request.headers().clone();
    super::tunnel::prepare(asked.headers_mut());
    for name in HANDSHAKE.iter().chain([&CONNECTION, &UPGRADE]) {
        asked.headers_mut().remove(name);
    }
    let answer = send(&target, asked).await?;
    if answer.status() != StatusCode::OK {
        return Ok(answer_of(answer));
    }
    let (response, opening) = handshake.accept(protocol.map(HeaderValue::from_static));
    tokio::spawn(async move {
        if let Some(client) = opening.open().await {
            copy(BodyStream::new(answer.into_body()), client, pieces).await;
        }
    });
    Ok(response)
}

async fn copy(mut log: BodyStream<Incoming>, client: WebSocket, pieces: Pieces) {
    let (mut to_client, mut from_client) = client.split();
    let sending = async {
        while let Some(Ok(frame)) = log.next().await {
            let Ok(data) = frame.into_data() else { continue };
            let message = match pieces {
                Pieces::Binary => Message::Binary(data),
                Pieces::Base64 => Message::Text(BASE64.encode(&data).into()),
            };
            to_client.send(message).await?;
        }
        to_client.send(websocket::close()).await
    };
    // The client says nothing but that it has enough.
    let leaving = async { while let Some(Ok(_)) = from_client.next().await {} };
    tokio::select! {
        result = sending => {
            if let Err(error) = result {
                tracing::debug!(%error, "a log was not sent to its end");
            }
        }
        () = leaving => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::SEC_WEBSOCKET_PROTOCOL;

    #[test]
    fn the_clients_first_known_protocol_is_taken() {
        for (offered, want) in [
            (None, Some((Pieces::Binary, None))),
            (Some("binary.k8s.io"), Some((Pieces::Binary, Some("binary.k8s.io")))),
            (Some("other, base64.binary.k8s.io, binary.k8s.io"), Some((Pieces::Base64, Some("base64.binary.k8s.io")))),
            (Some("v5.channel.k8s.io"), None),
        ] {
            let mut headers = http::HeaderMap::new();
            if let Some(offered) = offered {
                headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offered));
            }
            assert_eq!(chosen(&headers), want, "{offered:?}");
        }
    }
}
