//! PATCH in its four forms: JSON patch, merge patch, strategic merge patch and apply.

use super::update::Preconditions;
use super::{Write, Written, meta_text};
use crate::decode::{self, BodyType, Misfit, finish};
use crate::negotiate::{cbor_is_served, media_types};
use apimachinery::Value;
use apimachinery::apply::{ApplyError, last_applied, typed};
use apimachinery::codec::yaml;
use apimachinery::patch::json::JsonPatchError;
use apimachinery::patch::{json_patch, merge_patch, strategic_merge_patch};
use apimachinery::validation::{FieldError, Path};
use http::{HeaderMap, StatusCode};
use registry::edit::typed;
use request::options::FieldValidation;
use request::status::{Result, Status};
use serde_json::Map;

/// The forms of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    /// Of a configuration in YAML (or JSON), or in CBOR.
    Apply(BodyType),
}

/// How much of a patch or of what it made is shown in an error, bytes.
const SHOWN_MAX: usize = 4096;

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

pub fn patch_type(headers: &HeaderMap, custom: bool) -> Result<PatchType> {
    let header = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    match header.split(';').next().unwrap_or("").trim() {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        // Custom resources have no merge keys.
        "application/strategic-merge-patch+json" if !custom => Ok(PatchType::Strategic),
        "application/apply-patch+yaml" => Ok(PatchType::Apply(BodyType::Yaml)),
        "application/apply-patch+cbor" if cbor_is_served() => Ok(PatchType::Apply(BodyType::Cbor)),
        other => Err(Status::unsupported_media_type(other, &media_types(ACCEPTED, "application/apply-patch+cbor"))),
    }
}

impl Write<'_> {
    pub async fn patch(&mut self, kind: PatchType, body: &[u8]) -> Result<Written> {
        if let PatchType::Apply(encoding) = kind {
            return self.apply(encoding, body).await;
        }
        if self.options.force.is_some() {
            let error = FieldError::forbidden(Path::new("force"), "may not be specified for non-apply patch");
            return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
        }
        let (patch, duplicates) = apimachinery::codec::json::parse(body)
            .map(|p| (p.value, p.duplicates))
            .map_err(|e| undecodable(&e.to_string()))?;
        match kind {
            PatchType::Json if !patch.is_array() => {
                return Err(undecodable("json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"));
            }
            PatchType::Merge | PatchType::Strategic if !patch.is_object() => {
                return Err(undecodable("json: cannot unmarshal into Go value of type map[string]interface {}"));
            }
            _ => {}
        }
        let row = self.endpoint.row.clone();
        let validation = self.options.field_validation;
        let mut noted = Vec::new();
        let patched = |current: &Value| {
            let mut tree = typed(current.clone(), &row.kind);
            match kind {
                PatchType::Json => json_patch(&mut tree, patch.clone()).map_err(json_patch_status)?,
                PatchType::Merge => merge_patch(&mut tree, &patch),
                _ => strategic_merge_patch(&mut tree, patch.clone(), row.form.node())
                    .map_err(|e| Status::bad_request(e.to_string()))?,
            }
            Ok::<_, Status>(tree)
        };
        let mut change = |current: &Value| {
            let fitted = decode::fit(patched(current)?, duplicates.clone(), &row.kind, &row.form, validation);
            let decoded = match fitted {
                Ok(decoded) => decoded,
                Err(misfit) if kind == PatchType::Strategic => {
                    return Err(misfit_status(misfit, true, printed(&patch)));
                }
                Err(misfit) => return Err(misfit_status(misfit, false, patched(current)?.to_string())),
            };
            noted = decoded.warnings;
            self.same_name(&decoded.object)?;
            Ok(decoded.object)
        };
        let mut warnings = Vec::new();
        let mut written = self.update(&Preconditions::default(), &mut warnings, &mut change).await?;
        noted.append(&mut warnings);
        written.warnings = noted;
        Ok(written)
    }

    fn same_name(&self, object: &Value) -> Result<()> {
        let name = meta_text(object, "name");
        if name == self.name {
            return Ok(());
        }
        let message = format!("the name of the object ({name}) does not match the name on the URL ({})", self.name);
        Err(Status::bad_request(message))
    }

    /// Server-side apply: creates what is not there.
    async fn apply(&mut self, encoding: BodyType, body: &[u8]) -> Result<Written> {
        if self.options.field_manager.is_empty() {
            let error = FieldError::required(Path::new("fieldManager"), "is required for apply patch");
            return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
        }
        let row = self.endpoint.row.clone();
        let (mut config, duplicates) = decode::parse(body, encoding, &row.kind)?;
        if !config.is_object() {
            return Err(Status::bad_request("the configuration to apply must be an object"));
        }
        decode::take_kind(&mut config, &row.kind)?;
        let undeclared = typed::undeclared(&config, row.form.node());
        if !undeclared.is_empty() {
            return Err(self.untyped(&config, &undeclared));
        }
        // Checked as any input, but merged as it was given: only what stands there is owned.
        let mut checked = finish(config.clone(), Vec::new(), &row.kind, &row.form, FieldValidation::Ignore)?;
        if !duplicates.is_empty() && self.options.field_validation != FieldValidation::Ignore {
            let keys = yaml::duplicate_keys(body);
            let lines: String = keys.iter().map(|key| format!("\n  {key}")).collect();
            let why = format!("error converting YAML to JSON: yaml: unmarshal errors:{lines}");
            if self.options.field_validation == FieldValidation::Strict {
                return Err(Status::bad_request(format!("error strict decoding YAML: {why}")));
            }
            checked.warnings.push(why);
        }
        if !config["metadata"].is_object() {
            config["metadata"] = Value::Object(Map::new());
        }
        let version = meta_text(&config, "resourceVersion").to_owned();
        let given_name = meta_text(&checked.object, "name");
        if !given_name.is_empty() {
            self.same_name(&checked.object)?;
        }
        let mut identified = config.clone();
        self.check_identity(&mut identified)?;
        let force = self.options.force.unwrap_or(false);
        let preconditions = Preconditions {
            uid: config["metadata"]["uid"].as_str().map(str::to_owned),
            resource_version: (!version.is_empty()).then_some(version.clone()),
        };
        self.applies = true;
        let write = &*self;
        let mut change = |current: &Value| write.applied(current, &config, force);
        let mut warnings = checked.warnings.clone();
        let result = write.update(&preconditions, &mut warnings, &mut change).await;
        match result {
            Ok(written) => Ok(Written { warnings, ..written }),
            Err(status) if status.reason == "NotFound" && self.subresource.is_empty() && version.is_empty() => {
                let mut object = self.applied(&row.zero, &config, force)?;
                super::metadata(&mut object).entry("name").or_insert_with(|| self.name.as_str().into());
                self.create(object, checked.warnings).await
            }
            Err(status) => Err(status),
        }
    }

    /// The answer to a configuration that does not fit the schema: an error inside the server, since upstream notices it only there.
    fn untyped(&self, config: &Value, errors: &[String]) -> Status {
        let row = &self.endpoint.row;
        let errors = match errors {
            [one] => one.clone(),
            many => many.iter().fold("errors:".to_owned(), |text, error| text + "\n  " + error),
        };
        let name = match meta_text(config, "name") {
            "" => &self.name,
            given => given,
        };
        let kind = format!("{}, Kind={}", row.kind.api_version(), row.kind.kind);
        let message = format!("failed to create typed patch object ({}/{name}; {kind}): {errors}", self.namespace);
        Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    }

    /// The live object with the configuration laid over it, its managed fields brought up to date.
    fn applied(&self, live: &Value, config: &Value, force: bool) -> Result<Value> {
        let row = &self.endpoint.row;
        let merged = self.with_manager(|m| m.apply(live, config, force)).map_err(apply_status)?;
        let mut merged = merged;
        if self.manager == last_applied::MANAGER {
            last_applied::update(&mut merged, config, &row.kind);
        }
        let managed = merged["metadata"]["managedFields"].take();
        let mut object = finish(merged, Vec::new(), &row.kind, &row.form, FieldValidation::Ignore)?.object;
        if !managed.is_null() {
            super::metadata(&mut object).insert("managedFields".into(), managed);
        }
        Ok(object)
    }
}

