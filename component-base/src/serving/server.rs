//! The accept loop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{connection, keepalive, router::Handler};
use crate::tls::PeerCertificates;

/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a server allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's backlog.
    pub connections_max: usize,
    /// How long requests that run when the server is told to stop may take to end.
    pub drain: Duration,
    /// For the head of a request, and for the first request of a connection. (Upstream's `ReadHeaderTimeout`.)
    pub head: Duration,
    /// How long a connection may have no request running. (Upstream's `IdleTimeout`.)
    pub idle: Duration,
    /// How long a client may take nothing of what is being sent to it.
    pub stall: Duration,
}

impl Default for Limits {
    /// For a server that a few components and a monitoring system talk to.
    fn default() -> Self {
        Limits {
            connections_max: 1024,
            drain: Duration::from_secs(5),
            head: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            stall: Duration::from_secs(120),
        }
    }
}

/// The address a request came from, in its extensions.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddr(pub SocketAddr);

/// A listening socket that may be bound again at once after a restart. An IPv6 wildcard takes IPv4 too.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.set_reuseaddr(true)?;
    let explain =
        |error: std::io::Error| std::io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    socket.bind(address).map_err(explain)?;
    socket.listen(1024).map_err(explain)
}

/// Serves plain HTTP/1.1 and HTTP/2 until `shutdown`, then lets running requests end.
pub async fn serve_http(listener: TcpListener, handler: Handler, shutdown: CancellationToken) {
    serve(listener, None, handler, Limits::default(), shutdown).await;
}

/// Serves HTTPS until `shutdown`, then lets running requests end.
pub async fn serve_https(listener: TcpListener, tls: Arc<ServerConfig>, handler: Handler, shutdown: CancellationToken) {
    serve_https_within(Limits::default(), listener, tls, handler, shutdown).await;
}

/// [`serve_https`] with limits of one's own.
pub async fn serve_https_within(
    limits: Limits,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    handler: Handler,
    shutdown: CancellationToken,
) {
    serve(listener, Some(TlsAcceptor::from(tls)), handler, limits, shutdown).await;
}

async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handler: Handler,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let connections = tokio_util::task::TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, peer, permit) = accepted;
        let (tls, handler, closing) = (tls.clone(), handler.clone(), shutdown.clone());
        connections.spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            keepalive::set(&stream);
            match tls {
                None => connection::serve(stream, peer, None, handler, limits, closing).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let certs = stream.get_ref().1.peer_certificates();
                        let certs = certs.map(|certs| PeerCertificates(certs.iter().cloned().collect()));
                        connection::serve(stream, peer, certs, handler, limits, closing).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake error"),
                    Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
                },
            }
        });
    }
    drop(listener);
    connections.close();
    let _ = tokio::time::timeout(limits.drain, connections.wait()).await;
}

/// The next connection. Errors of one connection, or of having too many files open, must not end the server.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<tokio::sync::OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let permit = permits.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, permit),
            Err(error) => {
                tracing::warn!(%error, "Cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
