//! Objects in etcd, and the copy of them that reads are served from.
//!
//! ```text
//!   writes ──────────────► etcd ──one watch over the whole prefix──► dispatcher ──► cache of each resource ──► watchers
//!   reads ──► freshness (what revision is etcd at? shared by all who ask at once) ──► cache, once it is there
//! ```
//!
//! * [`etcd`]: transactions, pages, leases; knows bytes and revisions only.
//! * [`codec`]: bytes as upstream writes them ⇄ trees.
//! * [`object`]: one version of one object, immutable and shared: JSON bytes and what is indexed.
//! * [`cache`]: all objects of a resource as a persistent set; a snapshot is taken in O(1) and never changes.
//! * [`history`]: the latest changes, bounded by bytes and age over all resources.
//! * [`catch_up`]: watches from revisions that the history has forgotten, out of etcd.
//! * [`encodings`]: protobuf forms of objects, for a while.
//! * [`own`]: what this server writes itself, so that it need not decode it when the watch brings it back.
//! * [`signature`]: what an object may be selected by, in a few bits.
//! * [`watchers`]: who hears of a change, found by namespace and by node.
//! * [`dispatcher`]: the one etcd watch; since it sees every revision, the caches know how fresh they are.
//! * [`freshness`]: makes reads consistent at the cost of one small etcd read for everyone who is waiting.
//!
//! Nothing here knows of requests, users or kinds' rules.

pub mod cache;
pub mod catch_up;
pub mod codec;
pub mod compactor;
pub mod dispatcher;
pub mod encodings;
pub mod etcd;
pub mod freshness;
pub mod history;
pub mod leases;
mod metrics;
pub mod object;
pub mod own;
pub mod signature;
pub mod watchers;

/// etcd's revision of a change: the resourceVersion of an object.
pub type Revision = u64;

/// What can go wrong between us and etcd.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("etcd: {0}; the request can be tried again")]
    Unavailable(String),
    #[error("etcd: the object is too large ({0} bytes)")]
    TooLarge(usize),
    /// The revision asked for has been compacted away.
    #[error("the revision asked for is no longer kept")]
    Compacted,
    #[error("stored bytes at {key} cannot be read: {why}")]
    Corrupt { key: String, why: String },
    #[error("the server is shutting down")]
    Closed,
}
