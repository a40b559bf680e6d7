//! The accept loop.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::router::Handler;
use crate::tls::PeerCertificates;

/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the head of a request, and between two requests on a connection of HTTP/1.1.
const HEAD_TIMEOUT: Duration = Duration::from_secs(32);

/// What a server allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's backlog.
    pub connections_max: usize,
    /// How long requests that run when the server is told to stop may take to end.
    pub drain: Duration,
}

impl Default for Limits {
    /// For a server that a few components and a monitoring system talk to.
    fn default() -> Self {
        Limits { connections_max: 1024, drain: Duration::from_secs(5) }
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
    let graceful = GracefulShutdown::new();
    let connections = tokio_util::task::TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, peer, permit) = accepted;
        let (tls, handler, watcher) = (tls.clone(), handler.clone(), graceful.watcher());
        connections.spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            match tls {
                None => serve_connection(stream, peer, None, handler, watcher).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let certs = stream.get_ref().1.peer_certificates();
                        let certs = certs.map(|certs| PeerCertificates(certs.iter().cloned().collect()));
                        serve_connection(stream, peer, certs, handler, watcher).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake error"),
                    Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
                },
            }
        });
    }
    drop(listener);
    connections.close();
    let drained = async { tokio::join!(graceful.shutdown(), connections.wait()) };
    let _ = tokio::time::timeout(limits.drain, drained).await;
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

async fn serve_connection<S>(
    stream: S,
    peer: SocketAddr,
    certs: Option<PeerCertificates>,
    handler: Handler,
    watcher: hyper_util::server::graceful::Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        let extensions = request.extensions_mut();
        extensions.insert(PeerAddr(peer));
        if let Some(certs) = &certs {
            extensions.insert(certs.clone());
        }
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%peer, %error, "Connection error");
    }
}
