//! What a request asks for, read off its method, path and query before anything else happens.

pub mod info;
pub mod options;

pub use info::RequestInfo;
