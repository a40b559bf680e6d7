//! Errors at a place in an object, and the list of them that makes a Status of reason `Invalid`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::Path;
use super::path::{PlaceId, Step, Trail};

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TypeInvalid,
    Internal,
}

impl ErrorKind {
    /// The `reason` of a cause.
    pub fn reason(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "FieldValueNotFound",
            ErrorKind::Required => "FieldValueRequired",
            ErrorKind::Duplicate => "FieldValueDuplicate",
            ErrorKind::Invalid => "FieldValueInvalid",
            ErrorKind::NotSupported => "FieldValueNotSupported",
            ErrorKind::Forbidden => "FieldValueForbidden",
            ErrorKind::TooLong => "FieldValueTooLong",
            ErrorKind::TooMany => "FieldValueTooMany",
            ErrorKind::TypeInvalid => "FieldValueTypeInvalid",
            ErrorKind::Internal => "InternalError",
        }
    }

    fn title(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "Not found",
            ErrorKind::Required => "Required value",
            ErrorKind::Duplicate => "Duplicate value",
            ErrorKind::Invalid | ErrorKind::TypeInvalid => "Invalid value",
            ErrorKind::NotSupported => "Unsupported value",
            ErrorKind::Forbidden => "Forbidden",
            ErrorKind::TooLong => "Too long",
            ErrorKind::TooMany => "Too many",
            ErrorKind::Internal => "Internal error",
        }
    }

    /// Whether the message shows the offending value.
    fn shows_value(self) -> bool {
        !matches!(self, ErrorKind::Required | ErrorKind::Forbidden | ErrorKind::TooLong | ErrorKind::Internal)
    }
}

/// One field that is wrong. Shown as `spec.replicas: Invalid value: -1: must be greater than or equal to 0`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: ErrorKind,
    pub field: Path,
    pub bad_value: Value,
    pub detail: String,
}

impl FieldError {
    pub fn new(
        kind: ErrorKind,
        field: impl Into<Path>,
        bad_value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, field: field.into(), bad_value: bad_value.into(), detail: detail.into() }
    }

    pub fn required(field: impl Into<Path>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Required, field, "", detail)
    }

    pub fn invalid(field: impl Into<Path>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, field, value, detail)
    }

    pub fn type_invalid(field: impl Into<Path>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::TypeInvalid, field, value, detail)
    }

    pub fn forbidden(field: impl Into<Path>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, field, "", detail)
    }

    pub fn duplicate(field: impl Into<Path>, value: impl Into<Value>) -> Self {
        Self::new(ErrorKind::Duplicate, field, value, "")
    }

    pub fn not_found(field: impl Into<Path>, value: impl Into<Value>) -> Self {
        Self::new(ErrorKind::NotFound, field, value, "")
    }

    /// `supported` is shown in the order given: upstream sorts it, so do callers.
    pub fn not_supported(field: impl Into<Path>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<_> = supported.iter().map(|s| format!("{s:?}")).collect();
        let detail = if quoted.is_empty() { String::new() } else { format!("supported values: {}", quoted.join(", ")) };
        Self::new(ErrorKind::NotSupported, field, value, detail)
    }

    pub fn too_long(field: impl Into<Path>, bytes_max: usize) -> Self {
        Self::new(ErrorKind::TooLong, field, "", format!("may not be more than {bytes_max} bytes"))
    }

    pub fn too_many(field: impl Into<Path>, count: usize, count_max: usize) -> Self {
        let items = if count_max == 1 { "item" } else { "items" };
        Self::new(ErrorKind::TooMany, field, count, format!("must have at most {count_max} {items}"))
    }

    pub fn internal(field: impl Into<Path>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, field, "", detail)
    }

    /// The `message` of a cause: all but the field.
    pub fn message(&self) -> String {
        let mut message = self.kind.title().to_owned();
        if self.kind.shows_value() {
            message += ": ";
            match &self.bad_value {
                // Upstream shows a nil pointer so.
                Value::Null => message += "\"null\"",
                Value::String(s) => message += &format!("{s:?}"),
                value => message += &value.to_string(),
            }
        }
        if !self.detail.is_empty() {
            message += ": ";
            message += &self.detail;
        }
        message
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message())
    }
}

