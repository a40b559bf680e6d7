//! What of the libraries reads bytes from outside: one row each.

use crate::Target;
use apimachinery::apply::managed::{self, FieldManager};
use apimachinery::apply::{FieldSet, PathElement, extract, fieldsv1};
use apimachinery::codec::{self, Report, cbor, envelope, json, normalize, proto, yaml};
use apimachinery::jsonpath::JsonPath;
use apimachinery::patch::{json_patch, merge_patch, strategic_merge_patch};
use apimachinery::quantity::Quantity;
use apimachinery::schema::{GroupVersionKind, Node, Schema, Shape, Structural, Type};
use apimachinery::selector::{FieldSelector, LabelSelector};
use apimachinery::validation::{Cursor, Errors};
use apimachinery::{Value, time};
use kubernetes_cel::{CALL_COST_MAX, Env, Program, Value as CelValue, cost, schema};
use spdy::{Decoder, Encoder, Frame};

/// Names that objects are made of.
const MEMBERS: &[&str] = &[
    "metadata",
    "name",
    "labels",
    "spec",
    "status",
    "containers",
    "ports",
    "containerPort",
    "protocol",
    "TCP",
    "env",
    "value",
    "volumes",
    "kind",
    "apiVersion",
    "v1",
    "Pod",
    "$patch",
    "delete",
    "replace",
    "merge",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "finalizers",
    "managedFields",
    "fieldsV1",
    "f:metadata",
    "k:{\"name\":\"a\"}",
    "v:1",
    "i:0",
    ".",
    "creationTimestamp",
    "annotations",
    "ownerReferences",
    "resources",
    "limits",
    "cpu",
    "1Gi",
];
const PATCH: &[&str] = &[
    "add",
    "remove",
    "replace",
    "move",
    "copy",
    "test",
    "op",
    "path",
    "from",
    "value",
    "/-",
    "/0",
    "~0",
    "~1",
    "/metadata",
];
const SELECTOR: &[&str] = &[
    " in ",
    " notin ",
    "(",
    ")",
    ",",
    "==",
    "!=",
    "=",
    "!",
    "exists",
    "a.b/c",
    " gt ",
    "<",
    ">",
    "\\,",
    "metadata.name",
];
const SCHEMA: &[&str] = &[
    "type",
    "object",
    "array",
    "string",
    "integer",
    "number",
    "boolean",
    "properties",
    "items",
    "additionalProperties",
    "required",
    "enum",
    "pattern",
    "format",
    "minimum",
    "maxLength",
    "multipleOf",
    "default",
    "nullable",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "map",
    "set",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "date-time",
    "duration",
    "byte",
    "uuid",
    "(a+)+$",
    "uniqueItems",
    "minItems",
];
const CEL: &[&str] = &[
    "o.",
    "o.l",
    "o.m",
    "o.s",
    ".all(x, ",
    ".exists(x, ",
    ".map(x, ",
    ".filter(x, ",
    ".size()",
    "size(",
    "has(o.i)",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    " ? ",
    " : ",
    " && ",
    " || ",
    "!",
    "-",
    " + ",
    " * ",
    " / ",
    " % ",
    " == ",
    " in ",
    "1",
    "0",
    "-9223372036854775808",
    "18446744073709551615u",
    "1e308",
    "'a'",
    "b'\\xff'",
    "r'\\d'",
    "\"\"\"",
    "timestamp('2024-01-01T00:00:00Z')",
    "duration('1h')",
    "int(",
    "uint(",
    "double(",
    "string(",
    "dyn(",
    "type(",
    ".matches('(a*)*')",
    ".replace('a', 'b')",
    ".split('')",
    ".join(',')",
    ".substring(1)",
    ".format([1])",
    "'%s %d %.3f %x'",
    ".sum()",
    ".min()",
    ".indexOf(1)",
    ".sort()",
    "quantity('1Gi')",
    "ip('::1')",
    "cidr('10.0.0.0/8')",
    "url('http://a')",
    "optional.of(1)",
    ".?a",
    "[?0]",
    ".orValue(1)",
    ".getFullYear('America/New_York')",
    ".lowerAscii()",
    "cel.bind(x, ",
    "sets.contains([1], [2])",
    "semver('1.2.3')",
    "format.dns1123Label().value().validate('a')",
    ".transformList(i, v, ",
    ".isSorted()",
    ".reverse()",
    "flatten()",
];

