//! Why an expression has no value.

use std::fmt;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// Something in the values: a missing key, a division by zero.
    Failed(String),
    /// No function of that name takes the values it was called with.
    NoOverload,
    /// It costs more than it may.
    OverBudget,
}

impl Error {
    pub fn new(message: impl Into<String>) -> Error {
        Error::Failed(message.into())
    }

    pub fn no_overload() -> Error {
        Error::NoOverload
    }

    pub(crate) fn no_key(key: &str) -> Error {
        Error::Failed(format!("no such key: {key}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Failed(message) => f.write_str(message),
            Error::NoOverload => f.write_str("no such overload"),
            Error::OverBudget => f.write_str("operation cancelled: actual cost limit exceeded"),
        }
    }
}
