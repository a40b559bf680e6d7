//! Structural schemas: what a CustomResourceDefinition says of its objects (`openAPIV3Schema`), read once and walked for
//! pruning, defaulting, validation and apply.

use super::ListType;
use super::embedded::{self, Misfits};
use super::formats;
use super::junctors::Junctors;
use crate::codec::{Report, TypeMismatch};
use crate::validation::{Cursor, FieldError};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    /// Not said: anything, or an integer or string.
    #[default]
    Any,
    /// A word that is no type. Definitions that say so are refused; nothing fits.
    Unknown,
}

/// What members an object may have besides its properties.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    #[default]
    None,
    Any,
    Values(Box<Structural>),
}

/// The schema of one place in an object.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    pub kind: Kind,
    pub properties: BTreeMap<String, Structural>,
    pub additional: Additional,
    pub items: Option<Box<Structural>>,
    pub default: Option<Value>,
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserve: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    pub int_or_string: bool,
    pub list_type: ListType,
    /// `x-kubernetes-map-type: atomic`
    pub atomic: bool,
    /// Boxed: most places have none, and a large definition has tens of thousands of places.
    rules: Option<Box<Rules>>,
    /// `x-kubernetes-validations`
    pub validations: Option<Box<[Validation]>>,
}

/// A rule in the Common Expression Language, as a schema states it. What compiles and asks it stands elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Validation {
    pub rule: String,
    pub message: String,
    pub message_expression: String,
    /// `FieldValueInvalid` if empty.
    pub reason: String,
    /// Where in the value the error is: `.spec.replicas`.
    pub field_path: String,
    /// The rule is also asked where there is no old value; `oldSelf` is optional then.
    pub optional_old_self: bool,
}

/// What a schema says of the size of a value; none where it says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    /// Characters.
    pub length: Option<u64>,
    pub items: Option<u64>,
    pub properties: Option<u64>,
    /// Bytes of the longest of the values allowed.
    pub one_of_bytes: Option<u64>,
    pub required: &'a [String],
    pub format: &'a str,
}

/// What a value must fulfil beyond its type.
#[derive(Clone, Debug, Default)]
struct Rules {
    required: Vec<String>,
    one_of: Vec<Value>,
    pattern: Option<regex::Regex>,
    minimum: Option<(f64, bool)>,
    maximum: Option<(f64, bool)>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    min_items: Option<usize>,
    max_items: Option<usize>,
    min_properties: Option<usize>,
    max_properties: Option<usize>,
    multiple_of: Option<f64>,
    /// Its name, for the message.
    format: Option<(String, formats::Check)>,
    junctors: Option<Box<Junctors>>,
}

