//! One connection's life: requests, as many as its client likes, until it is idle for too long, stalls or is told to go.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::body::{Body, BoxError};
use super::router::Handler;
use super::server::{Limits, PeerAddr};
use super::stall::Stall;
use crate::tls::PeerCertificates;

/// Streams at once on a connection of HTTP/2: a controller manager holds some seventy watches on one.
const STREAMS_MAX: u32 = 250;
/// Bytes kept per stream of HTTP/2 for a client that does not take them.
const SEND_BUFFER: usize = 128 * 1024;
/// Bytes of all headers of a request. (Go's default, and upstream's.)
const HEADERS_MAX: u32 = 1 << 20;
/// For a connection that was told to go, to end by itself.
const GOODBYE: Duration = Duration::from_secs(10);

/// Requests that run on a connection, and since when there are none.
#[derive(Clone)]
struct Activity(Arc<Mutex<(usize, Instant)>>);

impl Activity {
    fn new() -> Self {
        Activity(Arc::new(Mutex::new((0, Instant::now()))))
    }

    /// None while requests run.
    fn idle_since(&self) -> Option<Instant> {
        let (running, since) = *self.0.lock();
        (running == 0).then_some(since)
    }

    fn begin(&self) -> Running {
        self.0.lock().0 += 1;
        Running(self.clone())
    }
}

/// A request that runs, to the last byte of its answer.
struct Running(Activity);

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        *state = (state.0 - 1, Instant::now());
    }
}

/// The body of an answer, and that it is being sent.
struct Answer {
    body: Body,
    _running: Running,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves requests until the client goes or has to go.
pub async fn serve<S>(
    stream: S,
    peer: SocketAddr,
    certs: Option<PeerCertificates>,
    handler: Handler,
    limits: Limits,
    closing: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let upgraded = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let (activity, upgraded) = (activity.clone(), upgraded.clone());
        move |mut request: Request<Incoming>| {
            let running = activity.begin();
            let upgraded = upgraded.clone();
            let extensions = request.extensions_mut();
            extensions.insert(PeerAddr(peer));
            if let Some(certs) = &certs {
                extensions.insert(certs.clone());
            }
            let answer = handler(request);
            async move {
                let answer = answer.await;
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    upgraded.store(true, Ordering::Relaxed);
                }
                Ok::<_, Infallible>(answer.map(|body| Answer { body, _running: running }))
            }
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADERS_MAX)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    let stream = TokioIo::new(Stall::new(stream, limits.stall, upgraded));
    let mut connection = pin!(builder.serve_connection_with_upgrades(stream, service));
    // The first request is due soon: who connects and says nothing holds a place for nothing.
    let mut look = Instant::now() + limits.head;
    let (mut served, mut leaving) = (false, false);
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%peer, %error, "Connection error");
                }
                return;
            }
            () = closing.cancelled(), if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
                look = Instant::now() + GOODBYE;
            }
            () = tokio::time::sleep_until(look) => {
                let now = Instant::now();
                let Some(since) = activity.idle_since() else {
                    served = true;
                    look = now + limits.idle.min(if leaving { GOODBYE } else { limits.idle });
                    continue;
                };
                if leaving {
                    return;
                }
                // Requests came and went since the last look if the connection is idle since later than that.
                served |= now.duration_since(since) < limits.head;
                let due = since + if served { limits.idle } else { limits.head };
                if due <= now {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                    look = now + GOODBYE;
                } else {
                    look = due;
                }
            }
        }
    }
}
