//! `x-kubernetes-embedded-resource`: objects inside of custom resources, with an `apiVersion`, a `kind` and a `metadata` of their
//! own. These are what they are in every object, whatever the schema says of them.

use super::{Schema, Shape};
use crate::codec::{Report, TypeMismatch, normalize};
use crate::validation::object_meta::object_meta;
use crate::validation::{Cursor, FieldError, Path, names};
use serde_json::{Map, Value};
use std::sync::OnceLock;

/// Type of `metadata` of every object, embedded ones too.
const OBJECT_META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Members that the schema of an object does not decide on.
pub(super) const OWN: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// What becomes of metadata of the wrong type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfits {
    /// Who sends it is told.
    Refused,
    /// It was stored before it had to fit.
    Dropped,
}

/// The shape of `metadata`.
pub(super) fn metadata_shape() -> &'static Shape {
    static SHAPE: OnceLock<Shape> = OnceLock::new();
    SHAPE.get_or_init(|| {
        let ty = Schema::builtin().by_name(OBJECT_META).unwrap_or_else(|| panic!("the table has no {OBJECT_META}"));
        Shape::Struct(ty.id)
    })
}

/// Brings what an embedded object has of its own into the form that all objects have.
pub(super) fn coerce(
    members: &mut Map<String, Value>,
    path: &str,
    misfits: Misfits,
    report: &mut Report,
) -> Result<(), TypeMismatch> {
    let inside = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for name in ["apiVersion", "kind"] {
        match members.get(name) {
            None | Some(Value::String(_)) => {}
            Some(_) if misfits == Misfits::Dropped => drop(members.remove(name)),
            Some(value) => return Err(invalid(&inside(name), value, "must be a string")),
        }
    }
    let Some(metadata) = members.get_mut("metadata") else { return Ok(()) };
    let at = inside("metadata");
    let given = metadata.clone();
    if metadata.is_null() {
        *metadata = Map::new().into(); // as Go reads it
    }
    coerce_metadata(metadata, &at, misfits, report).map_err(|e| invalid(&at, &given, &e.to_string()))?;
    if let Some(metadata) = metadata.as_object_mut()
        && metadata.get("creationTimestamp").is_some_and(Value::is_null)
    {
        metadata.remove("creationTimestamp");
    }
    Ok(())
}

fn invalid(path: &str, value: &Value, why: &str) -> TypeMismatch {
    TypeMismatch::Embedded(FieldError::invalid(Path::new(path), value.clone(), why).to_string())
}

/// Brings metadata into normal form.
pub(super) fn coerce_metadata(
    metadata: &mut Value,
    path: &str,
    misfits: Misfits,
    report: &mut Report,
) -> Result<(), TypeMismatch> {
    let given = (misfits == Misfits::Dropped).then(|| metadata.clone());
    let mut of_metadata = Report::default();
    let result = normalized(metadata, &mut of_metadata);
    of_metadata.unknown.iter().for_each(|unknown| report.note(format!("{path}.{unknown}")));
    let (Err(error), Some(given)) = (&result, given) else { return result };
    let Value::Object(members) = &given else {
        *metadata = given; // as it was written
        return Err(error.clone());
    };
    // Each by itself, those that fit are kept.
    let fits = |(name, value): (&String, &Value)| {
        let one = Map::from_iter([(name.clone(), value.clone())]);
        normalized(&mut one.clone().into(), &mut Report::default()).is_ok().then_some(one)
    };
    *metadata = Value::Object(members.iter().filter_map(fits).flatten().collect());
    normalized(metadata, &mut Report::default())
}

fn normalized(metadata: &mut Value, report: &mut Report) -> Result<(), TypeMismatch> {
    let Shape::Struct(id) = metadata_shape() else { return Ok(()) };
    let schema = Schema::builtin();
    normalize(schema, schema.get(*id), metadata, report)
}

