//! Objects as they lie in etcd: protobuf in its envelope for built-in kinds, JSON or CBOR for custom resources. All are read
//! wherever they are found, so that an upstream API server and ours can share one etcd.

use super::StorageError;
use apimachinery::Value;
use apimachinery::codec::{Ordered, Report, cbor, envelope, json, normalize, proto};
use apimachinery::schema::{GroupVersionKind, Schema, Shape};

/// Encodings of stored objects. Custom resources have no protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    Json,
    Protobuf,
    Cbor,
}

/// How objects of either sort are written.
#[derive(Clone, Copy, Debug)]
pub struct Media {
    /// `--storage-media-type`
    pub builtin: MediaType,
    /// JSON, or CBOR where CBORServingAndStorage is on.
    pub custom: MediaType,
}

/// The bytes of an object in normal form; its resourceVersion, which etcd itself keeps, is left out.
pub fn encode(media: Media, kind: &GroupVersionKind, object: &mut Value) -> Vec<u8> {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    let schema = Schema::builtin();
    let ty = schema.kind(&kind.group, &kind.version, &kind.kind);
    match (if ty.is_some() { media.builtin } else { media.custom }, ty) {
        (MediaType::Protobuf, Some(ty)) => {
            envelope::seal(&kind.api_version(), &kind.kind, |out| proto::encode(schema, ty.id, object, out))
        }
        (media, ty) => {
            // Nothing but the object itself says what it is.
            if let Some(members) = object.as_object_mut() {
                members.insert("kind".into(), kind.kind.as_str().into());
                members.insert("apiVersion".into(), kind.api_version().into());
            }
            if media == MediaType::Cbor {
                let mut out = Vec::new();
                cbor::encode(schema, ty.map(|ty| Shape::Struct(ty.id)).as_ref(), object, &mut out);
                return out;
            }
            match ty.map(|ty| Shape::Struct(ty.id)) {
                Some(shape) => serde_json::to_vec(&Ordered::new(schema, &shape, object)),
                None => serde_json::to_vec(object),
            }
            .unwrap_or_default()
        }
    }
}

/// The object in stored bytes, in whatever version it was written; `apiVersion` and `kind` say which.
pub fn decode(key: &str, bytes: &[u8]) -> Result<Value, StorageError> {
    let corrupt = |why: String| StorageError::Corrupt { key: key.to_owned(), why };
    let schema = Schema::builtin();
    match envelope::open(bytes) {
        Some(opened) => {
            let opened = opened.map_err(|e| corrupt(e.to_string()))?;
            let (group, version) = GroupVersionKind::split_api_version(opened.api_version);
            let ty = schema
                .kind(group, version, opened.kind)
                .ok_or_else(|| corrupt(format!("unknown kind {} {}", opened.api_version, opened.kind)))?;
            let mut value = proto::decode(schema, ty.id, opened.raw).map_err(|e| corrupt(e.to_string()))?;
            normalize(schema, ty, &mut value, &mut Report::default()).map_err(|e| corrupt(e.to_string()))?;
            if let Some(members) = value.as_object_mut() {
                members.insert("apiVersion".into(), opened.api_version.into());
                members.insert("kind".into(), opened.kind.into());
            }
            Ok(value)
        }
        None => {
            let mut value = if cbor::is_self_described(bytes) {
                cbor::parse(bytes).map_err(|e| corrupt(e.to_string()))?
            } else {
                json::parse(bytes).map_err(|e| corrupt(e.to_string()))?.value
            };
            let (group, version) = GroupVersionKind::split_api_version(value["apiVersion"].as_str().unwrap_or(""));
            if let Some(ty) = value["kind"].as_str().and_then(|kind| schema.kind(group, version, kind)) {
                normalize(schema, ty, &mut value, &mut Report::default()).map_err(|e| corrupt(e.to_string()))?;
            }
            Ok(value)
        }
    }
}
