//! Clients that take nothing of what they asked for.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// A stream whose writes fail once the peer has taken nothing for a while.
pub struct Stall<S> {
    stream: S,
    limit: Duration,
    /// Runs while a write is waiting.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Set when the stream is not HTTP any more: a person may hold up a terminal for as long as they like.
    upgraded: Arc<AtomicBool>,
}

impl<S> Stall<S> {
    pub fn new(stream: S, limit: Duration, upgraded: Arc<AtomicBool>) -> Self {
        Stall { stream, limit, waiting: None, upgraded }
    }

    /// What a write came to, or that its time is up.
    fn check<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() || self.upgraded.load(Ordering::Relaxed) {
            self.waiting = None;
            return result;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of the answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stall<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stall<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.check(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.check(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.check(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.check(cx, result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_cut_off_and_who_takes_little_is_not() {
        let limit = Duration::from_secs(10);
        let (server, mut client) = tokio::io::duplex(16);
        let mut server = Stall::new(server, limit, Arc::default());
        let slow = tokio::spawn(async move {
            let mut buffer = [0; 8];
            for _ in 0..20 {
                tokio::time::sleep(limit / 2).await;
                client.read_exact(&mut buffer).await.unwrap();
            }
            client
        });
        server.write_all(&[1; 160]).await.unwrap();
        let _client = slow.await.unwrap();
        let error = server.write_all(&[1; 160]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_may_be_held_up() {
        let (server, _client) = tokio::io::duplex(16);
        let mut server = Stall::new(server, Duration::from_secs(10), Arc::new(true.into()));
        let writing = server.write_all(&[1; 160]);
        assert!(tokio::time::timeout(Duration::from_secs(3600), writing).await.is_err());
    }
}