pub const ALL: [Target; 15] = [
    Target { name: "json", words: MEMBERS, run: |parts| body(json::parse(parts[0]).map(|p| p.value).ok()) },
    Target { name: "yaml", words: MEMBERS, run: |parts| body(yaml::parse_yaml(parts[0]).map(|p| p.value).ok()) },
    Target { name: "cbor", words: &["\u{0}", "\u{1b}", "\u{1f}", "\u{7f}", "metadata", "a", "v1"], run: cbor_items },
    Target { name: "protobuf", words: &["k8s\0", "\u{1}", "\n", "\u{12}", "v1", "Pod"], run: protobuf },
    Target { name: "json_patch", words: PATCH, run: json_patched },
    Target { name: "merge_patch", words: MEMBERS, run: merge_patched },
    Target { name: "strategic", words: MEMBERS, run: strategic },
    Target { name: "apply", words: MEMBERS, run: apply },
    Target {
        name: "fields",
        words: &["f:a", "k:{\"a\":1}", "v:\"x\"", "i:1", ".", "f:", "k:", "v:", "i:-1", "k:{}"],
        run: fields,
    },
    Target { name: "selectors", words: SELECTOR, run: selectors },
    Target { name: "structural", words: SCHEMA, run: structural },
    Target { name: "cel", words: CEL, run: cel },
    Target {
        name: "jsonpath",
        words: &[
            "..", "[*]", "[?(@.", "==", ")]", "[0:1:2]", "['", "']", ",", "@", "\\", "{", "}", "'a'", "[-1]", ".*",
            "true",
        ],
        run: jsonpath,
    },
    Target {
        name: "spdy",
        words: &["\u{0}", "\u{1}", "\u{3}", "\u{7f}", "streamtype", "\u{0}\u{0}\u{0}\u{0}", "stdin", "x\u{1}"],
        run: spdy_frames,
    },
    Target {
        name: "scalars",
        words: &["E", "e", "Ki", "m", "n", "-", "+", ".", "T", "Z", ":", "+00:00", "999999999999999999"],
        run: scalars,
    },
];

fn text<'a>(part: &'a [u8]) -> std::borrow::Cow<'a, str> {
    String::from_utf8_lossy(part)
}

/// A part as a tree; what is none is left out.
fn tree(part: &[u8]) -> Option<Value> {
    json::parse(part).ok().map(|parsed| parsed.value)
}

fn pod() -> &'static Type {
    Schema::builtin().by_name("k8s.io.api.core.v1.Pod").unwrap_or_else(|| panic!("there are pods"))
}

/// The type of an object that names its kind; else it is taken as a pod.
fn type_of(object: &Value) -> &'static Type {
    let (group, version) = GroupVersionKind::split_api_version(object["apiVersion"].as_str().unwrap_or(""));
    Schema::builtin().kind(group, version, object["kind"].as_str().unwrap_or("")).unwrap_or_else(pod)
}

/// An object that was sent: it is brought into normal form, which stays what it is, also by way of protobuf.
fn body(object: Option<Value>) {
    let schema = Schema::builtin();
    let Some(mut object) = object.filter(Value::is_object) else { return };
    let ty = type_of(&object);
    if normalize(schema, ty, &mut object, &mut Report::default()).is_err() {
        return;
    }
    let mut again = object.clone();
    let result = normalize(schema, ty, &mut again, &mut Report::default());
    assert!(result.is_ok(), "normal form is refused: {result:?}: {object}");
    assert_eq!(again, object, "normal form changes");
    let mut bytes = Vec::new();
    proto::encode(schema, ty.id, &object, &mut bytes);
    let mut decoded =
        proto::decode(schema, ty.id, &bytes).unwrap_or_else(|e| panic!("what was encoded is refused: {e}: {object}"));
    let _ = normalize(schema, ty, &mut decoded, &mut Report::default());
    extract::fields(&object, Node::of_type(ty.id));
}

