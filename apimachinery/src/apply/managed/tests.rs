use serde_json::json;

use super::*;
use crate::schema::{Schema, Shape};

/// A ConfigMap under several managers.
struct Map(Value);

impl Map {
    fn new() -> Self {
        Map(json!({"metadata": {}}))
    }

    fn with<T>(&self, manager: &str, subresource: &str, run: impl Fn(&FieldManager<'_>) -> T) -> T {
        let schema = Schema::builtin();
        let shape = Shape::Struct(schema.kind("", "v1", "ConfigMap").unwrap().id);
        let node = Node::root(schema, &shape);
        run(&FieldManager {
            node,
            zero: &json!({"metadata": {}}),
            manager,
            api_version: "v1",
            subresource,
            now: "2024-01-01T00:00:00Z",
            reset: &FieldSet::new(),
            convert: &|_, _| None,
        })
    }

    fn update(&mut self, manager: &str, mut new: Value) -> &mut Self {
        if let Some(managed) = self.0["metadata"].get("managedFields") {
            new["metadata"]["managedFields"] = managed.clone();
        }
        new["metadata"]["uid"] = "u".into();
        self.with(manager, "", |m| {
            let mut new = new.clone();
            m.update(&self.0, &mut new);
            new
        })
        .clone_into(&mut self.0);
        self
    }

    fn apply(&mut self, manager: &str, config: Value, force: bool) -> Result<&mut Self, ApplyError> {
        self.0 = self.with(manager, "", |m| m.apply(&self.0, &config, force))?;
        Ok(self)
    }

    /// Manager, operation and fields of each entry.
    fn owners(&self) -> Vec<(String, Value)> {
        let entries = self.0["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let name = |e: &Value| format!("{} {}", e["operation"].as_str().unwrap(), e["manager"].as_str().unwrap());
        entries.iter().map(|e| (name(e), e["fieldsV1"].clone())).collect()
    }
}

fn data(data: Value) -> Value {
    json!({"metadata": {"name": "m"}, "data": data})
}

fn owner(name: &str, fields: Value) -> (String, Value) {
    (name.into(), json!({"f:data": fields}))
}

#[test]
fn a_create_owns_what_it_sets() {
    let mut map = Map::new();
    map.update("one", data(json!({"a": "1"})));
    assert_eq!(map.owners(), [owner("Update one", json!({".": {}, "f:a": {}}))]);
}

#[test]
fn fields_pass_to_whom_changes_them_and_vanish_with_the_value() {
    let mut map = Map::new();
    map.update("one", data(json!({"a": "1", "b": "1"}))).update("two", data(json!({"a": "2", "b": "1"})));
    assert_eq!(
        map.owners(),
        [owner("Update one", json!({".": {}, "f:b": {}})), owner("Update two", json!({"f:a": {}}))]
    );
    map.update("three", data(json!({"a": "2"})));
    assert_eq!(map.owners(), [owner("Update one", json!({})), owner("Update two", json!({"f:a": {}}))]);
}

#[test]
fn an_applier_takes_away_what_it_applies_no_more() {
    let mut map = Map::new();
    map.apply("one", data(json!({"a": "1", "b": "2"})), false).unwrap();
    assert_eq!(map.owners(), [owner("Apply one", json!({"f:a": {}, "f:b": {}}))]);
    map.apply("one", data(json!({"a": "1"})), false).unwrap();
    assert_eq!(map.0["data"], json!({"a": "1"}));
    assert_eq!(map.owners(), [owner("Apply one", json!({"f:a": {}}))]);
}

#[test]
fn what_others_apply_stays() {
    let mut map = Map::new();
    map.apply("one", data(json!({"a": "1"})), false).unwrap();
    map.apply("two", data(json!({"a": "1", "b": "1"})), false).unwrap();
    map.apply("one", data(json!({})), false).unwrap();
    assert_eq!(map.0["data"], json!({"a": "1", "b": "1"}));
}

#[test]
fn conflicts_are_told_and_forced() {
    let mut map = Map::new();
    map.apply("one", data(json!({"a": "1"})), false).unwrap();
    let error = map.apply("two", data(json!({"a": "2"})), false).err().unwrap();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"one\": .data.a");
    map.apply("two", data(json!({"a": "2"})), true).unwrap();
    assert_eq!(map.owners(), [owner("Apply two", json!({"f:a": {}}))]);
    map.update("three", data(json!({"a": "3", "b": "3"})));
    let error = map.apply("two", data(json!({"a": "2", "b": "2"})), false).err().unwrap();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"three\" using v1:\n- .data.a\n- .data.b"
    );
}

#[test]
fn what_was_there_before_the_first_apply_has_an_owner() {
    let mut map = Map(json!({"metadata": {"name": "m", "uid": "u"}, "data": {"a": "1"}}));
    map.apply("one", data(json!({"b": "1"})), false).unwrap();
    assert_eq!(
        map.owners(),
        [owner("Apply one", json!({"f:b": {}})), owner("Update before-first-apply", json!({".": {}, "f:a": {}}))]
    );
}

#[test]
fn untracked_objects_stay_untracked_when_updated() {
    let mut map = Map(json!({"metadata": {"name": "m", "uid": "u"}, "data": {"a": "1"}}));
    map.update("one", data(json!({"a": "2"})));
    assert_eq!(map.owners(), []);
}

#[test]
fn an_empty_entry_resets() {
    let mut map = Map::new();
    map.apply("one", data(json!({"a": "1"})), false).unwrap();
    map.0["metadata"]["uid"] = "u".into();
    let mut new = map.0.clone();
    new["metadata"]["managedFields"] = json!([{}]);
    map.with("two", "", |m| {
        let mut new = new.clone();
        m.update(&map.0, &mut new);
        assert!(new["metadata"].get("managedFields").is_none());
    });
}

#[test]
fn the_oldest_updaters_are_merged() {
    let mut map = Map::new();
    let mut all = serde_json::Map::new();
    for i in 0..UPDATERS_MAX + 3 {
        all.insert(format!("k{i:02}"), "v".into());
        map.update(&format!("m{i:02}"), data(Value::Object(all.clone())));
    }
    let owners = map.owners();
    assert_eq!(owners.len(), UPDATERS_MAX);
    assert!(owners.iter().any(|(name, _)| name == "Update ancient-changes"));
}

#[test]
fn managed_fields_can_not_be_applied() {
    let config = json!({"metadata": {"name": "m", "managedFields": [{"manager": "x"}]}});
    assert_eq!(Map::new().apply("one", config, false).err(), Some(ApplyError::ManagedFieldsGiven));
}
