//! One HTTP/1.1 connection over TLS, used for one request after the other. Cheap, so that the server is what is measured.

use anyhow::{Context, bail};
use bytes::Bytes;
use component_base::any_server::any_server_client;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where the server is and who asks.
#[derive(Clone)]
pub struct Target {
    /// `host:port`
    pub address: String,
    pub authorization: String,
    tls: Arc<ClientConfig>,
}

impl Target {
    pub fn new(address: &str, token: &str) -> anyhow::Result<Target> {
        Ok(Target {
            address: address.into(),
            authorization: format!("Bearer {token}"),
            tls: Arc::new(any_server_client()?),
        })
    }

    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let stream =
            TcpStream::connect(&self.address).await.with_context(|| format!("connecting to {}", self.address))?;
        stream.set_nodelay(true)?;
        let host = self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.context("TLS handshake")?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection); // ends when the sender is dropped
        Ok(Connection { sender, target: self.clone() })
    }
}

pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    target: Target,
}

impl Connection {
    /// Sends a request and returns its answer, the body still to come.
    pub async fn open(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> anyhow::Result<http::Response<Incoming>> {
        self.open_as(method, path, kind, "application/json", body).await
    }

    /// The same, for an answer in the form `accept`.
    pub async fn open_as(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        accept: &str,
        body: Bytes,
    ) -> anyhow::Result<http::Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.target.address)
            .header("authorization", &self.target.authorization)
            .header("content-type", kind)
            .header("accept", accept)
            .header("user-agent", "load/1")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Sends a request, reads the answer and returns how many bytes it had.
    ///
    /// # Errors
    /// When the answer is not a success.
    pub async fn send(&mut self, method: Method, path: &str, kind: &str, body: Bytes) -> anyhow::Result<usize> {
        let answer = self.open(method, path, kind, body).await?;
        let code = answer.status();
        let mut body = answer.into_body();
        let mut bytes = 0;
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                bytes += data.len();
                if !code.is_success() {
                    text.extend_from_slice(data);
                }
            }
        }
        if !code.is_success() {
            bail!("{path}: {code}: {}", String::from_utf8_lossy(&text));
        }
        Ok(bytes)
    }

    pub async fn get(&mut self, path: &str) -> anyhow::Result<usize> {
        self.send(Method::GET, path, "application/json", Bytes::new()).await
    }

    /// Creates an object; one that is there already counts as created.
    pub async fn create(&mut self, path: &str, body: Bytes) -> anyhow::Result<()> {
        let answer = self.open(Method::POST, path, "application/json", body).await?;
        let code = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        if !code.is_success() && code != StatusCode::CONFLICT {
            bail!("creating in {path}: {code}: {}", String::from_utf8_lossy(&text));
        }
        Ok(())
    }
}