/// What was read is read again as it is written, and an object in CBOR is an object as any other.
fn cbor_items(parts: &[&[u8]]) {
    let Ok(value) = cbor::parse(parts[0]) else { return };
    let mut bytes = Vec::new();
    cbor::encode(Schema::builtin(), None, &value, &mut bytes);
    // Depth is counted with the tag.
    if let Ok(again) = cbor::parse(&bytes) {
        assert_eq!(again, value, "not read as it was written");
    } else {
        assert!(codec::depth(&value) + 1 >= cbor::DEPTH_MAX, "what was written is refused: {value}");
    }
    let kind = Shape::Struct(type_of(&value).id);
    bytes.clear();
    cbor::encode(Schema::builtin(), Some(&kind), &value, &mut bytes);
    let _ = cbor::parse(&bytes);
    body(Some(value));
}

fn protobuf(parts: &[&[u8]]) {
    let schema = Schema::builtin();
    let Some(Ok(opened)) = envelope::open(parts[0]) else { return };
    let (group, version) = GroupVersionKind::split_api_version(opened.api_version);
    let ty = schema.kind(group, version, opened.kind).unwrap_or_else(pod);
    let Ok(mut object) = proto::decode(schema, ty.id, opened.raw) else { return };
    if normalize(schema, ty, &mut object, &mut Report::default()).is_ok() {
        let mut bytes = Vec::new();
        proto::encode(schema, ty.id, &object, &mut bytes);
        let again = proto::decode(schema, ty.id, &bytes);
        assert!(again.is_ok(), "what was encoded is refused: {again:?}");
    }
}

fn json_patched(parts: &[&[u8]]) {
    if let (Some(mut document), Some(patch)) = (tree(parts[0]), tree(parts[1])) {
        let _ = json_patch(&mut document, patch);
    }
}

fn merge_patched(parts: &[&[u8]]) {
    if let (Some(mut document), Some(patch)) = (tree(parts[0]), tree(parts[1])) {
        merge_patch(&mut document, &patch);
        let once = document.clone();
        merge_patch(&mut document, &patch);
        assert_eq!(document, once, "applied twice is not applied once");
    }
}

fn strategic(parts: &[&[u8]]) {
    let (Some(mut object), Some(patch)) = (tree(parts[0]), tree(parts[1])) else { return };
    let ty = type_of(&object);
    let _ = strategic_merge_patch(&mut object, patch, Node::of_type(ty.id));
    body(Some(object));
}

/// What is stored (with whatever managed fields), and what is sent: as an update and as an apply.
fn apply(parts: &[&[u8]]) {
    let (Some(mut live), Some(mut config)) = (tree(parts[0]), tree(parts[1])) else { return };
    let (schema, ty) = (Schema::builtin(), type_of(&live));
    for object in [&mut live, &mut config] {
        if !object.is_object() || normalize(schema, ty, object, &mut Report::default()).is_err() {
            return;
        }
    }
    let _ = managed::decode(live["metadata"].get("managedFields"));
    let manager = FieldManager {
        node: Node::of_type(ty.id),
        zero: &serde_json::json!({"metadata": {}}),
        manager: "fuzz",
        api_version: "v1",
        subresource: "",
        now: "2024-01-01T00:00:00Z",
        reset: &FieldSet::new(),
        convert: &|_, _| None,
    };
    let mut updated = config.clone();
    manager.update(&live, &mut updated);
    if let Ok(applied) = manager.apply(&live, &config, true) {
        // Nobody else wrote since: nothing conflicts.
        assert!(manager.apply(&applied, &config, false).is_ok(), "the same again conflicts: {applied} {config}");
    }
}

fn fields(parts: &[&[u8]]) {
    let _ = PathElement::parse(&text(parts[0]));
    let Some(set) = tree(parts[0]).and_then(|fields| fieldsv1::decode(&fields).ok()) else { return };
    assert_eq!(fieldsv1::decode(&fieldsv1::encode(&set)).ok(), Some(set.clone()), "not read as it is written");
    if let Some(other) = tree(parts[1]).and_then(|fields| fieldsv1::decode(&fields).ok()) {
        assert!(set.difference(&other).intersection(&other).is_empty());
        assert_eq!(set.union(&other), other.union(&set));
    }
}

fn selectors(parts: &[&[u8]]) {
    let text = text(parts[0]);
    if let Ok(selector) = LabelSelector::parse(&text) {
        let shown = selector.to_string();
        assert_eq!(LabelSelector::parse(&shown).ok(), Some(selector), "shown as {shown:?}");
    }
    if let Ok(selector) = FieldSelector::parse(&text) {
        selector.matches(|_| Some("a"));
    }
    let _ = LabelSelector::from_object(tree(parts[0]).as_ref());
}

