//! Objects and lists in the form the client asked for. The common case, JSON of the stored version, copies bytes and parses
//! nothing.

use super::compress;
use super::negotiate::{Accepted, Encoding, View};
use super::response::{Response, respond};
use super::table::{self, IncludeObject};
use crate::api::Endpoint;
use crate::warnings::warn;
use crate::write::{Stored, Written};
use apimachinery::Value;
use apimachinery::codec::{Ordered, cbor, envelope, proto};
use apimachinery::schema::{GroupVersionKind, Schema, Shape};
use bytes::Bytes;
use component_base::serving;
use http::StatusCode;
use http::header::HeaderValue;
use registry::conversion::convert;
use registry::edit::typed;
use registry::resource::Form;
use request::status::{Result, Status};
use serde_json::json;
use storage::object::Object;

/// How to print the objects of one endpoint for one request.
#[derive(Clone)]
pub struct Renderer {
    pub endpoint: std::sync::Arc<Endpoint>,
    pub accepted: Accepted,
    pub include: IncludeObject,
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

impl Renderer {
    fn kind(&self) -> &GroupVersionKind {
        &self.endpoint.row.kind
    }

    /// Objects come here in the version asked for.
    pub fn is_stored_version(&self) -> bool {
        // Versions of custom resources are converted before they come here.
        self.endpoint.row.is_custom() || self.endpoint.row.storage.as_ref().is_some_and(|s| s.kind == *self.kind())
    }

    /// A whole object as JSON in the stored version: bytes can be copied.
    pub fn is_plain(&self) -> bool {
        self.accepted.encoding == Encoding::Json
            && self.accepted.view == View::Whole
            && !self.accepted.pretty
            && self.is_stored_version()
    }

    /// A whole object as protobuf in the stored version: bytes that are kept with the object.
    pub fn is_stored_proto(&self) -> bool {
        self.accepted.encoding == Encoding::Protobuf
            && self.accepted.view == View::Whole
            && self.is_stored_version()
            && !self.endpoint.row.is_custom()
    }

    /// The object in the version of the request, with `kind` and `apiVersion`.
    pub fn tree(&self, object: &Object) -> Value {
        let mut tree = object.tree();
        if let Some(storage) = &self.endpoint.row.storage
            && !self.endpoint.row.is_custom()
        {
            convert(&storage.kind, self.kind(), &mut tree);
        }
        typed(tree, self.kind())
    }

    /// A cached object as the body of a GET.
    pub fn object(&self, object: &Object) -> Result<Bytes> {
        if self.is_plain() {
            let rest = object.json.get(1..).unwrap_or_default();
            return Ok([&self.endpoint.row.prefix(), rest, b"\n".as_slice()].concat().into());
        }
        if self.is_stored_proto() {
            return Ok(envelope::seal(&self.kind().api_version(), &self.kind().kind, |out| {
                out.extend_from_slice(&object.proto(self.kind()));
            })
            .into());
        }
        self.value(self.tree(object), &json!({"resourceVersion": object.revision.to_string()}))
    }

    /// An object in the version of the request, in the view asked for. `list_meta` is what a table of it says of itself.
    pub fn value(&self, object: Value, list_meta: &Value) -> Result<Bytes> {
        match self.accepted.view {
            View::Whole => self.encode(self.kind(), Some(&self.endpoint.row.form), object),
            View::Metadata => self.encode(&meta("PartialObjectMetadata"), None, table::partial(object)),
            View::Table => {
                let row = table::table_row(&self.endpoint.row, object, self.include, now());
                self.encode(&meta("Table"), None, self.table(vec![row], list_meta, true))
            }
            View::MetadataList => {
                Err(Status::not_acceptable("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"))
            }
        }
    }

