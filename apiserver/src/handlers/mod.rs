//! The generic verbs. Each works on any resource; what differs between resources is in their rows and strategies.

pub mod access_review;
pub mod components;
pub mod compress;
pub mod decode;
pub mod descriptions;
pub mod escalation;
pub mod list;
pub mod negotiate;
pub mod read;
pub mod render;
pub mod review;
pub mod selection;
pub mod subresource;
pub mod table;
pub mod watch;
pub mod write;

/// Bodies of answers.
pub type Body = component_base::serving::Body;
pub type Response = http::Response<Body>;