/// Checks what an embedded object has of its own.
pub(super) fn validate_value(at: &Cursor<'_>) {
    let text = |name: &'static str| {
        let member = at.field(name);
        match member.value() {
            Some(Value::String(text)) if !text.is_empty() => return Some((member, text.as_str())),
            None | Some(Value::String(_)) => member.missing(""),
            Some(_) => member.invalid("must be a string"),
        }
        None
    };
    if let Some((member, version)) = text("apiVersion")
        && version.matches('/').count() > 1
    {
        member.invalid(format!("unexpected GroupVersion string: {version}"));
    }
    if let Some((member, kind)) = text("kind") {
        let problems = names::dns1035_label(&kind.to_lowercase());
        if !problems.is_empty() {
            member.invalid(format!("may have mixed case, but should otherwise match: {}", problems.join(",")));
        }
    }
    let member = at.field("metadata");
    if let Some(Value::Object(metadata)) = member.value() {
        let mut metadata = metadata.clone();
        if metadata.get("name").and_then(Value::as_str).unwrap_or("").is_empty() {
            metadata.insert("name".into(), "unnamed".into()); // a template needs no name
        }
        let namespaced = metadata.get("namespace").and_then(Value::as_str).is_some_and(|n| !n.is_empty());
        let metadata = Value::Object(metadata);
        let metadata = Cursor::at(Some(&metadata), member.path(), at.errors());
        object_meta(&metadata, namespaced, names::path_segment);
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::Report;
    use crate::schema::Structural;
    use crate::validation::{Cursor, Errors};
    use serde_json::{Value, json};

    fn schema() -> Structural {
        let template = json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}},
            "spec": {"type": "object", "properties": {"a": {"type": "integer"}}}}});
        Structural::read(&json!({"type": "object", "properties": {
            "template": template, "list": {"type": "array", "items": template}}}))
    }

    #[test]
    fn embedded_objects_are_brought_into_form() {
        let mut object = json!({"metadata": {}, "template": {"apiVersion": "v1", "kind": "Pod", "x": 1, "spec": {"a": 1, "b": 2},
            "metadata": {"labels": {"a": "b"}, "name": "n", "bogus": 1, "creationTimestamp": null}}, "list": [{"metadata": {"y": 1}}]});
        let mut report = Report::default();
        schema().normalize(&mut object, &mut report).unwrap();
        let template = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"a": 1},
            "metadata": {"labels": {"a": "b"}, "name": "n"}});
        assert_eq!((&object["template"], &object["list"]), (&template, &json!([{"metadata": {}}])));
        report.unknown.sort();
        assert_eq!(report.unknown, ["list[0].metadata.y", "template.metadata.bogus", "template.spec.b", "template.x"]);
    }

    #[test]
    fn what_does_not_fit_is_refused_when_sent_and_dropped_when_stored() {
        for (template, why, kept) in [
            (json!({"kind": 1}), "template.kind: Invalid value: 1: must be a string", json!({})),
            (
                json!({"metadata": {"labels": {"a": 1}, "name": "n"}}),
                "template.metadata: Invalid value: ",
                json!({"metadata": {"name": "n"}}),
            ),
        ] {
            let mut sent = json!({"template": template});
            let error = schema().normalize(&mut sent, &mut Report::default()).unwrap_err().to_string();
            assert!(error.starts_with(why), "{error}");
            let mut stored = json!({"metadata": {"labels": {"a": true}, "uid": "u"}, "template": template});
            schema().normalize_stored(&mut stored);
            assert_eq!((&stored["template"], &stored["metadata"]), (&kept, &json!({"uid": "u"})));
        }
    }

    #[test]
    fn embedded_objects_are_judged() {
        let fine = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "n"}});
        let problems = |template: Value| -> Vec<String> {
            let (object, errors) = (json!({"template": template}), Errors::new());
            schema().validate(&Cursor::root(&object, &errors));
            errors.into_vec().iter().map(ToString::to_string).collect()
        };
        assert_eq!(problems(fine.clone()), [""; 0]);
        for (member, value, wanted) in [
            ("apiVersion", Value::Null, "template.apiVersion: Required value"),
            ("apiVersion", json!(""), "template.apiVersion: Required value"),
            ("apiVersion", json!(1), "template.apiVersion: Invalid value: 1: must be a string"),
            (
                "apiVersion",
                json!("a/b/c"),
                "template.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            ),
            ("kind", Value::Null, "template.kind: Required value"),
            (
                "kind",
                json!("a b"),
                "template.kind: Invalid value: \"a b\": may have mixed case, but should otherwise match: ",
            ),
            ("metadata", json!({"labels": {"a": "b c"}}), "template.metadata.labels: Invalid value: \"b c\": "),
            ("metadata", json!({"name": "a/b"}), "template.metadata.name: Invalid value: \"a/b\": may not contain '/'"),
            ("metadata", json!({"namespace": "N"}), "template.metadata.namespace: Invalid value: \"N\": "),
            ("metadata", json!({"name": "longer"}), "template.metadata.name: Too long: may not be more than 5 bytes"),
        ] {
            let mut template = fine.clone();
            template[member] = value;
            let problems = problems(template.clone());
            assert!(problems.len() == 1 && problems[0].starts_with(wanted), "{template}: {problems:?}");
        }
        assert_eq!(problems(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "a-"}})), [""; 0]);
    }
}
