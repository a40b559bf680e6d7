//! Every kind, with every member filled, as JSON and as protobuf: decoding one and encoding the other gives the same object.
//! The oracle is upstream's own round-trip data, read where it is at hand.

use apimachinery::codec::{Report, envelope, json, normalize, proto};
use apimachinery::schema::{GroupVersionKind, Schema};
use std::path::Path;

#[test]
fn json_and_protobuf_of_every_kind_decode_to_the_same_object() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/facts/roundtrip");
    let Ok(entries) = std::fs::read_dir(&folder) else { return };
    let schema = Schema::builtin();
    let (mut checked, mut wrong) = (0, Vec::new());
    for path in entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read(&path).unwrap();
        let bytes = std::fs::read(path.with_extension("pb")).unwrap();
        let envelope = envelope::open(&bytes).unwrap().unwrap();
        let (group, version) = GroupVersionKind::split_api_version(envelope.api_version);
        let watch_event = || schema.by_name("k8s.io.apimachinery.pkg.apis.meta.v1.WatchEvent");
        let Some(ty) = schema.kind(group, version, envelope.kind).or_else(watch_event) else {
            wrong.push(format!("{name}: no such kind"));
            continue;
        };
        let mut report = Report::default();
        let mut from_json = json::parse(&text).unwrap().value;
        normalize(schema, ty, &mut from_json, &mut report).unwrap();
        let mut from_proto = proto::decode(schema, ty.id, envelope.raw).unwrap();
        if from_json.get("kind").is_some() {
            from_proto["kind"] = envelope.kind.into();
            from_proto["apiVersion"] = envelope.api_version.into();
        }
        normalize(schema, ty, &mut from_proto, &mut report).unwrap();
        if from_json != from_proto {
            wrong.push(format!("{name}: json {from_json}\n   proto {from_proto}"));
        }
        let mut again = Vec::new();
        proto::encode(schema, ty.id, &from_json, &mut again);
        if again != envelope.raw {
            wrong.push(format!("{name}: protobuf differs: {} bytes for {}", again.len(), envelope.raw.len()));
        }
        if !report.unknown.is_empty() {
            wrong.push(format!("{name}: unknown {:?}", report.unknown));
        }
        checked += 1;
    }
    for line in &wrong {
        eprintln!("{}", &line[..line.len().min(1500)]);
    }
    assert!(wrong.is_empty(), "{} of {checked} kinds differ", wrong.len());
}
