//! Two APIs, and two tables of feature gates, held against each other.

use crate::api::{Api, Field, Resource, TYPE_META, Type};
use crate::gates::Gates;
use crate::report::{Report, Section};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

const ROWS: &str = "apiserver/kinds/src/resources.txt";
const TYPES: &str = "apimachinery/src/schema/types/<group>.<version>.txt";
const PACKAGES: &str = "apimachinery/src/schema/packages.rs";
const VALUES: &str = "apiserver/openapi/src/enums.txt";
const DEFAULTS: &str = "`default` in apiserver/kinds/src/<group>/<kind>.rs";
const GATES: &str = "component-base/src/feature_gates.txt";

const NO_PATHS: Option<&str> = Some("there are no paths in what was given");
const NO_VALUES: Option<&str> =
    Some("no values are listed in what was given; a running server lists them under /openapi/v3");
const NO_DEFAULTS: Option<&str> = Some(
    "our tables state no defaults and OpenAPI 2 does not either; listed are those of fields that come new, \
     --from with an older OpenAPI 3 compares the rest",
);

/// What it takes to get from one API to another.
pub fn apis(from: &Api, to: &Api) -> Report {
    let mut report = Report::default();
    let groups = |api: &Api| api.versions().iter().map(|version| version.group_name().to_owned()).collect();
    report.push(names(Section::new("Groups", PACKAGES), &groups(from), &groups(to)));
    report.push(names(Section::new("Versions", PACKAGES), &from.versions(), &to.versions()));
    report.push(names(Section::new("Kinds", ROWS), &from.kinds, &to.kinds));
    for section in resources(from, to) {
        report.push(section);
    }
    report.push(types(from, to));
    for section in fields(from, to) {
        report.push(section);
    }
    report
}

fn names<T: Ord + Display>(mut section: Section, from: &BTreeSet<T>, to: &BTreeSet<T>) -> Section {
    section.added = to.difference(from).map(T::to_string).collect();
    section.removed = from.difference(to).map(T::to_string).collect();
    section
}

fn resources(from: &Api, to: &Api) -> [Section; 2] {
    let [mut rows, mut verbs] = [Section::new("Resources", ROWS), Section::new("Verbs", ROWS)];
    if from.resources.is_empty() || to.resources.is_empty() {
        return [rows, verbs].map(|section| Section { not_compared: NO_PATHS, ..section });
    }
    let watches = from.tells_watches && to.tells_watches;
    let tellable = |verb: &&String| watches || *verb != "watch";
    let [old, new] = [from, to].map(flat);
    for (name, resource) in &new {
        match old.get(name) {
            None => rows.added.push(format!("{name}  {}", told(resource))),
            Some(before) => {
                compare_row(&mut rows, name, before, resource);
                let came = resource.verbs.difference(&before.verbs).filter(tellable);
                verbs.added.extend(came.map(|verb| format!("{name}  {verb}")));
                let went = before.verbs.difference(&resource.verbs).filter(tellable);
                verbs.removed.extend(went.map(|verb| format!("{name}  {verb}")));
            }
        }
    }
    rows.removed = old.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
    [rows, verbs]
}

/// Resources by their group, version and name.
fn flat(api: &Api) -> BTreeMap<String, &Resource> {
    let of = api.resources.iter();
    of.flat_map(|(version, all)| all.iter().map(move |(name, told)| (format!("{version} {name}"), told))).collect()
}

fn told(resource: &Resource) -> String {
    let kind = resource.kind.as_ref().map_or("(kind not told)", |kind| &kind.name);
    let scope = if resource.namespaced { "namespaced" } else { "cluster" };
    format!("{kind} {scope} {}", resource.verbs.iter().map(String::as_str).collect::<Vec<_>>().join(","))
}

fn compare_row(section: &mut Section, name: &str, old: &Resource, new: &Resource) {
    if let (Some(old), Some(new)) = (&old.kind, &new.kind)
        && old != new
    {
        section.changed.push(format!("{name}  kind: {old} → {new}"));
    }
    if old.namespaced != new.namespaced {
        let scope = if new.namespaced { "cluster → namespaced" } else { "namespaced → cluster" };
        section.changed.push(format!("{name}  scope: {scope}"));
    }
}

