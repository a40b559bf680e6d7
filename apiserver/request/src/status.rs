//! Answers that say no: `metav1.Status` with the reason, code, causes and details that clients act on.

use apimachinery::validation::FieldError;
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// An error as the client gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    pub code: StatusCode,
    /// Upstream's `metav1.StatusReason`; empty for errors it has no reason for. Webhooks may give one of their own.
    pub reason: Cow<'static, str>,
    pub message: String,
    /// None leaves `details` out; an empty map writes `{}`, which some answers of upstream do.
    pub details: Option<Map<String, Value>>,
    /// What only refused lists have in `metadata`; apart, for a status is carried by every result.
    pub list: Option<Box<ListMeta>>,
    /// Texts for the client's `Warning` header, said before the request was refused.
    pub warnings: Vec<String>,
}

/// `metav1.ListMeta`, as far as refusals have it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListMeta {
    /// Where a list whose version is gone may go on all the same.
    pub continue_token: String,
}

pub type Result<T> = std::result::Result<T, Status>;

fn details(pairs: &[(&str, &str)]) -> Option<Map<String, Value>> {
    Some(pairs.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_string(), Value::from(*v))).collect())
}

/// Which resource an error is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub group: &'a str,
    /// The plural: `pods`.
    pub resource: &'a str,
    pub name: &'a str,
}

impl About<'_> {
    fn qualified(&self) -> String {
        if self.group.is_empty() { self.resource.to_owned() } else { format!("{}.{}", self.resource, self.group) }
    }

    fn details(&self) -> Option<Map<String, Value>> {
        details(&[("name", self.name), ("group", self.group), ("kind", self.resource)])
    }
}

impl Status {
    pub fn new(code: StatusCode, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Status {
        Status { code, reason: reason.into(), message: message.into(), details: None, list: None, warnings: Vec::new() }
    }

    /// Takes along what was to be said to the client, in front of what is there already.
    pub fn with_warnings(mut self, said: &mut Vec<String>) -> Status {
        said.append(&mut self.warnings);
        self.warnings = std::mem::take(said);
        self
    }

    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub fn unauthorized() -> Status {
        Status::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// `pods "x" not found`.
    pub fn not_found(about: About) -> Status {
        Status {
            details: about.details(),
            ..Status::new(
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("{} \"{}\" not found", about.qualified(), about.name),
            )
        }
    }

    /// No such path below a group that exists.
    pub fn no_such_resource() -> Status {
        let message = "the server could not find the requested resource";
        Status { details: Some(Map::new()), ..Status::new(StatusCode::NOT_FOUND, "NotFound", message) }
    }

    pub fn already_exists(about: About) -> Status {
        Status {
            details: about.details(),
            ..Status::new(
                StatusCode::CONFLICT,
                "AlreadyExists",
                format!("{} \"{}\" already exists", about.qualified(), about.name),
            )
        }
    }

    pub fn conflict(about: About, why: &str) -> Status {
        let message = format!("Operation cannot be fulfilled on {} \"{}\": {why}", about.qualified(), about.name);
        Status { details: about.details(), ..Status::new(StatusCode::CONFLICT, "Conflict", message) }
    }

    /// Somebody else changed the object since the client read it.
    pub fn modified(about: About) -> Status {
        Status::conflict(
            about,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// `pods "x" is forbidden: why`, or `pods is forbidden: why` without a name.
    pub fn forbidden(about: About, why: &str) -> Status {
        let subject = match (about.resource, about.name) {
            ("", _) => String::new(),
            (_, "") => format!("{} is ", about.qualified()),
            (_, name) => format!("{} \"{name}\" is ", about.qualified()),
        };
        Status {
            details: about.details(),
            ..Status::new(StatusCode::FORBIDDEN, "Forbidden", format!("{subject}forbidden: {why}"))
        }
    }

    /// Validation found something; `kind` and `name` are of the object.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Status {
        let causes: Vec<Value> = errors
            .iter()
            .map(|e| {
                let mut cause = json!({"reason": e.kind.reason(), "message": e.message()});
                let field = e.field.to_string();
                if !field.is_empty() {
                    cause["field"] = field.into();
                }
                cause
            })
            .collect();
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let mut details = details(&[("name", name), ("group", group), ("kind", kind)]).unwrap_or_default();
        details.insert("causes".into(), causes.into());
        Status {
            details: Some(details),
            ..Status::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                format!("{qualified} \"{name}\" is invalid: {text}"),
            )
        }
    }

    pub fn method_not_allowed() -> Status {
        let message = "the server does not allow this method on the requested resource";
        Status { details: Some(Map::new()), ..Status::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message) }
    }

    pub fn unsupported_media_type(given: &str, accepted: &str) -> Status {
        let message = format!(
            "the body of the request was in an unknown format ({given}) - accepted media types include: {accepted}"
        );
        Status {
            details: Some(Map::new()),
            ..Status::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
        }
    }

    pub fn not_acceptable(accepted: &str) -> Status {
        let message = format!("only the following media types are accepted: {accepted}");
        Status::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// The version asked for is gone; the client lists again.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(StatusCode::GONE, "Expired", message)
    }

    pub fn internal(message: impl Into<String>) -> Status {
        Status::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    pub fn too_large(limit: usize) -> Status {
        let message = format!("Request entity too large: limit is {limit}");
        Status {
            details: Some(Map::new()),
            ..Status::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
        }
    }

    pub fn unavailable(message: impl Into<String>) -> Status {
        let mut details = Map::new();
        details.insert("retryAfterSeconds".into(), 1.into());
        Status { details: Some(details), ..Status::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message) }
    }

    /// A read at a version that is not there yet.
    pub fn too_new(asked: u64, current: u64) -> Status {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let mut details = Map::new();
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        details.insert("causes".into(), json!([cause]));
        details.insert("retryAfterSeconds".into(), 1.into());
        Status { details: Some(details), ..Status::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message) }
    }

    /// Adds a cause.
    pub fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Status {
        let causes = self.details.get_or_insert_default().entry("causes").or_insert_with(|| json!([]));
        if let Some(causes) = causes.as_array_mut() {
            let members = [("reason", reason), ("message", message), ("field", field)];
            causes.push(members.into_iter().filter(|(_, text)| !text.is_empty()).collect());
        }
        self
    }

    /// The object on the wire.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code.as_u16(),
        });
        if let Some(list) = &self.list {
            body["metadata"]["continue"] = list.continue_token.as_str().into();
        }
        if !self.reason.is_empty() {
            body["reason"] = (*self.reason).into();
        }
        if let Some(details) = &self.details {
            body["details"] = Value::Object(details.clone());
        }
        body
    }
}

impl From<storage::StorageError> for Status {
    fn from(e: storage::StorageError) -> Status {
        use storage::StorageError;
        match e {
            StorageError::Compacted => {
                Status::expired("The provided continue parameter is too old or the version is no longer kept.")
            }
            StorageError::TooLarge(_) => {
                let text = "etcdserver: request is too large";
                Status {
                    details: Some(Map::new()),
                    ..Status::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", text)
                }
            }
            other => Status::unavailable(other.to_string()),
        }
    }
}
