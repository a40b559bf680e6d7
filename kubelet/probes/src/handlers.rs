//! One try of a probe or hook: exec, HTTP, TCP, gRPC.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cri_client::Cri;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proto::health::health_check_response::ServingStatus;
use proto::health::{HealthCheckRequest, health_client::HealthClient};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Bytes of a body or output that are looked at, and shown.
const OUTPUT_BYTES_MAX: usize = 10 << 10;

/// What a try says about the container.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The container is as it should be.
    Success,
    /// It is not; why.
    Failure(String),
    /// The try could not be made; why. It says nothing about the container.
    Unknown(String),
}

/// Whom to ask.
pub struct Target<'a> {
    /// Runs commands.
    pub cri: &'a Cri,
    /// Its spec, for names of ports.
    pub container: &'a Container,
    /// The instance, by its id in the runtime.
    pub container_id: &'a str,
    /// The pod's address.
    pub host: &'a str,
}

/// Makes one try of `probe`.
pub async fn probe(target: &Target<'_>, probe: &Probe, timeout: Duration) -> Outcome {
    if let Some(exec) = &probe.exec {
        return self::exec(target, exec.command.as_deref().unwrap_or_default(), timeout).await;
    }
    let attempt = async {
        if let Some(action) = &probe.http_get {
            return http_get(target, action).await;
        }
        if let Some(action) = &probe.tcp_socket {
            let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(target.host);
            return match port(target.container, &action.port) {
                Some(port) => tcp(host, port).await,
                None => Outcome::Unknown(no_port(&action.port)),
            };
        }
        match &probe.grpc {
            Some(action) => match u16::try_from(action.port) {
                Ok(port) => grpc(target.host, port, action.service.as_deref().unwrap_or_default()).await,
                Err(_) => Outcome::Unknown(format!("{} is no port", action.port)),
            },
            None => Outcome::Unknown("the probe names no handler".into()),
        }
    };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(format!("no answer within {timeout:?} (timeoutSeconds)")),
    }
}

/// Runs a command in the container.
pub async fn exec(target: &Target<'_>, command: &[String], timeout: Duration) -> Outcome {
    match target.cri.exec_sync(target.container_id, command, timeout).await {
        Ok(answer) if answer.exit_code == 0 => Outcome::Success,
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend_from_slice(&answer.stderr);
            output.truncate(OUTPUT_BYTES_MAX);
            Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(error) if error.is_timeout() => {
            Outcome::Failure(format!("command timed out: {command:?} timed out after {timeout:?}"))
        }
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

/// A port by number, or by its name among the container's ports.
pub fn port(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            named.and_then(|port| u16::try_from(port.container_port).ok()).or_else(|| name.parse().ok())
        }
    }
    .filter(|port| *port > 0)
}

fn no_port(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => format!("{number} is no port"),
        IntOrString::String(name) => format!("the container has no port named {name:?}"),
    }
}

async fn tcp(host: &str, port: u16) -> Outcome {
    match TcpStream::connect((host, port)).await {
        Ok(_) => Outcome::Success,
        Err(error) => Outcome::Failure(format!("dial tcp {host}:{port}: {error}")),
    }
}

async fn grpc(host: &str, port: u16, service: &str) -> Outcome {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{host}:{port}"));
    let connected = match endpoint {
        Ok(endpoint) => endpoint.connect().await,
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    let mut client = match connected {
        Ok(channel) => HealthClient::new(channel),
        Err(error) => {
            return Outcome::Failure(format!("timeout: failed to connect service \"{host}:{port}\": {error}"));
        }
    };
    match client.check(HealthCheckRequest { service: service.to_owned() }).await {
        Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Outcome::Success,
        Ok(answer) => Outcome::Failure(format!(
            "service unhealthy (responded with {:?})",
            answer.get_ref().status().as_str_name()
        )),
        Err(status) => Outcome::Failure(format!("health rpc failed: {}", status.message())),
    }
}

/// A GET of the container; 200 to 399 is success. Certificates are not verified: the kubelet asks an address, and
/// probes have never promised more.
pub async fn http_get(target: &Target<'_>, action: &HTTPGetAction) -> Outcome {
    let Some(port) = port(target.container, &action.port) else { return Outcome::Unknown(no_port(&action.port)) };
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(target.host);
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let https = action.scheme.as_deref() == Some("HTTPS");
    let url = format!("{}://{authority}{path}", if https { "https" } else { "http" });

    let mut request = match Request::get(&path).body(Empty::<Bytes>::new()) {
        Ok(request) => request,
        Err(error) => return Outcome::Unknown(format!("{url:?} is no URL: {error}")),
    };
    let headers = request.headers_mut();
    for (name, value) in
        [("host", authority.as_str()), ("user-agent", "kube-probe/1.35"), ("accept", "*/*"), ("connection", "close")]
    {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    for header in action.http_headers.iter().flatten() {
        let pair = (HeaderName::from_bytes(header.name.as_bytes()), HeaderValue::from_str(&header.value));
        match pair {
            (Ok(name), Ok(value)) if value.is_empty() => drop(headers.remove(name)),
            (Ok(name), Ok(value)) => drop(headers.insert(name, value)),
            _ => return Outcome::Unknown(format!("header {:?} is not valid", header.name)),
        }
    }
    let stream = match TcpStream::connect((host, port)).await {
        Ok(stream) => stream,
        Err(error) => return Outcome::Failure(format!("Get \"{url}\": dial tcp {authority}: {error}")),
    };
    let answer = if https {
        match over_tls(host, stream).await {
            Ok(stream) => send(stream, request).await,
            Err(error) => Err(error),
        }
    } else {
        send(stream, request).await
    };
    match answer {
        Ok((200..=399, _)) => Outcome::Success,
        Ok((status, _)) => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        Err(error) => Outcome::Failure(format!("Get \"{url}\": {error}")),
    }
}

/// Sends one request on a connection of its own; returns status and the first bytes of the body.
async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(u16, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), OUTPUT_BYTES_MAX).collect().await;
        // A body beyond the bound says nothing against the status.
        Ok((status, body.map(http_body_util::Collected::to_bytes).unwrap_or_default()))
    };
    tokio::pin!(exchange);
    tokio::pin!(connection);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut exchange => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}

/// Whose certificate it is does not matter: probes are about answers.
async fn over_tls(host: &str, stream: TcpStream) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let config = component_base::any_server::any_server_client().map_err(|error| error.to_string())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_or_names_of_the_container() {
        let container: Container =
            serde_json::from_value(serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
                .expect("a container");
        for (wanted, found) in [
            (IntOrString::Int(80), Some(80)),
            (IntOrString::String("web".into()), Some(8080)),
            (IntOrString::String("81".into()), Some(81)),
            (IntOrString::String("db".into()), None),
            (IntOrString::Int(0), None),
            (IntOrString::Int(70_000), None),
        ] {
            assert_eq!(port(&container, &wanted), found, "{wanted:?}");
        }
    }
}
