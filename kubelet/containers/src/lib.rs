//! From a pod's spec to what CRI is told: sandbox and container configurations, environment, security, DNS, hosts file.
//! Nothing here calls the runtime or decides when to; that is the pod's worker. The files that a container needs of its own
//! (hosts, termination log) are written here.

pub mod config;
pub mod dns;
pub mod env;
pub mod expansion;
pub mod hash;
pub mod hosts;
pub mod sandbox;
pub mod security;
pub mod service_env;

/// Why a container can't be configured. Its text is the message of CreateContainerConfigError.
#[derive(Debug, thiserror::Error)]
pub enum ContainerConfigError {
    #[error(transparent)]
    Object(#[from] node_context::objects::ObjectError),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    MissingKey { kind: &'static str, namespace: String, name: String, key: String },
    /// CRI carries environments as text. Runtimes refuse other bytes, or would change them.
    #[error(
        "key {key} of Secret {namespace}/{name} is not UTF-8, which an environment variable has to be; mount the Secret as a volume"
    )]
    NotText { namespace: String, name: String, key: String },
    #[error("container {container:?}: {message}")]
    Invalid { container: String, message: String },
    #[error("{0}")]
    Volume(String),
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: String, source: std::io::Error },
}