fn undecodable(why: &str) -> Status {
    Status::bad_request(format!("error decoding patch: {why}"))
}

/// What a patch makes of an object must be one of its kind. Upstream shows the result of a JSON patch or merge patch, but of a strategic
/// merge patch only the patch, as Go prints it.
fn misfit_status(misfit: Misfit, strategic: bool, mut shown: String) -> Status {
    let why = match misfit {
        Misfit::Kind(status) => return status,
        Misfit::Type(mismatch) if strategic => mismatch.unstructured(),
        Misfit::Type(mismatch) => mismatch.to_string(),
        Misfit::Depth(why) | Misfit::Strict(why) => why,
    };
    if shown.len() > SHOWN_MAX {
        shown.truncate(shown.floor_char_boundary(SHOWN_MAX));
        shown += "…";
    }
    Status::invalid("", "", "", &[FieldError::invalid(Path::new("patch"), shown, why)])
}

/// As Go prints a tree with `%+v`.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(name, value)| format!("{name}:{}", printed(value))).collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

fn json_patch_status(e: JsonPatchError) -> Status {
    match e {
        JsonPatchError::Decode(_) => Status::bad_request(e.to_string()),
        JsonPatchError::TooMany(_) => {
            Status::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", e.to_string())
        }
        _ => {
            let mut status = Status::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                format!("the server rejected our request due to an error in our request: {e}"),
            );
            status.details = Some(Map::new());
            status
        }
    }
}

fn apply_status(e: ApplyError) -> Status {
    match &e {
        ApplyError::Conflicts(conflicts) => {
            let mut status = Status::new(StatusCode::CONFLICT, "Conflict", e.to_string());
            for conflict in conflicts {
                status = status.with_cause("FieldManagerConflict", &conflict.message(), &conflict.path);
            }
            status
        }
        ApplyError::ManagedFieldsGiven => Status::bad_request(e.to_string()),
        ApplyError::Duplicate(_) => Status::internal(e.to_string()),
    }
}
