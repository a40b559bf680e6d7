//! Why a reconcile failed.

use component_base::{client::describe, controller::Action};

/// An error of a controller, for its log. Every one of them leads to another try.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server was asked for something and refused, or did not answer.
    #[error("cannot {action}: {}", describe(source))]
    Api { action: String, source: kube::Error },
    /// The object itself makes work impossible; it has to be changed.
    #[error("{0}")]
    Invalid(String),
    /// Several things failed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Many(Vec<Error>),
}

/// Of a reconcile; `T` is an [`Action`] where a controller's loop asks.
pub type Result<T = Action, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The HTTP status of the API server's answer, if it gave one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source: kube::Error::Api(status), .. } => Some(status.code),
            _ => None,
        }
    }

    /// What the API server said is wrong, or the error itself.
    pub fn reason(&self) -> String {
        match self {
            Self::Api { source, .. } => describe(source),
            other => other.to_string(),
        }
    }

    /// One error of several: the only one, or all.
    pub fn join(mut errors: Vec<Self>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Many(errors)),
        }
    }
}

/// Says what was being done when a request failed.
pub trait Doing<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T>;
    /// As `doing`; that the object is gone is as good as success.
    fn or_gone(self, action: impl FnOnce() -> String) -> Result<Option<T>>;
}

impl<T> Doing<T> for kube::Result<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Api { action: action(), source })
    }

    fn or_gone(self, action: impl FnOnce() -> String) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(source) => Err(Error::Api { action: action(), source }),
        }
    }
}