    /// A table; column definitions are left out of all but the first piece of a watch.
    pub fn table(&self, rows: Vec<Value>, list_meta: &Value, with_columns: bool) -> Value {
        let columns = if with_columns { table::columns(&self.endpoint.row) } else { Value::Null };
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta, "columnDefinitions": columns, "rows": rows})
    }

    /// One item of a list or event of a watch, in the view asked for.
    pub fn item(&self, object: &Object) -> Value {
        self.view(self.tree(object))
    }

    /// A tree with `kind` and `apiVersion`, in the view asked for.
    pub fn view(&self, tree: Value) -> Value {
        match self.accepted.view {
            View::Whole => tree,
            View::Metadata | View::MetadataList => table::partial(tree),
            View::Table => table::table_row(&self.endpoint.row, tree, self.include, now()),
        }
    }

    /// Any value of a kind, in the encoding asked for.
    pub fn encode(&self, kind: &GroupVersionKind, form: Option<&Form>, value: Value) -> Result<Bytes> {
        encode(self.accepted, kind, form, value)
    }

    /// A value of a kind as compact JSON, with nothing behind it.
    pub fn json(&self, kind: &GroupVersionKind, value: Value) -> Bytes {
        let own = *kind == self.endpoint.row.kind;
        let shape = shape_of(kind, own.then_some(&self.endpoint.row.form));
        json(shape.as_ref(), &value, false).into()
    }

    /// The answer to a write.
    pub fn written(&self, written: Written) -> Result<Response> {
        let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        let bytes = match written.object {
            Stored::Object(object) => self.object(&object)?,
            Stored::Tree(tree) => self.value(typed(tree, &self.endpoint.row.kind), &json!({}))?,
        };
        Ok(warn(self.respond(code, bytes), &written.warnings))
    }

    pub fn respond(&self, code: StatusCode, bytes: Bytes) -> Response {
        let content_type = self.accepted.encoding.content_type();
        if self.accepted.gzip && bytes.len() > compress::THRESHOLD {
            return compress::full(code, content_type, bytes);
        }
        respond(code, content_type, serving::full(bytes))
    }
}

/// Any value in an encoding. `form` is what the table says of it; none finds the type by `kind`.
pub fn encode(accepted: Accepted, kind: &GroupVersionKind, form: Option<&Form>, value: Value) -> Result<Bytes> {
    let schema = Schema::builtin();
    let shape = shape_of(kind, form);
    Ok(match accepted.encoding {
        Encoding::Json => {
            let mut bytes = json(shape.as_ref(), &value, accepted.pretty);
            bytes.push(b'\n'); // clients that compare texts and people at terminals expect it
            bytes.into()
        }
        Encoding::Cbor => {
            let mut out = Vec::new();
            cbor::encode(schema, shape.as_ref(), &value, &mut out);
            out.into()
        }
        Encoding::Yaml => serde_yaml_ng::to_string(&value).unwrap_or_default().into(),
        Encoding::Protobuf => {
            let Some(Shape::Struct(id)) = shape else {
                return Err(Status::not_acceptable("application/json, application/yaml"));
            };
            envelope::seal(&kind.api_version(), &kind.kind, |out| proto::encode(schema, id, &value, out)).into()
        }
    })
}

/// The type of a value of a kind. `form` is what the table says of it; none finds the type by `kind`.
pub fn shape_of(kind: &GroupVersionKind, form: Option<&Form>) -> Option<Shape> {
    match form {
        Some(Form::Builtin(shape)) => Some(shape.clone()),
        Some(Form::Custom(_)) => None,
        None => Schema::builtin().kind(&kind.group, &kind.version, &kind.kind).map(|ty| Shape::Struct(ty.id)),
    }
}

/// JSON with members in the order of a type, or by name if there is none.
pub fn json(shape: Option<&Shape>, value: &Value, pretty: bool) -> Vec<u8> {
    let ordered = shape.map(|shape| Ordered::new(Schema::builtin(), shape, value));
    let written = match (ordered, pretty) {
        (Some(ordered), false) => serde_json::to_vec(&ordered),
        (Some(ordered), true) => serde_json::to_vec_pretty(&ordered),
        (None, false) => serde_json::to_vec(value),
        (None, true) => serde_json::to_vec_pretty(value),
    };
    written.unwrap_or_default()
}

pub fn meta(kind: &str) -> GroupVersionKind {
    GroupVersionKind::new("meta.k8s.io", "v1", kind)
}

/// An error as the client asked for answers.
pub fn status_response(status: &Status, accepted: Option<Accepted>) -> Response {
    let kind = GroupVersionKind::new("", "v1", "Status");
    let accepted =
        accepted.unwrap_or(Accepted { encoding: Encoding::Json, view: View::Whole, pretty: false, gzip: false });
    let body = encode(accepted, &kind, None, status.body()).unwrap_or_default();
    let mut response = respond(status.code, accepted.encoding.content_type(), serving::full(body));
    let retry = status.details.as_ref().and_then(|d| d.get("retryAfterSeconds")).and_then(Value::as_i64);
    if let Some(seconds) = retry {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    warn(response, &status.warnings)
}
