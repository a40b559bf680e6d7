//! Frames on a connection.

use crate::{DATA_BYTES_MAX, Decoder, Encoder, Error, Frame, Result};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads frames. Holds what one read brings and at most one control frame.
pub struct Reader<R> {
    from: R,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub fn new(from: R) -> Reader<R> {
        Reader { from, decoder: Decoder::default() }
    }

    /// The next frame; None at the end of the connection. Nothing is lost if the call is given up.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.decode()? {
                return Ok(Some(frame));
            }
            self.decoder.buffer.reserve(DATA_BYTES_MAX);
            if self.from.read_buf(&mut self.decoder.buffer).await? == 0 {
                return if self.decoder.is_between_frames() { Ok(None) } else { Err(Error::Cut) };
            }
        }
    }
}

/// Writes frames.
pub struct Writer<W> {
    to: W,
    encoder: Encoder,
    buffer: BytesMut,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub fn new(to: W) -> Writer<W> {
        Writer { to, encoder: Encoder::default(), buffer: BytesMut::new() }
    }

    /// Returns when the connection has taken the frame. A call that is given up may leave half a frame behind: the connection is
    /// of no use then.
    pub async fn send(&mut self, frame: &Frame) -> Result<()> {
        self.buffer.clear();
        self.encoder.encode(frame, &mut self.buffer);
        self.to.write_all(&self.buffer).await?;
        Ok(self.to.flush().await?)
    }
}
