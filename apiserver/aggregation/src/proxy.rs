//! Passing a request on to the server of its group. Bodies stream both ways; upgrades are tunnelled.

use super::Aggregator;
use super::table::Remote;
use component_base::serving::{PeerAddr, full};
use handlers::Response;
use handlers::response::respond;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use request::User;
use request::status::{Result, Status};
use std::sync::Arc;
use std::time::Duration;
use streaming::{Target, forward};

/// Headers between two neighbours on the way (RFC 9110 §7.6.1), and what was for us alone.
const NOT_PASSED: [HeaderName; 7] = [AUTHORIZATION, CONNECTION, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

fn unavailable(why: &str) -> Response {
    respond(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", full(format!("{why}\n")))
}

/// Answers with what the other server answers.
pub async fn pass_on(
    aggregator: &Aggregator,
    remote: &Remote,
    user: &User,
    request: Request<Incoming>,
) -> Result<Response> {
    if !remote.available {
        return Ok(unavailable("service unavailable"));
    }
    let callout = &aggregator.api.callout;
    let (host, port) = match callout.address(&remote.destination) {
        Ok(address) => address,
        Err(e) => {
            tracing::warn!(api_service = remote.name, error = %e, "cannot resolve an aggregated API server");
            return Ok(unavailable("service unavailable"));
        }
    };
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let upgrades = parts.headers.contains_key(UPGRADE);
    if let Some(PeerAddr(peer)) = parts.extensions.get::<PeerAddr>() {
        forwarded_for(&mut parts.headers, &peer.ip().to_string());
    }
    identify(&mut parts.headers, user);
    if upgrades {
        let tls = callout.tls(&remote.destination, true).map_err(|e| Status::internal(e.to_string()))?;
        let target = Target {
            host,
            port,
            tls: Some(Arc::new(tls)),
            server_name: Some(remote.destination.server_name.clone()),
            path,
            timeout: CONNECT_TIMEOUT,
        };
        return Ok(match forward(target, Request::from_parts(parts, body)).await {
            Ok(response) => response,
            Err(status) => unavailable(&status.message),
        });
    }
    for name in NOT_PASSED {
        parts.headers.remove(name);
    }
    let uri = format!("https://{}{path}", remote.destination.authority);
    let mut passed = Request::new(body.map_err(Into::into).boxed_unsync());
    *passed.method_mut() = parts.method;
    *passed.uri_mut() = uri.parse().map_err(|_| Status::bad_request(format!("invalid path {path:?}")))?;
    *passed.headers_mut() = parts.headers;
    match callout.send(&remote.destination, true, passed).await {
        Err(e) => Ok(unavailable(&format!("error trying to reach service: {e}"))),
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
                parts.headers.remove(name);
            }
            parts.version = http::Version::HTTP_11; // whatever is between us and the client
            Ok(Response::from_parts(parts, body.map_err(Into::into).boxed_unsync()))
        }
    }
}

/// Tells who the user is in headers that only a front proxy with its certificate may send; what the client sent of these goes.
pub fn identify(headers: &mut HeaderMap, user: &User) {
    let ours = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-remote-") || name.starts_with("impersonate-")
    };
    let given: Vec<HeaderName> = headers.keys().filter(|name| ours(name)).cloned().collect();
    given.into_iter().for_each(|name| drop(headers.remove(name)));
    let mut put = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    put("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        put("x-remote-uid", &user.uid);
    }
    user.groups.iter().for_each(|group| put("x-remote-group", group));
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escape(key));
        values.iter().for_each(|value| put(&name, value));
    }
}

/// A key as part of a header's name: what may not stand there is percent-encoded, and the percent sign itself.
fn escape(key: &str) -> String {
    let mut escaped = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => escaped.push(byte.into()),
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                escaped.push(byte.into())
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

fn forwarded_for(headers: &mut HeaderMap, peer: &str) {
    let name = HeaderName::from_static("x-forwarded-for");
    let before = headers.get(&name).and_then(|v| v.to_str().ok());
    let all = before.map_or_else(|| peer.to_owned(), |before| format!("{before}, {peer}"));
    if let Ok(value) = HeaderValue::from_str(&all) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_told_and_nobody_else() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-remote-user", "evil"), ("x-remote-extra-a", "evil"), ("impersonate-user", "evil"), ("accept", "x")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let user = User {
            name: "bob".into(),
            groups: vec!["a".into(), "b".into()],
            extra: [("example.com/k y".to_owned(), vec!["v".to_owned()])].into(),
            ..User::default()
        };
        identify(&mut headers, &user);
        let told: Vec<(String, String)> =
            headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
        for (name, value) in [
            ("x-remote-user", "bob"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("accept", "x"),
            ("x-remote-extra-example.com%2fk%20y", "v"),
        ] {
            assert!(told.contains(&(name.into(), value.into())), "{name} {told:?}");
        }
        assert_eq!(told.len(), 5);
    }
}