fn types(from: &Api, to: &Api) -> Section {
    let mut section = Section::new("Types", TYPES);
    for (name, ty) in &to.types {
        match from.types.get(name) {
            None => section.added.push(format!("{name}  {}", count(ty))),
            Some(old) if old.atomic != ty.atomic => {
                let how = |ty: &Type| if ty.atomic { "atomic" } else { "by field" };
                section.changed.push(format!("{name}  merged: {} → {}", how(old), how(ty)));
            }
            Some(_) => {}
        }
    }
    let gone = from.types.iter().filter(|(name, ty)| ty.reachable && !to.types.contains_key(*name));
    section.removed = gone.map(|(name, _)| name.clone()).collect();
    section
}

fn count(ty: &Type) -> String {
    match ty.fields.len() {
        1 => "1 field".into(),
        all => format!("{all} fields"),
    }
}

/// Fields, their values and their defaults. The fields of a type that is new are listed in full: each is a row to write.
fn fields(from: &Api, to: &Api) -> [Section; 3] {
    let mut fields = Section::new("Fields", TYPES);
    let mut values = Section::new("Values", VALUES);
    let mut defaults = Section::new("Defaults", DEFAULTS);
    let nothing = Type::default();
    let all_defaults = from.tells_defaults && to.tells_defaults;
    for (name, ty) in &to.types {
        let before = from.types.get(name).unwrap_or(&nothing);
        // A document does not mark every object as one.
        let told = |field: &str| !((before.object || ty.object) && TYPE_META.contains(&field));
        for (field, new) in ty.fields.iter().filter(|(field, _)| told(field)) {
            let at = format!("{name}.{field}");
            let old = before.fields.get(field);
            match old {
                None => fields.added.push(format!("{at}  {}", row(new))),
                Some(old) => fields.changed.extend(differences(old, new).map(|what| format!("{at}  {what}"))),
            }
            if from.tells_values && to.tells_values {
                compare_values(&mut values, &at, old.map(|old| &old.values), &new.values);
            }
            if all_defaults || old.is_none() {
                compare_defaults(&mut defaults, &at, old, new);
            }
        }
        let gone = before.fields.keys().filter(|field| told(field) && !ty.fields.contains_key(*field));
        fields.removed.extend(gone.map(|field| format!("{name}.{field}")));
    }
    if !(from.tells_values && to.tells_values) {
        values.not_compared = NO_VALUES;
    }
    if !all_defaults {
        defaults.not_compared = NO_DEFAULTS;
    }
    [fields, values, defaults]
}

/// A field as a row of the type table says it, as far as documents know.
fn row(field: &Field) -> String {
    let mut words = vec![field.shape.clone()];
    words.extend(field.required.then(|| "required".to_owned()));
    words.extend((!field.merge.is_empty()).then(|| format!("merged {}", field.merge)));
    words.extend((!field.patch.is_empty()).then(|| format!("patched {}", field.patch)));
    words.join(", ")
}

fn differences<'a>(old: &'a Field, new: &'a Field) -> impl Iterator<Item = String> + 'a {
    let needed = |field: &Field| if field.required { "required" } else { "optional" }.to_owned();
    let sides = [
        ("type", old.shape.clone(), new.shape.clone()),
        ("presence", needed(old), needed(new)),
        ("apply", old.merge.clone(), new.merge.clone()),
        ("patch", old.patch.clone(), new.patch.clone()),
    ];
    let said = |text: String| if text.is_empty() { "nothing".to_owned() } else { text };
    sides.into_iter().filter(|(_, old, new)| old != new).map(move |(what, old, new)| {
        let (old, new) = (said(old), said(new));
        format!("{what}: {old} → {new}")
    })
}

fn compare_values(section: &mut Section, at: &str, old: Option<&BTreeSet<String>>, new: &BTreeSet<String>) {
    let none = BTreeSet::new();
    let old = old.unwrap_or(&none);
    section.added.extend(new.difference(old).map(|value| format!("{at}  {value}")));
    section.removed.extend(old.difference(new).map(|value| format!("{at}  {value}")));
}

fn compare_defaults(section: &mut Section, at: &str, old: Option<&Field>, new: &Field) {
    match (old.and_then(|old| old.default.as_ref()), &new.default) {
        (None, Some(value)) => section.added.push(format!("{at}  {value}")),
        (Some(value), None) => section.removed.push(format!("{at}  {value}")),
        (Some(old), Some(new)) if old != new => section.changed.push(format!("{at}  {old} → {new}")),
        _ => {}
    }
}