impl Structural {
    /// Reads an `openAPIV3Schema`. What is no schema is taken as one that says nothing.
    pub fn read(schema: &Value) -> Structural {
        let flag = |name: &str| schema[name] == true;
        let of_items = |value: &Value| value.is_object().then(|| Box::new(Structural::read(value)));
        let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
        Structural {
            kind: match schema["type"].as_str() {
                Some("object") => Kind::Object,
                Some("array") => Kind::Array,
                Some("string") => Kind::String,
                Some("integer") => Kind::Integer,
                Some("number") => Kind::Number,
                Some("boolean") => Kind::Boolean,
                None | Some("") => Kind::Any,
                Some(_) => Kind::Unknown,
            },
            properties: schema["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), Structural::read(schema)))
                .collect(),
            additional: match &schema["additionalProperties"] {
                Value::Bool(true) => Additional::Any,
                value @ Value::Object(_) => Additional::Values(Box::new(Structural::read(value))),
                _ => Additional::None,
            },
            items: of_items(&schema["items"]),
            default: schema.get("default").cloned(),
            nullable: flag("nullable"),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            // With a type of its own it is of that type.
            int_or_string: flag("x-kubernetes-int-or-string") && schema["type"].as_str().unwrap_or_default().is_empty(),
            list_type: match schema["x-kubernetes-list-type"].as_str() {
                Some("set") => ListType::Set,
                // Definitions with no key, or with one twice, are refused; should one be read all the same, each key
                // counts once, and items without keys cannot be told apart.
                Some("map") => {
                    let mut map_keys: Vec<Cow<'static, str>> = Vec::new();
                    for key in keys.filter_map(Value::as_str) {
                        if !map_keys.iter().any(|k| k == key) {
                            map_keys.push(Cow::Owned(key.to_owned()));
                        }
                    }
                    if map_keys.is_empty() { ListType::Atomic } else { ListType::Map(map_keys) }
                }
                _ => ListType::Atomic,
            },
            atomic: schema["x-kubernetes-map-type"] == "atomic",
            rules: Rules::read(schema).map(Box::new),
            validations: validations(&schema["x-kubernetes-validations"]),
        }
    }

    /// What is said of the size of a value.
    pub fn limits(&self) -> Limits<'_> {
        let Some(rules) = &self.rules else { return Limits::default() };
        let count = |n: Option<usize>| n.map(|n| n as u64);
        Limits {
            length: count(rules.max_length),
            items: count(rules.max_items),
            properties: count(rules.max_properties),
            one_of_bytes: rules.one_of.iter().filter_map(Value::as_str).map(|s| s.len() as u64).max(),
            required: &rules.required,
            format: rules.format.as_ref().map_or("", |(format, _)| format),
        }
    }

    /// The schema of a member, if the schema names it.
    pub fn member(&self, name: &str) -> Option<&Structural> {
        match (self.properties.get(name), &self.additional) {
            (Some(property), _) => Some(property),
            (None, Additional::Values(values)) => Some(values),
            _ => None,
        }
    }

    fn keeps_unknown(&self) -> bool {
        self.preserve
            || matches!(self.additional, Additional::Any)
            || self.kind == Kind::Any && self.properties.is_empty()
    }

    /// Brings a whole object that was sent into normal form: its metadata as all objects have it, and nothing the schema does not
    /// know. On an error the object is left half done.
    pub fn normalize(&self, object: &mut Value, report: &mut Report) -> Result<(), TypeMismatch> {
        self.normalize_as(object, Misfits::Refused, report)
    }

    /// The same for an object that was stored before it had to fit: of its metadata what does not is dropped.
    pub fn normalize_stored(&self, object: &mut Value) {
        // What is no object at all stays as it was written.
        let _ = self.normalize_as(object, Misfits::Dropped, &mut Report::default());
    }

    fn normalize_as(&self, object: &mut Value, misfits: Misfits, report: &mut Report) -> Result<(), TypeMismatch> {
        let Value::Object(members) = object else {
            return Err(TypeMismatch::Root { got: "value".into(), want: "map[string]interface {}".into() });
        };
        let mut metadata = members.remove("metadata").filter(|m| !m.is_null()).unwrap_or_else(|| Map::new().into());
        embedded::coerce_metadata(&mut metadata, "metadata", misfits, report)?;
        self.prune_members(members, "", &["apiVersion", "kind"], misfits, report)?;
        members.insert("metadata".into(), metadata);
        Ok(())
    }

    fn prune(&self, value: &mut Value, path: &str, misfits: Misfits, report: &mut Report) -> Result<(), TypeMismatch> {
        match value {
            Value::Object(members) => {
                if self.embedded {
                    embedded::coerce(members, path, misfits, report)?;
                }
                let own: &[&str] = if self.embedded { &embedded::OWN } else { &[] };
                self.prune_members(members, path, own, misfits, report)
            }
            Value::Array(items) => {
                let Some(schema) = &self.items else { return Ok(()) };
                let mut each = items.iter_mut().enumerate();
                each.try_for_each(|(i, item)| schema.prune(item, &format!("{path}[{i}]"), misfits, report))
            }
            _ => Ok(()),
        }
    }

