//! Request bodies to objects in normal form, and what strict clients want to hear of them.

use super::negotiate::{cbor_is_served, media_types};
use apimachinery::Value;
use apimachinery::codec::{MAX_DEPTH, Report, TypeMismatch, cbor, depth, envelope, json, proto, yaml};
use apimachinery::schema::{GroupVersionKind, Schema};
use http::HeaderMap;
use registry::resource::Form;
use request::options::FieldValidation;
use request::status::{Result, Status};
use serde_json::Map;

/// Encodings of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyType {
    Json,
    Yaml,
    Protobuf,
    Cbor,
}

const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// What `Content-Type` says; nothing said is JSON.
pub fn body_type(headers: &HeaderMap) -> Result<BodyType> {
    let header = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    match header.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
        "" | "application/json" | "*/*" => Ok(BodyType::Json),
        "application/yaml" | "application/x-yaml" => Ok(BodyType::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(BodyType::Protobuf),
        "application/cbor" if cbor_is_served() => Ok(BodyType::Cbor),
        other => Err(Status::unsupported_media_type(other, &media_types(ACCEPTED, "application/cbor"))),
    }
}

/// An object from a body, and what is odd about it.
#[derive(Debug, Default)]
pub struct Decoded {
    /// In normal form, without `kind` and `apiVersion`.
    pub object: Value,
    pub warnings: Vec<String>,
    /// See [`Report::emptied`].
    pub emptied: bool,
}

/// Reads a body that must be of `kind`. Its own `apiVersion` and `kind` may be absent.
pub fn decode(
    bytes: &[u8],
    body: BodyType,
    kind: &GroupVersionKind,
    form: &Form,
    validation: FieldValidation,
) -> Result<Decoded> {
    let (tree, duplicates) = parse(bytes, body, kind)?;
    finish(tree, duplicates, kind, form, validation)
}

/// A tree as it came: not normalized, with `kind` and `apiVersion` if they were given; and the paths of duplicate members.
pub fn parse(bytes: &[u8], body: BodyType, kind: &GroupVersionKind) -> Result<(Value, Vec<String>)> {
    let unrecognized = |what: &str, why: String| {
        let start: String = String::from_utf8_lossy(bytes).chars().take(64).collect();
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; {what} parse error: {why} ({})",
            kind.kind,
            if start.is_empty() { "<empty>" } else { &start }
        ))
    };
    match body {
        BodyType::Json => {
            let parsed = json::parse(bytes).map_err(|e| unrecognized("json", e.to_string()))?;
            // Go reads null into an object as an object in which nothing is set.
            let value = if parsed.value.is_null() { Value::Object(Map::new()) } else { parsed.value };
            Ok((value, parsed.duplicates))
        }
        BodyType::Yaml => {
            let parsed = yaml::parse_yaml(bytes).map_err(|e| unrecognized("yaml", e.to_string()))?;
            Ok((parsed.value, parsed.duplicates))
        }
        BodyType::Cbor => {
            let tree = cbor::parse(bytes).map_err(|e| {
                let kind = &kind.kind;
                let why = format!("unable to determine group/version/kind: {e} ({})", summary(bytes));
                Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why}"))
            })?;
            Ok((tree, Vec::new()))
        }
        BodyType::Protobuf => {
            let opened = envelope::open(bytes).ok_or_else(|| unrecognized("protobuf", "no envelope".into()))?;
            let opened = opened.map_err(|e| unrecognized("protobuf", e.to_string()))?;
            let (group, version) = GroupVersionKind::split_api_version(opened.api_version);
            let schema = Schema::builtin();
            let ty = schema.kind(group, version, opened.kind).ok_or_else(|| {
                unrecognized("protobuf", format!("no kind {} in {}", opened.kind, opened.api_version))
            })?;
            let mut tree =
                proto::decode(schema, ty.id, opened.raw).map_err(|e| unrecognized("protobuf", e.to_string()))?;
            tree["apiVersion"] = opened.api_version.into();
            tree["kind"] = opened.kind.into();
            Ok((tree, Vec::new()))
        }
    }
}

/// The beginning of a body that is no text.
fn summary(bytes: &[u8]) -> String {
    const SHOWN: usize = 30;
    let hex: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    match bytes.len() {
        0 => "<empty>".into(),
        1..=SHOWN => hex,
        _ => hex + " ...",
    }
}

