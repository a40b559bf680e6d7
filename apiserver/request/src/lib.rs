//! The terms in which every stage of the server speaks: what a request asks for, read off its method, path and query before anything
//! else happens; who asks; and the answer that says no.
//!
//! Nothing here knows of resources that are served, of caches or of rules.

pub mod info;
pub mod options;
pub mod status;
pub mod user;

pub use info::RequestInfo;
pub use user::User;