    fn prune_members(
        &self,
        members: &mut Map<String, Value>,
        path: &str,
        own: &[&str],
        misfits: Misfits,
        report: &mut Report,
    ) -> Result<(), TypeMismatch> {
        let mut result = Ok(());
        members.retain(|name, value| {
            if own.contains(&name.as_str()) {
                return true;
            }
            let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match self.member(name) {
                Some(schema) if result.is_ok() => result = schema.prune(value, &at, misfits, report),
                Some(_) => {}
                None if self.keeps_unknown() => {}
                None => {
                    report.note(at);
                    return false;
                }
            }
            true
        });
        result
    }

    /// Fills in defaults, from the outside in, so that what is filled in gets its own defaults. A null that its schema does not allow is
    /// replaced by the default.
    pub fn fill_in(&self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, schema) in &self.properties {
                    let absent = members.get(name).is_none_or(|v| v.is_null() && !schema.nullable);
                    if let Some(default) = schema.default.as_ref().filter(|_| absent) {
                        members.insert(name.clone(), default.clone());
                    }
                }
                for (name, value) in members.iter_mut() {
                    if let Some(schema) = self.member(name) {
                        schema.fill_in(value);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    items.iter_mut().for_each(|item| schema.fill_in(item));
                }
            }
            _ => {}
        }
    }

    /// Takes out the nulls that are left after [`Structural::fill_in`] and that their schemas do not allow: many clients write one for
    /// what they do not set.
    pub fn drop_nulls(&self, value: &mut Value) {
        match value {
            Value::Object(members) => members.retain(|name, value| match self.member(name) {
                Some(schema) if value.is_null() => schema.nullable,
                Some(schema) => {
                    schema.drop_nulls(value);
                    true
                }
                None => true,
            }),
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    items.iter_mut().for_each(|item| schema.drop_nulls(item));
                }
            }
            _ => {}
        }
    }

    /// Checks a whole object; its metadata is checked by those who know all objects.
    pub fn validate(&self, object: &Cursor<'_>) {
        if let (Some(rules), Some(value)) = (&self.rules, object.value()) {
            rules.validate_value(object, value);
        }
        self.judge_object(object, &embedded::OWN);
        self.judge_names(object);
    }

    /// Of the metadata a definition may restrict the name.
    fn judge_names(&self, object: &Cursor<'_>) {
        let metadata = self.properties.get("metadata").map(|m| &m.properties);
        for name in ["name", "generateName"] {
            if let Some(schema) = metadata.and_then(|m| m.get(name)) {
                schema.validate_value(&object.field("metadata").field(name));
            }
        }
    }

    /// Checks what stands at one place, a default for instance.
    pub fn judge_value(&self, at: &Cursor<'_>) {
        self.validate_value(at);
    }

    /// Takes out of what stands at one place what the schema does not know.
    pub fn prune_value(&self, value: &mut Value, report: &mut Report) {
        // Whether what is embedded in it fits, its validation says.
        let _ = self.prune(value, "", Misfits::Refused, report);
    }

    pub(super) fn validate_value(&self, at: &Cursor<'_>) {
        // A member that is null counts as absent: cursors never stand on null.
        let Some(value) = at.value() else { return };
        if !self.fits(value) {
            let (got, want) = (type_name(value), self.type_name());
            let why = format!("{} in body must be of type {want}: \"{got}\"", at.path());
            at.push(FieldError::type_invalid(at.path(), got, why));
            return;
        }
        if let Some(rules) = &self.rules {
            rules.validate_value(at, value);
        }
        match value {
            Value::Object(_) if self.embedded => {
                embedded::validate_value(at);
                self.judge_object(at, &embedded::OWN);
                self.judge_names(at);
            }
            Value::Object(_) => self.judge_object(at, &[]),
            Value::Array(_) => {
                if let Some(schema) = &self.items {
                    at.items().for_each(|item| {
                        if item.exists() { schema.validate_value(&item) } else { schema.validate_null(&item) }
                    });
                }
                self.judge_list(at);
            }
            _ => {}
        }
    }

    fn judge_object(&self, at: &Cursor<'_>, own: &[&str]) {
        for name in self.rules.iter().flat_map(|rules| &rules.required) {
            let there = at.value().is_some_and(|v| v.get(name).is_some()); // null is there, and checked below
            if !there && !own.contains(&name.as_str()) {
                at.push(FieldError::required(at.path().child(name), ""));
            }
        }
        let null = |name: &str| at.value().and_then(|v| v.get(name)).is_some_and(Value::is_null);
        for (name, schema) in self.properties.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
            if null(name) {
                schema.validate_null(&at.field(name));
            } else {
                schema.validate_value(&at.field(name));
            }
        }
        if let Additional::Values(schema) = &self.additional {
            let unnamed = at.members().filter(|(name, _)| !self.properties.contains_key(*name));
            unnamed.for_each(
                |(_, value)| if value.exists() { schema.validate_value(&value) } else { schema.validate_null(&value) },
            );
        }
    }

    /// Null stands only where the schema says so.
    fn validate_null(&self, at: &Cursor<'_>) {
        if !self.nullable && (self.kind != Kind::Any || self.int_or_string) {
            at.invalid_value("null", format!("{} in body must be of type {}: \"null\"", at.path(), self.type_name()));
        }
    }

    /// Items of sets and maps differ.
    fn judge_list(&self, at: &Cursor<'_>) {
        let key = |item: &Cursor<'_>| match &self.list_type {
            ListType::Atomic => None,
            ListType::Set => item.value().cloned(),
            ListType::Map(keys) => {
                Some(keys.iter().map(|key| item.field(key).value().cloned().unwrap_or_default()).collect())
            }
        };
        let mut seen: Vec<Value> = Vec::new();
        for item in at.items() {
            match key(&item) {
                Some(key) if seen.contains(&key) => item.duplicate(),
                Some(key) => seen.push(key),
                None => {}
            }
        }
    }

    fn fits(&self, value: &Value) -> bool {
        if self.int_or_string {
            return value.is_string() || value.is_i64() || value.is_u64();
        }
        match self.kind {
            Kind::Object => value.is_object(),
            Kind::Array => value.is_array(),
            Kind::String => value.is_string(),
            Kind::Integer => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0),
            Kind::Number => value.is_number(),
            Kind::Boolean => value.is_boolean(),
            Kind::Any => true,
            Kind::Unknown => false,
        }
    }

    fn type_name(&self) -> &'static str {
        match self.kind {
            _ if self.int_or_string => "integer,string",
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
            Kind::Any => "",
            Kind::Unknown => "unknown",
        }
    }
}