/// Errors found so far. Shared by the cursors of one walk, hence the inner cell; never shared between threads.
#[derive(Clone, Debug, Default)]
pub struct Errors {
    list: RefCell<Vec<FieldError>>,
    /// Where the walk's cursors have been.
    trail: RefCell<Trail>,
    gates: Gates,
}

/// The feature gates that are on, for the few rules that depend on one.
pub type Gates = Arc<BTreeSet<&'static str>>;

impl Errors {
    /// More than this are not kept: nobody reads them, and a hostile object could make millions.
    pub const MAX: usize = 1000;

    /// For a walk in which no feature gate is on.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_gates(gates: Gates) -> Self {
        Errors { gates, ..Self::default() }
    }

    /// Whether a feature gate is on.
    pub fn gate(&self, name: &str) -> bool {
        self.gates.contains(name)
    }

    pub fn push(&self, error: FieldError) {
        let mut list = self.list.borrow_mut();
        if list.len() < Self::MAX {
            list.push(error);
        }
    }

    /// The place one step below `above`.
    pub(super) fn enter(&self, above: PlaceId, step: Step<'_>) -> PlaceId {
        self.trail.borrow_mut().enter(above, step)
    }

    /// The path of a place, or of one step below it.
    pub(super) fn path(&self, above: PlaceId, step: Option<Step<'_>>) -> Path {
        let path = self.trail.borrow().path(above);
        match step {
            Some(step) => path.then(step),
            None => path,
        }
    }

    pub fn extend(&self, errors: impl IntoIterator<Item = FieldError>) {
        errors.into_iter().for_each(|e| self.push(e));
    }

    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.borrow().len()
    }

    /// Whether any error is one that `test` takes.
    pub fn any(&self, test: impl Fn(&FieldError) -> bool) -> bool {
        self.list.borrow().iter().any(test)
    }

    pub fn into_vec(self) -> Vec<FieldError> {
        self.list.into_inner()
    }

    /// All of them in one line, as the message of a Status ends: alone, or as `[first, second]` without repetitions.
    pub fn aggregate(errors: &[FieldError]) -> String {
        let mut shown: Vec<String> = Vec::new();
        for error in errors.iter().map(ToString::to_string) {
            if !shown.contains(&error) {
                shown.push(error);
            }
        }
        match shown.as_slice() {
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_have_upstreams_shape() {
        let path = Path::new("spec.x");
        for (error, shown) in [
            (FieldError::required(&path, ""), "spec.x: Required value"),
            (FieldError::required(&path, "is needed"), "spec.x: Required value: is needed"),
            (FieldError::invalid(&path, "v", "bad"), "spec.x: Invalid value: \"v\": bad"),
            (FieldError::invalid(&path, -1, "bad"), "spec.x: Invalid value: -1: bad"),
            (FieldError::invalid(&path, json!({"a": 1}), "bad"), "spec.x: Invalid value: {\"a\":1}: bad"),
            (FieldError::invalid(&path, Value::Null, "bad"), "spec.x: Invalid value: \"null\": bad"),
            (
                FieldError::not_supported(&path, "x", &["A", "B"]),
                "spec.x: Unsupported value: \"x\": supported values: \"A\", \"B\"",
            ),
            (FieldError::duplicate(&path, "x"), "spec.x: Duplicate value: \"x\""),
            (FieldError::forbidden(&path, "no"), "spec.x: Forbidden: no"),
            (FieldError::too_long(&path, 5), "spec.x: Too long: may not be more than 5 bytes"),
            (FieldError::too_many(&path, 3, 1), "spec.x: Too many: 3: must have at most 1 item"),
        ] {
            assert_eq!(error.to_string(), shown);
        }
    }

    #[test]
    fn several_errors_are_listed_once_each() {
        let (a, b) = (FieldError::required(Path::new("a"), ""), FieldError::required(Path::new("b"), ""));
        assert_eq!(Errors::aggregate(&[a.clone(), b, a.clone()]), "[a: Required value, b: Required value]");
        assert_eq!(Errors::aggregate(&[a.clone(), a]), "a: Required value");
    }

    #[test]
    fn errors_are_bounded() {
        let errors = Errors::new();
        errors.extend((0..2 * Errors::MAX).map(|_| FieldError::required(Path::root(), "")));
        assert_eq!(errors.len(), Errors::MAX);
    }
}
