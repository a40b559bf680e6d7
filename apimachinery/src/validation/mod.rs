//! What validation of any kind is made of: paths into an object, errors at paths, the shapes of names, and the [`Cursor`] that walks
//! an object and collects errors, so that a kind's rules read as a table.
//!
//! Rules of single kinds do not come in here. The reasons and the fields of errors are upstream's, as clients see them in the causes
//! of a Status.

pub mod addresses;
pub mod conditions;
pub mod cursor;
pub mod error;
pub mod names;
pub mod object_meta;
pub mod path;
pub mod selector;

pub use cursor::Cursor;
pub use error::{ErrorKind, Errors, FieldError, Gates};
pub use path::Path;