fn validations(list: &Value) -> Option<Box<[Validation]>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let read = |v: &Value| Validation {
        rule: text(&v["rule"]),
        message: text(&v["message"]),
        message_expression: text(&v["messageExpression"]),
        reason: text(&v["reason"]),
        field_path: text(&v["fieldPath"]),
        optional_old_self: v["optionalOldSelf"] == true,
    };
    list.as_array().filter(|list| !list.is_empty()).map(|list| list.iter().map(read).collect())
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Rules {
    /// The rules in a schema; none if it states none.
    fn read(schema: &Value) -> Option<Rules> {
        const NAMES: [&str; 17] = [
            "required",
            "enum",
            "pattern",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "multipleOf",
            "format",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
        ];
        if NAMES.iter().all(|name| schema.get(name).is_none()) {
            return None;
        }
        let size = |name: &str| schema[name].as_u64().map(|n| n as usize);
        let bound = |name: &str, exclusive: &str| schema[name].as_f64().map(|n| (n, schema[exclusive] == true));
        let strings = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Some(Rules {
            required: strings(&schema["required"]),
            one_of: schema["enum"].as_array().cloned().unwrap_or_default(),
            // Go and this crate share RE2's syntax; a pattern that does not compile was refused with its definition.
            pattern: schema["pattern"].as_str().and_then(|pattern| super::go_regex::compile(pattern).ok()),
            minimum: bound("minimum", "exclusiveMinimum"),
            maximum: bound("maximum", "exclusiveMaximum"),
            min_length: size("minLength"),
            max_length: size("maxLength"),
            min_items: size("minItems"),
            max_items: size("maxItems"),
            min_properties: size("minProperties"),
            max_properties: size("maxProperties"),
            multiple_of: schema["multipleOf"].as_f64().filter(|n| *n > 0.0),
            format: schema["format"].as_str().and_then(|f| Some((f.to_owned(), formats::check(f)?))),
            junctors: Junctors::read(schema),
        })
    }

    fn validate_value(&self, at: &Cursor<'_>, value: &Value) {
        let wrong = |what: String| at.invalid(format!("{} in body {what}", at.path()));
        if let Some(junctors) = &self.junctors {
            junctors.validate_value(at);
        }
        if !self.one_of.is_empty() && !self.one_of.contains(value) {
            let supported: Vec<&str> = self.one_of.iter().filter_map(Value::as_str).collect();
            at.push(FieldError::not_supported(at.path(), value.clone(), &supported));
        }
        if let Some(number) = value.as_f64() {
            let beyond = |bound: &Option<(f64, bool)>, sign: f64| {
                bound.filter(|(b, exclusive)| sign * (number - b) < 0.0 || *exclusive && number == *b)
            };
            if let Some(step) = self.multiple_of.filter(|step| (number / step).fract().abs() > f64::EPSILON) {
                wrong(format!("should be a multiple of {step}"));
            }
            for (bound, sign, word) in [(&self.minimum, 1.0, "greater"), (&self.maximum, -1.0, "less")] {
                if let Some((bound, exclusive)) = beyond(bound, sign) {
                    let equal = if exclusive { "" } else { " or equal to" };
                    wrong(format!("should be {word} than{equal} {bound}"));
                }
            }
        }
        if let Some(text) = value.as_str() {
            let length = text.chars().count();
            if let Some((format, _)) = self.format.as_ref().filter(|(_, check)| !check(text)) {
                wrong(format!("must be of type {format}: {text:?}"));
            }
            if self.max_length.is_some_and(|max| length > max) {
                at.push(FieldError::too_long(at.path(), self.max_length.unwrap_or_default()));
            }
            if let Some(min) = self.min_length.filter(|min| length < *min) {
                wrong(format!("should be at least {min} chars long"));
            }
            if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
                wrong(format!("should match '{}'", pattern.as_str()));
            }
        }
        let (count, min, max, things) = match value {
            Value::Array(items) => (items.len(), self.min_items, self.max_items, "items"),
            Value::Object(members) => (members.len(), self.min_properties, self.max_properties, "properties"),
            _ => return,
        };
        if let Some(max) = max.filter(|max| count > *max) {
            at.push(FieldError::too_many(at.path(), count, max));
        }
        if let Some(min) = min.filter(|min| count < *min) {
            wrong(format!("should have at least {min} {things}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::Errors;
    use serde_json::json;

    fn widget() -> Structural {
        Structural::read(
            &json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["size"], "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 10},
                "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
                    "type": "object", "properties": {"name": {"type": "string"}, "v": {"x-kubernetes-int-or-string": true}}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 3}},
            }}}}),
        )
    }

    fn problems(spec: Value) -> Vec<String> {
        let (object, errors) = (json!({"spec": spec}), Errors::new());
        widget().validate(&Cursor::root(&object, &errors));
        errors.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_schema_does_not_know_is_dropped_and_told() {
        let mut object = json!({"metadata": {"name": "a", "labels": {}}, "spec": {"size": 1, "bogus": 1, "free": {"x": 1},
            "items": [{"name": "a", "y": 1}], "labels": {"any": "x"}}});
        let mut report = Report::default();
        widget().normalize(&mut object, &mut report).unwrap();
        assert_eq!(report.unknown, ["spec.bogus", "spec.items[0].y"]);
        assert_eq!(object["metadata"], json!({"name": "a"}));
        assert_eq!(
            object["spec"],
            json!({"size": 1, "free": {"x": 1}, "items": [{"name": "a"}], "labels": {"any": "x"}})
        );
    }

    #[test]
    fn defaults_are_filled_in_where_their_parent_is() {
        let mut object = json!({"spec": {"size": 1, "color": null}});
        widget().fill_in(&mut object);
        assert_eq!(object, json!({"spec": {"size": 1, "color": "red"}}));
        let mut bare = json!({});
        widget().fill_in(&mut bare);
        assert_eq!(bare, json!({}));
    }

    #[test]
    fn nulls_that_a_schema_does_not_allow_are_as_good_as_absent() {
        let schema = Structural::read(&json!({"type": "object", "properties": {
            "plain": {"type": "object"}, "maybe": {"type": "string", "nullable": true}, "preset": {"type": "integer", "default": 3},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}));
        let mut object = json!({"plain": null, "maybe": null, "preset": null, "list": [{"a": null}], "map": {"x": null, "y": "z"},
            "free": {"x": null}});
        schema.fill_in(&mut object);
        schema.drop_nulls(&mut object);
        let want = json!({"maybe": null, "preset": 3, "list": [{}], "map": {"y": "z"}, "free": {"x": null}});
        assert_eq!(object, want);
    }

    #[test]
    fn junctors_formats_and_nulls_are_judged() {
        let schema = Structural::read(&json!({"type": "object", "properties": {
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "one": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            "not": {"type": "string", "not": {"enum": ["x"]}, "allOf": [{"minLength": 1}, {"maxLength": 2}]},
            "at": {"type": "string", "format": "date-time"},
            "step": {"type": "integer", "multipleOf": 5},
            "maybe": {"type": "string", "nullable": true},
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}},
        }}));
        let problems = |object: Value| -> Vec<String> {
            let errors = Errors::new();
            schema.validate(&Cursor::root(&object, &errors));
            errors.into_vec().iter().map(ToString::to_string).collect()
        };
        let fine = json!({"port": "http", "one": {"a": "x"}, "not": "y", "at": "2024-01-02T03:04:05Z", "step": 10, "maybe": null,
            "metadata": {"name": "abc"}});
        assert_eq!(problems(fine), [""; 0]);
        for (object, part) in [
            (json!({"one": {"a": "x", "b": "y"}}), "\"one\" must validate one and only one schema (oneOf). Found 2"),
            (json!({"one": {}}), "\"one\" must validate one and only one schema (oneOf). Found none valid"),
            (json!({"not": "x"}), "\"not\" must not validate the schema (not)"),
            (json!({"not": "long"}), "\"not\" must validate all the schemas (allOf)"),
            (json!({"at": "yesterday"}), "at in body must be of type date-time: \"yesterday\""),
            (json!({"step": 7}), "step in body should be a multiple of 5"),
            (json!({"step": null}), "step in body must be of type integer: \"null\""),
            (json!({"metadata": {"name": "long"}}), "metadata.name: Too long"),
        ] {
            let told = problems(object.clone());
            assert!(told.iter().any(|t| t.contains(part)), "{object}: {told:?}");
        }
    }

    #[test]
    fn values_keep_their_rules() {
        assert_eq!(problems(json!({"size": 3, "items": [{"name": "a", "v": "1"}, {"name": "b", "v": 1}]})), [""; 0]);
        for (spec, start) in [
            (json!({}), "spec.size: Required value"),
            (json!({"size": "x"}), "spec.size: Invalid value: \"string\": spec.size in body must be of type integer"),
            (json!({"size": 11}), "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"),
            (json!({"size": 1, "color": "green"}), "spec.color: Unsupported value: \"green\""),
            (json!({"size": 1, "items": [{"name": "a"}, {"name": "a"}]}), "spec.items[1]: Duplicate value"),
            (json!({"size": 1, "labels": {"a": "long"}}), "spec.labels.a: Too long"),
        ] {
            let told = problems(spec.clone());
            assert!(told.len() == 1 && told[0].starts_with(start), "{spec}: {told:?}");
        }
    }
}