fn structural(parts: &[&[u8]]) {
    let Some(definition) = tree(parts[0]) else { return };
    let schema = Structural::read(&definition);
    schema::declare(&schema, true);
    schema::bytes_min(&schema);
    schema::places(&schema);
    let Some(mut object) = tree(parts[1]) else { return };
    if schema.normalize(&mut object, &mut Report::default()).is_err() {
        return;
    }
    schema.fill_in(&mut object);
    let errors = Errors::default();
    schema.validate(&Cursor::root(&object, &errors));
    let fields = extract::fields(&object, Node::custom(&schema));
    assert_eq!(fieldsv1::decode(&fieldsv1::encode(&fields)).ok(), Some(fields));
}

fn cel(parts: &[&[u8]]) {
    let env = Env::new(&[("o", kubernetes_cel::Type::Dyn)]);
    let Ok(program) = Program::compile(&text(parts[0]), &env) else { return };
    cost::estimate(&program);
    let object = tree(parts[1]).unwrap_or_else(|| {
        serde_json::json!({"i": 3, "d": 1.5, "s": "héllo", "l": [1, 2, 3], "m": {"a": 1, "b": 2}, "n": null, "e": [], "names": ["b", "a"]})
    });
    let values = [CelValue::untyped(&object)];
    if let Ok(value) = program.run(values.as_slice(), CALL_COST_MAX).result {
        value.to_json();
    }
}

/// A path and an object.
fn jsonpath(parts: &[&[u8]]) {
    let Ok(path) = JsonPath::parse(&text(parts[0])) else { return };
    let object = tree(parts[1])
        .unwrap_or_else(|| serde_json::json!({"a": [{"b": "x", "c": 1}, {"b": "y"}], "d": {"e": [1, 2, 3]}}));
    let _ = path.find(&object);
}

fn scalars(parts: &[&[u8]]) {
    let text = text(parts[0]);
    if let Ok(quantity) = Quantity::parse(&text) {
        let shown = quantity.to_string();
        // Beyond the digits of an i128 an amount is rounded, each time that it is read.
        let again = Quantity::parse(&shown).map(|again| again.to_string());
        assert!(text.len() > 38 || again.as_ref() == Ok(&shown), "{again:?} of {shown:?} of {text:?}");
        let _ = (quantity.value(), quantity.milli_value(), quantity.as_f64());
    }
    for canonical in [time::canonical_time, time::canonical_micro_time] {
        if let Some(shown) = canonical(&text) {
            assert_eq!(canonical(&shown).as_deref(), Some(&*shown), "of {text:?}");
        }
    }
}

/// Bytes of a connection, cut at two places: the cut does not matter, and what was read is read again as it is written.
fn spdy_frames(parts: &[&[u8]]) {
    let read = |pieces: &[&[u8]]| {
        let (mut decoder, mut frames, mut data) = (Decoder::default(), Vec::new(), 0);
        for piece in pieces {
            decoder.buffer.extend_from_slice(piece);
            loop {
                match decoder.decode() {
                    Ok(Some(Frame::Data { bytes, .. })) => data += bytes.len(),
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(_) => return (frames, data),
                }
            }
        }
        (frames, data)
    };
    let (frames, data) = read(&[parts[0]]);
    let third = parts[0].len() / 3;
    assert_eq!(
        read(&[&parts[0][..third], &parts[0][third..]]),
        (frames.clone(), data),
        "it matters where bytes are cut"
    );
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    for frame in frames.iter().filter(|frame| !matches!(frame, Frame::Other(_))) {
        encoder.encode(frame, &mut decoder.buffer);
        if decoder.buffer.len() > spdy::CONTROL_BYTES_MAX {
            return; // headers that were made small may be too large as they are sent
        }
        let again = decoder.decode().ok().flatten().map(lower);
        assert_eq!(again.as_ref(), Some(&lower(frame.clone())), "not read as it was written");
    }
}

/// Names of headers are written in lower case.
fn lower(mut frame: Frame) -> Frame {
    if let Frame::Open { headers, .. } | Frame::Reply { headers, .. } | Frame::Headers { headers, .. } = &mut frame {
        headers.0.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
    }
    frame
}