/// Whether an object nests more than what would be read again. Managed fields follow the object, a few levels below it.
fn is_too_deep(object: &Value) -> bool {
    // Levels above `metadata.managedFields` and below it, where it leads to the deepest field of an object.
    const ABOVE: usize = 2;
    const BELOW: usize = 5;
    let of = |(name, value): (&String, &Value)| match (&**name, value.as_object()) {
        ("metadata", Some(metadata)) => {
            let managed = metadata.get("managedFields").map_or(0, depth).saturating_sub(BELOW);
            let rest = metadata.iter().filter(|(name, _)| *name != "managedFields").map(|(_, v)| depth(v)).max();
            ABOVE + managed.max(rest.unwrap_or(0))
        }
        _ => 1 + depth(value),
    };
    object.as_object().into_iter().flatten().map(of).max().unwrap_or(0) > MAX_DEPTH
}

/// Checks the kind of a tree and normalizes it; a strict client gets an error for unknown and duplicate members, others a warning.
pub fn finish(
    tree: Value,
    duplicates: Vec<String>,
    kind: &GroupVersionKind,
    form: &Form,
    validation: FieldValidation,
) -> Result<Decoded> {
    let handled = |why: String| {
        let GroupVersionKind { version, kind, .. } = kind;
        Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
    };
    fit(tree, duplicates, kind, form, validation).map_err(|misfit| match misfit {
        Misfit::Kind(status) => status,
        Misfit::Type(mismatch) => handled(mismatch.to_string()),
        Misfit::Strict(why) | Misfit::Depth(why) => handled(why),
    })
}

/// Why a tree is no object of its kind.
#[derive(Debug)]
pub enum Misfit {
    /// It says that it is of another.
    Kind(Status),
    Type(TypeMismatch),
    Depth(String),
    /// It has members that are unknown or stand twice, and its client wants to be told so.
    Strict(String),
}

/// As [`finish`], for those who word errors themselves.
pub fn fit(
    mut tree: Value,
    duplicates: Vec<String>,
    kind: &GroupVersionKind,
    form: &Form,
    validation: FieldValidation,
) -> std::result::Result<Decoded, Misfit> {
    take_kind(&mut tree, kind).map_err(Misfit::Kind)?;
    if is_too_deep(&tree) {
        return Err(Misfit::Depth("json: exceeded max depth".into()));
    }
    let mut report = Report::default();
    form.normalize(&mut tree, &mut report).map_err(Misfit::Type)?;
    let mut odd: Vec<String> = report.unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    odd.extend(duplicates.iter().map(|path| format!("duplicate field \"{path}\"")));
    match validation {
        FieldValidation::Strict if !odd.is_empty() => {
            Err(Misfit::Strict(format!("strict decoding error: {}", odd.join(", "))))
        }
        FieldValidation::Warn => Ok(Decoded { object: tree, warnings: odd, emptied: report.emptied }),
        _ => Ok(Decoded { object: tree, warnings: Vec::new(), emptied: report.emptied }),
    }
}

/// Takes `apiVersion` and `kind` out of a tree. They may be absent, but not another kind's.
pub fn take_kind(tree: &mut Value, kind: &GroupVersionKind) -> Result<()> {
    let Some(members) = tree.as_object_mut() else {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): not an object",
            kind.kind
        )));
    };
    let given_version = members.remove("apiVersion").unwrap_or_default();
    let given_kind = members.remove("kind").unwrap_or_default();
    let given_version =
        given_version.as_str().filter(|v| !v.is_empty()).map_or_else(|| kind.api_version(), str::to_owned);
    let given_kind = given_kind.as_str().filter(|k| !k.is_empty()).unwrap_or(&kind.kind);
    if given_kind != kind.kind || given_version != kind.api_version() {
        let known = {
            let (group, version) = GroupVersionKind::split_api_version(&given_version);
            Schema::builtin().kind(group, version, given_kind).is_some()
        };
        let (_, version) = GroupVersionKind::split_api_version(&given_version);
        return Err(Status::bad_request(if known {
            format!(
                "the API version in the data ({given_version}) does not match the expected API version ({}) or the kind {given_kind} is not {}",
                kind.api_version(),
                kind.kind
            )
        } else {
            format!(
                "{given_kind} in version \"{version}\" cannot be handled as a {}: no kind \"{given_kind}\" is registered for version \"{given_version}\"",
                kind.kind
            )
        }));
    }
    Ok(())
}
