//! Connections that can be closed all at once. A server knows a client by the certificate of the handshake: a connection
//! that outlives it would go on under the old identity.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::{BoxError, Service};

/// The open connections of a client; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Mutex<CancellationToken>>);

impl Connections {
    /// Closes every connection there is, and those that are being made. Requests on them fail; the next ones make new
    /// connections.
    pub fn close_all(&self) {
        let closed = std::mem::take(&mut *self.0.lock());
        closed.cancel();
    }
}

/// Makes TCP connections that belong to [`Connections`].
#[derive(Clone, Debug)]
pub(super) struct ClosableConnector {
    tcp: HttpConnector,
    connections: Connections,
}

impl ClosableConnector {
    pub(super) fn new(tcp: HttpConnector, connections: Connections) -> Self {
        Self { tcp, connections }
    }
}

impl Service<Uri> for ClosableConnector {
    type Response = Closable;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Closable, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // Taken before anything of the connection is made: a handshake with the old certificate may be under way when
        // all are closed.
        let closed = Box::pin(self.connections.0.lock().clone().cancelled_owned());
        let connecting = self.tcp.call(uri);
        Box::pin(async move { Ok(Closable { stream: connecting.await?, closed }) })
    }
}

/// A TCP connection that fails once its [`Connections`] were closed.
pub(super) struct Closable {
    stream: TokioIo<TcpStream>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Closable {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.closed.as_mut().poll(context) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed, because the client certificate changed"))
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl Read for Closable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Closable {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}

impl Connection for Closable {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncReadExt, net::TcpListener};

    #[tokio::test]
    async fn what_is_open_is_closed_and_what_comes_later_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let connections = Connections::default();
        let mut connector = ClosableConnector::new(HttpConnector::new(), connections.clone());
        let (first, accepted) = tokio::join!(connector.call(uri.clone()), listener.accept());
        let mut first = first.unwrap();
        let (mut peer, _) = accepted.unwrap();
        connections.close_all();
        let failed = std::future::poll_fn(|context| Pin::new(&mut first).poll_write(context, b"x")).await;
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        drop(first);
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);

        let (second, accepted) = tokio::join!(connector.call(uri), listener.accept());
        let (mut second, (mut peer, _)) = (second.unwrap(), accepted.unwrap());
        std::future::poll_fn(|context| Pin::new(&mut second).poll_write(context, b"x")).await.unwrap();
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 1);
    }
}
