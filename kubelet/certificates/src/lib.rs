//! The kubelet's certificates: the one it shows the API server and the one it serves with. Both are asked for by
//! CertificateSigningRequest, kept in files, and replaced before they end
//! (kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping).
//!
//! A [`Manager`] keeps one certificate. What may be used when is decided by the pure functions of [`pair`]. Who may have
//! a certificate is for the cluster to decide, and never comes in here.

pub mod bootstrap;
mod kubeconfig;
mod manager;
mod metrics;
pub mod pair;
mod request;
mod store;
mod template;

pub use manager::{Expired, Manager, tell_addresses};
pub use template::Template;

use std::path::PathBuf;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the certificate request: {0}")]
    Request(#[from] rcgen::Error),
    #[error("{}", component_base::client::describe(.0))]
    Api(#[from] kube::Error),
    /// The type of the condition, Denied or Failed, and what its author says.
    #[error("certificate request {name} is {condition}: {message}")]
    Refused { name: String, condition: String, message: String },
    #[error("certificate request {name} was not signed within {} minutes", request::WAIT_MAX.as_secs() / 60)]
    Timeout { name: String },
    #[error("the issued certificate is of no use: {0}")]
    Unusable(#[from] pair::Unusable),
    #[error("cannot {action} {path}: {source}")]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{0} is a file and should be a link to the current certificate; move it away")]
    NoLink(PathBuf),
}

impl Error {
    /// Whether it is the API server that says no, as opposed to a server that is away.
    fn answered(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if matches!(status.code, 401 | 403 | 404))
    }

    /// Whether asking again with the same key could only end the same way.
    fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Unusable(_))
    }
}
