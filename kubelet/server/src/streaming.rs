//! exec, attach and port-forward: the runtime serves the stream at a URL of its own; the client's connection is joined to
//! it after the upgrade and bytes pass both ways, whatever protocol (SPDY, WebSocket) they are of.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use component_base::serving::{self, Body};
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pod_lifecycle::Lifecycle;
use pod_state::runtime::{self, Observed, State};
use pod_state::spec;
use proto::cri::{AttachRequest, ExecRequest};
use tokio::net::TcpStream;

use super::{Query, failure, segments};

/// How long the runtime's stream server may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a path names: namespace, pod, then perhaps its uid, then perhaps a container.
struct Target {
    observed: Observed,
    tty: bool,
    id: String,
}

/// Finds the pod of the path, and in it the running container (`with_container`).
async fn target(
    lifecycle: &Lifecycle,
    request: &Request<Incoming>,
    prefix: &str,
    with_container: bool,
) -> Result<Target, Response<Body>> {
    let parts = segments(request, prefix);
    let not_found = |message: String| failure(StatusCode::NOT_FOUND, message);
    let (namespace, name, uid, container) = match (parts.as_slice(), with_container) {
        ([namespace, name, container], true) => (namespace, name, None, container.as_str()),
        ([namespace, name, uid, container], true) => (namespace, name, Some(uid), container.as_str()),
        ([namespace, name], false) => (namespace, name, None, ""),
        ([namespace, name, uid], false) => (namespace, name, Some(uid), ""),
        _ => return Err(not_found("404 page not found\n".into())),
    };
    let pod = lifecycle.pods.by_name(namespace, name).filter(|pod| uid.is_none_or(|uid| spec::uid(pod) == uid));
    let Some(pod) = pod else { return Err(not_found(format!("pod {namespace}/{name} does not exist\n"))) };
    let observed = runtime::observe(&lifecycle.context.cri, spec::uid(&pod), &Observed::default())
        .await
        .map_err(|error| failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let mut target = Target { observed, tty: false, id: String::new() };
    if with_container {
        let running = target.observed.newest(container).filter(|instance| instance.state == State::Running);
        let Some(instance) = running else {
            return Err(not_found(format!("container not found (\"{container}\")")));
        };
        target.id = instance.id.clone();
        let ephemeral = spec::ephemeral_containers(&pod);
        let mut all = spec::spec(&pod).containers.iter().chain(spec::init_containers(&pod)).chain(&ephemeral);
        target.tty = all.find(|c| c.name == container).is_some_and(|c| c.tty == Some(true));
    }
    Ok(target)
}

/// Which streams are wanted; at least one has to be.
fn streams(query: &Query, tty: bool) -> Option<(bool, bool, bool)> {
    // A terminal has one output.
    let (input, output, error) = (query.flag("input"), query.flag("output"), query.flag("error") && !tty);
    (input || output || error).then_some((input, output, error))
}

const NO_STREAMS: &str = "you must specify at least 1 of stdin, stdout, stderr";

/// `/exec/{namespace}/{pod}[/{uid}]/{container}`.
pub async fn exec(lifecycle: Arc<Lifecycle>, request: Request<Incoming>) -> Response<Body> {
    let query = Query::of(&request);
    let tty = query.flag("tty");
    let Some((stdin, stdout, stderr)) = streams(&query, tty) else {
        return failure(StatusCode::BAD_REQUEST, NO_STREAMS);
    };
    let target = match target(&lifecycle, &request, "/exec/", true).await {
        Ok(target) => target,
        Err(response) => return response,
    };
    let exec = ExecRequest { container_id: target.id, cmd: query.all("command"), tty, stdin, stdout, stderr };
    tunnel(lifecycle.context.cri.exec(exec).await, request).await
}

/// `/attach/{namespace}/{pod}[/{uid}]/{container}`.
pub async fn attach(lifecycle: Arc<Lifecycle>, request: Request<Incoming>) -> Response<Body> {
    let query = Query::of(&request);
    let target = match target(&lifecycle, &request, "/attach/", true).await {
        Ok(target) => target,
        Err(response) => return response,
    };
    // Whether it is a terminal is the container's nature, not the client's wish.
    let Some((stdin, stdout, stderr)) = streams(&query, target.tty) else {
        return failure(StatusCode::BAD_REQUEST, NO_STREAMS);
    };
    let attach = AttachRequest { container_id: target.id, stdin, tty: target.tty, stdout, stderr };
    tunnel(lifecycle.context.cri.attach(attach).await, request).await
}

/// `/portForward/{namespace}/{pod}[/{uid}]`.
pub async fn port_forward(lifecycle: Arc<Lifecycle>, request: Request<Incoming>) -> Response<Body> {
    let query = Query::of(&request);
    let target = match target(&lifecycle, &request, "/portForward/", false).await {
        Ok(target) => target,
        Err(response) => return response,
    };
    let Some(sandbox) = target.observed.sandbox() else {
        return failure(StatusCode::NOT_FOUND, "the pod has no running sandbox\n");
    };
    // WebSocket clients name ports here ("port=80,81"), SPDY clients in the stream.
    let ports =
        query.all("port").iter().flat_map(|list| list.split(',')).filter_map(|port| port.parse().ok()).collect();
    tunnel(lifecycle.context.cri.port_forward(&sandbox.id, ports).await, request).await
}

/// `POST /run/{namespace}/{pod}[/{uid}]/{container}?cmd=…`: runs a command and answers with its output.
pub async fn run(lifecycle: Arc<Lifecycle>, request: Request<Incoming>) -> Response<Body> {
    let query = Query::of(&request);
    let command: Vec<String> = query.get("cmd").unwrap_or_default().split(' ').map(str::to_owned).collect();
    let target = match target(&lifecycle, &request, "/run/", true).await {
        Ok(target) => target,
        Err(response) => return response,
    };
    match lifecycle.context.cri.exec_sync(&target.id, &command, Duration::ZERO).await {
        Ok(answer) => serving::text(StatusCode::OK, [answer.stdout, answer.stderr].concat()),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Joins the client's connection to the stream at `url`.
async fn tunnel(url: cri_client::Result<String>, request: Request<Incoming>) -> Response<Body> {
    let url = match url {
        Ok(url) => url,
        Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, join(&url, request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            let message = format!("the container runtime's stream server at {url} failed: {error}");
            failure(StatusCode::BAD_GATEWAY, message)
        }
        Err(_) => failure(StatusCode::GATEWAY_TIMEOUT, "the container runtime's stream server does not answer"),
    }
}

async fn join(url: &str, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    let url: Uri = url.parse()?;
    let authority = url.authority().ok_or_else(|| anyhow::anyhow!("the URL names no host"))?.clone();
    anyhow::ensure!(url.scheme_str() == Some("http"), "only http is supported between kubelet and runtime");
    let stream = TcpStream::connect(authority.as_str()).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the connection, which ends with either side.
    tokio::spawn(connection.with_upgrades());

    let mut onward = Request::builder()
        .method(request.method())
        .uri(url.path_and_query().map_or("/", |path| path.as_str()))
        .body(Empty::<Bytes>::new())?;
    copy_headers(request.headers(), onward.headers_mut());
    onward.headers_mut().insert(header::HOST, authority.as_str().parse()?);
    let mut answer = sender.send_request(onward).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()));
    }
    let mut response = Response::new(serving::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    let upstream = hyper::upgrade::on(&mut answer);
    let client = hyper::upgrade::on(request);
    // Ends when either side closes; the runtime closes idle streams.
    tokio::spawn(async move {
        match tokio::try_join!(client, upstream) {
            Ok((client, upstream)) => {
                let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
            }
            Err(error) => tracing::debug!(%error, "A stream was not upgraded"),
        }
    });
    Ok(response)
}

/// Everything but the caller's credentials: the runtime has no use for them.
fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from.iter().filter(|(name, _)| **name != header::AUTHORIZATION) {
        to.append(name, value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_no_separate_error_stream() {
        let query = |text: &str| Query::of(&Request::get(format!("/?{text}")).body(()).expect("a request"));
        assert_eq!(streams(&query("input=1&output=1&error=1"), false), Some((true, true, true)));
        assert_eq!(streams(&query("input=1&output=1&error=1"), true), Some((true, true, false)));
        assert_eq!(streams(&query("stdin=1"), false), None);
    }

    #[test]
    fn credentials_are_not_passed_on() {
        let from: HeaderMap = [(header::AUTHORIZATION, "Bearer x"), (header::UPGRADE, "SPDY/3.1")]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
            .collect();
        let mut to = HeaderMap::new();
        copy_headers(&from, &mut to);
        assert_eq!(to.keys().collect::<Vec<_>>(), [header::UPGRADE]);
    }
}
