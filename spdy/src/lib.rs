//! SPDY/3.1 frames, as far as Kubernetes streams (exec, attach, port-forward) use them, for either end of a connection.
//!
//! [`Decoder`] and [`Encoder`] are pure: bytes in, frames out, and back. [`Reader`] and [`Writer`] put them on a connection.
//!
//! What the peers that matter (kubelets, container runtimes, kubectl) do not do is not here: they send no windows and heed none,
//! so a stream is held back by not reading the connection, and priorities, credentials and settings are passed over.
//!
//! What never comes in: what streams mean to Kubernetes.
//!
//! Source: the SPDY Protocol, drafts 3 and 3.1.

mod connection;
mod frame;
mod headers;

pub use connection::{Reader, Writer};
pub use frame::{Decoder, Encoder, Frame};
pub use headers::Headers;

/// Bytes of a control frame's content, and of the headers in it once they are inflated.
pub const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// Headers of one frame.
pub const HEADERS_MAX: usize = 128;
/// Bytes in one frame of data as it is sent, and in one piece of data as it is read: frames may announce 16 MiB.
pub const DATA_BYTES_MAX: usize = 32 * 1024;

/// What `RST_STREAM` says (SPDY/3 §2.6.3).
pub mod reset {
    /// The stream was not accepted; nothing was done.
    pub const REFUSED: u32 = 3;
    /// Whoever opened the stream has no use for it any more.
    pub const CANCEL: u32 = 5;
}

/// Why bytes are not SPDY.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a control frame of SPDY version {0}; only 3 is known")]
    Version(u16),
    #[error("a control frame of {0} bytes; at most {CONTROL_BYTES_MAX} are taken")]
    TooLong(usize),
    #[error("a frame of type {0} is too short")]
    TooShort(u16),
    #[error("headers that are not compressed as SPDY/3 has it")]
    Compression,
    #[error("headers that do not fit their frame, or too many of them")]
    Headers,
    #[error("data for stream 0")]
    NoStream,
    #[error("the connection ended inside a frame")]
    Cut,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

pub type Result<T> = std::result::Result<T, Error>;
