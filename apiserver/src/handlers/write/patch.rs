//! PATCH in its four forms: JSON patch, merge patch, strategic merge patch and apply.

use super::update::Preconditions;
use super::{Write, Written, meta_text};
use crate::handlers::decode::{self, BodyType, finish};
use crate::handlers::negotiate::{cbor_is_served, media_types};
use crate::handlers::render::typed;
use crate::request::options::FieldValidation;
use crate::status::{Result, Status};
use apimachinery::Value;
use apimachinery::apply::{ApplyError, last_applied};
use apimachinery::patch::json::JsonPatchError;
use apimachinery::patch::{json_patch, merge_patch, strategic_merge_patch};
use apimachinery::validation::{FieldError, Path};
use http::{HeaderMap, StatusCode};
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
        let mut change = |current: &Value| {
            let mut tree = typed(current.clone(), &row.kind);
            match kind {
                PatchType::Json => json_patch(&mut tree, patch.clone()).map_err(json_patch_status)?,
                PatchType::Merge => merge_patch(&mut tree, &patch),
                _ => strategic_merge_patch(&mut tree, patch.clone(), row.form.node())
                    .map_err(|e| Status::bad_request(e.to_string()))?,
            }
            let decoded = finish(tree, duplicates.clone(), &row.kind, &row.form, validation)?;
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
        // Checked as any input, but merged as it was given: only what stands there is owned.
        let checked = finish(config.clone(), duplicates, &row.kind, &row.form, self.options.field_validation)?;
        if let Some(members) = config.as_object_mut() {
            members.remove("kind");
            members.remove("apiVersion");
        }
        let mut config = drop_unknown(config, &row.form)?;
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

/// What the schema does not know is not merged.
fn drop_unknown(config: Value, form: &crate::registry::table::Form) -> Result<Value> {
    fn known(value: Value, node: apimachinery::schema::Node<'_>) -> Value {
        match value {
            Value::Object(members) => members
                .into_iter()
                .filter_map(|(name, value)| node.member(&name).map(|node| (name, known(value, node))))
                .collect::<Map<_, _>>()
                .into(),
            Value::Array(items) => items.into_iter().map(|item| known(item, node.item())).collect(),
            other => other,
        }
    }
    Ok(known(config, form.node()))
}

fn undecodable(why: &str) -> Status {
    Status::bad_request(format!("error decoding patch: {why}"))
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