/// What it takes to get from one table of feature gates to another.
pub fn gates(from: &Gates, to: &Gates) -> Section {
    let mut section = Section::new("Feature gates", GATES);
    for (name, gate) in to {
        match from.get(name) {
            None => section.added.push(format!("{name}  {gate}")),
            Some(old) if old != gate => section.changed.push(format!("{name}  {old} → {gate}")),
            Some(_) => {}
        }
    }
    section.removed = from.keys().filter(|name| !to.contains_key(*name)).cloned().collect();
    section
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{document, ours, publish};
    use serde_json::{Value, json};

    /// Documents of an API with one kind, whose type has the given properties.
    fn toys(properties: Value) -> Api {
        let kind = json!({"group": "toys.k8s.io", "version": "v1", "kind": "Toy"});
        let mut api = Api::default();
        let document = json!({
            "paths": {"/apis/toys.k8s.io/v1/toys": {"get": {"x-kubernetes-action": "list", "x-kubernetes-group-version-kind": kind}}},
            "definitions": {"io.k8s.api.toys.v1.Toy": {
                "properties": properties, "required": ["size"], "x-kubernetes-group-version-kind": [kind],
            }},
        });
        document::add(&mut api, &document);
        api
    }

    fn section<'a>(report: &'a Report, title: &str) -> &'a Section {
        report.sections.iter().find(|section| section.title == title).unwrap()
    }

    #[test]
    fn fields_come_go_and_change() {
        let from = toys(json!({
            "size": {"type": "integer", "format": "int32"}, "paint": {"type": "string"},
            "mood": {"type": "string", "enum": ["Glad", "Sad"], "default": "Glad"},
        }));
        let to = toys(json!({
            "size": {"type": "integer", "format": "int64"}, "parts": {"type": "array", "items": {"type": "string"}},
            "mood": {"type": "string", "enum": ["Bored", "Glad"], "default": "Bored"},
        }));
        let report = apis(&from, &to);
        assert_eq!(section(&report, "Fields").added, ["toys.v1.Toy.parts  []string, merged atomic"]);
        assert_eq!(section(&report, "Fields").removed, ["toys.v1.Toy.paint"]);
        assert_eq!(section(&report, "Fields").changed, ["toys.v1.Toy.size  type: int32 → int64"]);
        assert_eq!(section(&report, "Values").added, ["toys.v1.Toy.mood  Bored"]);
        assert_eq!(section(&report, "Values").removed, ["toys.v1.Toy.mood  Sad"]);
        assert_eq!(section(&report, "Defaults").changed, [r#"toys.v1.Toy.mood  "Glad" → "Bored""#]);
        assert_eq!(report.len(), 6);
        assert_eq!(apis(&to, &to).len(), 0);
    }

    #[test]
    fn groups_kinds_resources_and_types_come_and_go() {
        let report = apis(&Api::default(), &toys(json!({})));
        for (title, added) in [
            ("Groups", "toys.k8s.io"),
            ("Versions", "toys.k8s.io/v1"),
            ("Kinds", "toys.k8s.io/v1/Toy"),
            ("Types", "toys.v1.Toy  0 fields"),
        ] {
            assert_eq!(section(&report, title).added, [added]);
        }
        assert!(section(&report, "Resources").not_compared.is_some());
        let ours = ours::api();
        let report = apis(&ours, &toys(json!({})));
        assert_eq!(section(&report, "Resources").added, ["toys.k8s.io/v1 toys  Toy cluster list"]);
        assert!(section(&report, "Resources").removed.contains(&"core/v1 pods/log".to_owned()));
        assert!(section(&report, "Types").removed.contains(&"core.v1.PodSpec".to_owned()));
        assert!(!section(&report, "Types").removed.contains(&"admission.v1.AdmissionReview".to_owned()));
    }

    #[test]
    fn gates_come_go_and_change() {
        let gate = |stage: &str, on| crate::gates::Gate { stage: stage.into(), on, locked: false };
        let from = [("A".to_owned(), gate("alpha", false)), ("B".to_owned(), gate("ga", true))].into();
        let to = [("A".to_owned(), gate("beta", true)), ("C".to_owned(), gate("alpha", false))].into();
        let section = gates(&from, &to);
        assert_eq!((section.added, section.removed), (vec!["C  alpha off".to_owned()], vec!["B".to_owned()]));
        assert_eq!(section.changed, ["A  alpha off → beta on"]);
    }

    #[test]
    fn our_own_api_in_any_dialect_of_openapi_leaves_nothing_to_do() {
        let ours = ours::api();
        for dialect in publish::DIALECTS {
            let mut served = Api::default();
            document::add(&mut served, &publish::document(&ours, dialect));
            let report = apis(&ours, &served);
            assert_eq!(report.len(), 0, "{dialect:?}: {report}");
        }
    }
}
