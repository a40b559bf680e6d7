//! The body of a list, made item by item as it is sent: what is in memory at once is a piece of it, never a second copy of all
//! objects. Only YAML and indented JSON, which people read, are made whole.

use super::Response;
use super::compress::{THRESHOLD, gzip};
use super::negotiate::{Accepted, Encoding, View};
use super::render::{Renderer, encode, json, meta, shape_of, status_response};
use super::response::respond;
use super::table;
use apimachinery::Value;
use apimachinery::codec::{cbor, envelope, proto, wire};
use apimachinery::schema::{GroupVersionKind, Schema, Shape};
use bytes::{Bytes, BytesMut};
use component_base::serving;
use futures::stream;
use http::StatusCode;
use registry::resource::Form;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use storage::object::Object;

/// Bytes of a list that are put together at once; more than that is large.
const PIECE: usize = THRESHOLD + 1;

/// A list of cached objects as the client wants it.
pub fn respond_objects(renderer: Renderer, objects: Vec<Arc<Object>>, metadata: &Value) -> Response {
    let accepted = renderer.accepted;
    let kind = list_kind(&renderer);
    match (accepted.encoding, accepted.view) {
        (Encoding::Json, _) if !accepted.pretty => {
            let plain = renderer.is_plain();
            let (head, tail) = json_head(&renderer, &kind, metadata);
            let of = item_shape(&renderer);
            let body = Pieces {
                head,
                tail,
                separator: b",",
                put: move |object: &Object, out: &mut BytesMut| match plain {
                    true => put_plain(&renderer, object, out),
                    false => {
                        let item = listed(&renderer, renderer.item(object));
                        out.extend_from_slice(&json(of.as_ref(), &item, false));
                    }
                },
            };
            body.respond(accepted, objects)
        }
        (Encoding::Protobuf, _) if renderer.is_stored_proto() => {
            let of = renderer.endpoint.row.kind.clone();
            let mut items = 0;
            for object in &objects {
                let length = object.proto(&of).len();
                items += 1 + varint_length(length) + length;
            }
            let (head, tail) = proto_head(&kind, metadata, items);
            let put = move |object: &Object, out: &mut BytesMut| {
                let mut field = Vec::with_capacity(8);
                wire::put_head(&mut field, 2, object.proto(&of).len());
                out.extend_from_slice(&field);
                out.extend_from_slice(&object.proto(&of));
            };
            Pieces { head, tail, separator: b"", put }.respond(accepted, objects)
        }
        (Encoding::Cbor, _) => {
            let (head, tail) = cbor_head(&renderer, &kind, metadata, objects.len());
            let put = move |object: &Object, out: &mut BytesMut| {
                let shape = match (&renderer.endpoint.row.form, accepted.view) {
                    (Form::Builtin(shape), View::Whole) => Some(shape),
                    _ => None,
                };
                let mut item = Vec::new();
                cbor::put(Schema::builtin(), shape, &listed(&renderer, renderer.item(object)), &mut item);
                out.extend_from_slice(&item);
            };
            Pieces { head, tail, separator: b"", put }.respond(accepted, objects)
        }
        _ => {
            let items = objects.iter().map(|o| renderer.item(o)).collect();
            respond_items(&renderer, items, metadata)
        }
    }
}

/// A list of items that are in the view asked for already.
pub fn respond_items(renderer: &Renderer, items: Vec<Value>, metadata: &Value) -> Response {
    let kind = list_kind(renderer);
    let value = match renderer.accepted.view {
        View::Table => renderer.table(items, metadata, true),
        _ => {
            let items: Value = items.into_iter().map(|item| listed(renderer, item)).collect();
            json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata, "items": items})
        }
    };
    match encode(renderer.accepted, &kind, None, value) {
        Ok(bytes) => renderer.respond(StatusCode::OK, bytes),
        Err(status) => status_response(&status, Some(renderer.accepted)),
    }
}

/// What a list in the view asked for is.
fn list_kind(renderer: &Renderer) -> GroupVersionKind {
    let row = &renderer.endpoint.row;
    match renderer.accepted.view {
        View::Table => meta("Table"),
        View::Metadata | View::MetadataList => meta("PartialObjectMetadataList"),
        View::Whole => GroupVersionKind { kind: row.list_kind.clone(), ..row.kind.clone() },
    }
}

/// The type of the items of a list, or of the rows of a table.
fn item_shape(renderer: &Renderer) -> Option<Shape> {
    let name = match renderer.accepted.view {
        View::Table => "k8s.io.apimachinery.pkg.apis.meta.v1.TableRow",
        View::Metadata | View::MetadataList => "k8s.io.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata",
        View::Whole => return shape_of(&renderer.endpoint.row.kind, Some(&renderer.endpoint.row.form)),
    };
    Schema::builtin().by_name(name).map(|ty| Shape::Struct(ty.id))
}

/// An item as it stands in a list: what the list says for all, items of built-in kinds leave out.
fn listed(renderer: &Renderer, mut item: Value) -> Value {
    if renderer.accepted.view == View::Whole
        && !renderer.endpoint.row.is_custom()
        && let Some(members) = item.as_object_mut()
    {
        members.remove("kind");
        members.remove("apiVersion");
    }
    item
}

fn put_plain(renderer: &Renderer, object: &Object, out: &mut BytesMut) {
    if renderer.endpoint.row.is_custom() {
        out.extend_from_slice(&renderer.endpoint.row.prefix());
        out.extend_from_slice(object.json.get(1..).unwrap_or_default());
    } else {
        out.extend_from_slice(&object.json);
    }
}

