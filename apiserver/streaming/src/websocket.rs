//! WebSockets as a server (RFC 6455): the handshake over HTTP, then messages.

use component_base::serving;
use handlers::Response;
use handlers::response::respond;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// What a client may send in one message; upstream's bound too. Clients of their own will send 32 KiB.
const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// What is read and written at once. Messages of ours are flushed one by one.
const BUFFER_BYTES: usize = 16 * 1024;

pub type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// The last message: all is well. Clients take a close without a code as a failure.
pub fn close() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

/// Headers of the handshake that are between a client and us.
pub const HANDSHAKE: [HeaderName; 4] =
    [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_PROTOCOL, http::header::SEC_WEBSOCKET_EXTENSIONS];

/// Whether a client asks for a WebSocket.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"));
    upgrade && words(headers, &CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade"))
}

/// The subprotocols that a client offers, those that it likes best first.
pub fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    words(headers, &SEC_WEBSOCKET_PROTOCOL)
}

fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// A handshake that may be answered.
pub struct Handshake {
    answer: String,
    upgrade: OnUpgrade,
}

impl Handshake {
    /// Reads what the client sent.
    pub fn read(request: &mut Request<Incoming>) -> Result<Handshake, Refusal> {
        let headers = request.headers();
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| !key.is_empty());
        let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
        Err(match (request.method(), key, version) {
            (&Method::GET, Some(key), Some(b"13")) => {
                let answer = derive_accept_key(key.as_bytes());
                return Ok(Handshake { answer, upgrade: hyper::upgrade::on(request) });
            }
            (&Method::GET, None, _) => Refusal(StatusCode::BAD_REQUEST, "mismatch challenge/response"),
            (&Method::GET, ..) => Refusal(StatusCode::BAD_REQUEST, "missing or bad WebSocket Version"),
            _ => Refusal(StatusCode::METHOD_NOT_ALLOWED, "bad method"),
        })
    }

    /// The answer that makes a WebSocket of the connection, and what becomes one once it is sent.
    pub fn accept(self, protocol: Option<HeaderValue>) -> (Response, Opening) {
        let mut response = Response::new(serving::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Ok(answer) = HeaderValue::from_str(&self.answer) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, answer);
        }
        if let Some(protocol) = protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        (response, Opening(self.upgrade))
    }
}

/// Why there is no WebSocket.
#[derive(Debug)]
pub struct Refusal(StatusCode, &'static str);

impl Refusal {
    pub fn answer(self) -> Response {
        let mut answer = respond(self.0, "text/plain; charset=utf-8", serving::full(self.1));
        answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        answer
    }
}

/// A WebSocket whose handshake is being answered.
pub struct Opening(OnUpgrade);

impl Opening {
    /// None if the client went away before it was there.
    pub async fn open(self) -> Option<WebSocket> {
        let upgraded = self.0.await.inspect_err(|error| tracing::debug!(%error, "a WebSocket was not opened")).ok()?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(0);
        Some(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_is_asked_for_in_two_headers() {
        for (upgrade, connection, want) in [
            ("websocket", "Upgrade", true),
            ("WebSocket", "keep-alive, upgrade", true),
            ("websocket", "keep-alive", false),
            ("SPDY/3.1", "Upgrade", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
            assert_eq!(is_asked_for(&headers), want, "{upgrade} {connection}");
        }
    }

    #[test]
    fn protocols_stand_in_one_header_or_several() {
        let mut headers = HeaderMap::new();
        headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v5.channel.k8s.io, v4.channel.k8s.io"));
        headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("channel.k8s.io"));
        assert_eq!(
            protocols(&headers).collect::<Vec<_>>(),
            ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"]
        );
    }
}
