//! The generic verbs. Each works on any resource; what differs between resources is in their rows and strategies.

pub mod api;
pub mod body;
pub mod compress;
pub mod decode;
pub mod descriptions;
pub mod list;
pub mod metrics;
pub mod negotiate;
pub mod read;
pub mod render;
pub mod response;
pub mod selection;
pub mod table;
pub mod warnings;
pub mod watch;
pub mod write;

pub use response::{Body, Response};