/// What stands before and behind the items of a list in JSON: the list without items, cut where they belong.
fn json_head(renderer: &Renderer, kind: &GroupVersionKind, metadata: &Value) -> (Bytes, Bytes) {
    let (list, name) = match renderer.accepted.view {
        View::Table => (renderer.table(vec![], metadata, true), "rows"),
        _ => (json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata, "items": []}), "items"),
    };
    let text = renderer.json(kind, list);
    let empty = format!("\"{name}\":[]");
    // Quotes inside strings are escaped, so only the member itself looks so.
    let at = text.windows(empty.len()).position(|part| part == empty.as_bytes()).unwrap_or_default() + empty.len() - 1;
    let mut tail = text.slice(at..).to_vec();
    tail.push(b'\n');
    (text.slice(..at), tail.into())
}

/// What stands before and behind the items of a list in CBOR: its members in order, those with shorter names first.
fn cbor_head(renderer: &Renderer, kind: &GroupVersionKind, metadata: &Value, items: usize) -> (Bytes, Bytes) {
    let schema = Schema::builtin();
    let is_table = renderer.accepted.view == View::Table;
    let member = |name: &str, value: &Value, out: &mut Vec<u8>| {
        cbor::put_name(name, out);
        cbor::put(schema, None, value, out);
    };
    let (mut head, mut tail) = (cbor::SELF_DESCRIBED.to_vec(), Vec::new());
    cbor::put_map(if is_table { 5 } else { 4 }, &mut head);
    member("kind", &kind.kind.as_str().into(), &mut head);
    cbor::put_name(if is_table { "rows" } else { "items" }, &mut head);
    cbor::put_array(items, &mut head);
    member("metadata", metadata, &mut tail);
    member("apiVersion", &kind.api_version().into(), &mut tail);
    if is_table {
        member("columnDefinitions", &table::columns(&renderer.endpoint.row), &mut tail);
    }
    (head.into(), tail.into())
}

/// What stands before and behind the items of a list in its envelope. The list's message is its metadata (field 1) and its items
/// (field 2, `items` bytes of them).
fn proto_head(kind: &GroupVersionKind, metadata: &Value, items: usize) -> (Bytes, Bytes) {
    let schema = Schema::builtin();
    let mut start = Vec::new();
    if let Some(ty) = schema.kind(&kind.group, &kind.version, &kind.kind) {
        proto::encode(schema, ty.id, &json!({"metadata": metadata, "items": []}), &mut start);
    }
    let (mut head, tail) = envelope::around(&kind.api_version(), &kind.kind, start.len() + items);
    head.extend_from_slice(&start);
    (head.into(), tail.into())
}

fn varint_length(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// A body of a head, objects with a separator between them, and a tail.
struct Pieces<F> {
    head: Bytes,
    tail: Bytes,
    separator: &'static [u8],
    put: F,
}

impl<F: FnMut(&Object, &mut BytesMut) + Send + 'static> Pieces<F> {
    /// Sends it; compressed, if the client takes that and there is more than one piece.
    fn respond(self, accepted: Accepted, objects: Vec<Arc<Object>>) -> Response {
        let mut pieces = self.stream(objects);
        let first = pieces.next().unwrap_or_default();
        let large = first.len() > THRESHOLD;
        let pieces = std::iter::once(first).chain(pieces);
        let content_type = accepted.encoding.content_type();
        if accepted.gzip && large {
            return gzip(StatusCode::OK, content_type, pieces);
        }
        respond(StatusCode::OK, content_type, serving::stream(stream::iter(pieces.map(Ok::<Bytes, Infallible>))))
    }

    fn stream(mut self, objects: Vec<Arc<Object>>) -> impl Iterator<Item = Bytes> + Send + 'static {
        let mut objects = objects.into_iter();
        let mut buffer = BytesMut::from(&*self.head);
        let (mut first, mut done) = (true, false);
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            for object in objects.by_ref() {
                if !std::mem::take(&mut first) {
                    buffer.extend_from_slice(self.separator);
                }
                (self.put)(&object, &mut buffer);
                if buffer.len() >= PIECE {
                    return Some(buffer.split().freeze());
                }
            }
            done = true;
            buffer.extend_from_slice(&self.tail);
            Some(buffer.split().freeze())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::object::Layout;

    #[test]
    fn a_streamed_protobuf_list_is_the_list_encoded_at_once() {
        let of = GroupVersionKind::new("", "v1", "ConfigMap");
        let objects: Vec<Arc<Object>> = (0..300)
            .map(|n| {
                let tree = json!({"metadata": {"name": format!("m{n}")}, "data": {"k": "v".repeat(n)}});
                Arc::new(Object::new(&format!("a/m{n}"), n as u64 + 1, tree, &Layout::default()))
            })
            .collect();
        let kind = GroupVersionKind::new("", "v1", "ConfigMapList");
        let metadata = json!({"resourceVersion": "7"});
        let schema = Schema::builtin();
        let ty = schema.kind("", "v1", "ConfigMapList").unwrap();
        let items: Vec<Value> = objects.iter().map(|o| o.tree()).collect();
        let whole = envelope::seal("v1", "ConfigMapList", |out| {
            proto::encode(schema, ty.id, &json!({"metadata": metadata, "items": items}), out);
        });
        let size = objects.iter().map(|o| 1 + varint_length(o.proto(&of).len()) + o.proto(&of).len()).sum();
        let (head, tail) = proto_head(&kind, &metadata, size);
        let put = move |object: &Object, out: &mut BytesMut| {
            let mut field = Vec::new();
            wire::put_head(&mut field, 2, object.proto(&of).len());
            out.extend_from_slice(&field);
            out.extend_from_slice(&object.proto(&of));
        };
        let pieces: Vec<Bytes> = Pieces { head, tail, separator: b"", put }.stream(objects).collect();
        assert_eq!(pieces.concat(), whole);
    }
}
