//! The generic verbs. Each works on any resource; what differs between resources is in their rows and strategies.

pub mod admission;
pub mod api;
pub mod authorization;
pub mod body;
pub mod compress;
pub mod decode;
pub mod descriptions;
pub mod list;
pub mod metrics;
pub mod negotiate;
pub mod read;
pub mod render;
pub mod selection;
pub mod table;
pub mod warnings;
pub mod watch;
pub mod write;

/// Bodies of answers.
pub type Body = component_base::serving::Body;
pub type Response = http::Response<Body>;
