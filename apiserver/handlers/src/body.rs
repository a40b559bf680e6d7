//! Reading the bodies of requests, within bounds.

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use request::status::{Result, Status};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bodies larger than this are refused. (Upstream's limit for what goes to etcd.)
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Large bodies that are worked on at once, in KiB. Read into a tree, a body may take a hundred times its bytes; where few are read
/// at once the others wait as bytes, of which there are at most as many as requests run.
static LARGE_BODIES_KIB: Semaphore = Semaphore::const_new(12 * 1024);
/// Larger bodies are large.
const LARGE: usize = 128 * 1024;

/// A large body that keeps its share of what may be worked on, until it is dropped.
struct Large {
    bytes: Bytes,
    _share: SemaphorePermit<'static>,
}

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The whole body, up to the limit. Keep it as long as what was made of it: a large one waits for its turn, and its turn ends with it.
pub async fn read_body(body: Incoming) -> Result<Bytes> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => {
            let bytes = collected.to_bytes();
            if bytes.len() <= LARGE {
                return Ok(bytes);
            }
            match LARGE_BODIES_KIB.acquire_many(bytes.len().div_ceil(1024) as u32).await {
                Ok(share) => Ok(Bytes::from_owner(Large { bytes, _share: share })),
                Err(_) => Ok(bytes), // it is never closed
            }
        }
        Err(e) if e.is::<http_body_util::LengthLimitError>() => Err(Status::too_large(BODY_BYTES_MAX)),
        Err(e) => Err(Status::bad_request(format!("reading the body: {e}"))),
    }
}
