//! A walk over an object that collects errors.
//!
//! `c.field("spec").field("replicas").non_negative()` is a rule: it says where and what, and an error, if any, carries the path.

use serde_json::{Map, Value};

use super::names::Problems;
use super::path::{PlaceId, Step};
use super::{ErrorKind, Errors, FieldError, Path};

/// A place in an object: the value there, if any, its path, and where errors go.
///
/// Absent and null are the same, as they are in the normal form of an object. A value of another type than asked for reads as absent:
/// decoding has already refused it.
#[derive(Clone)]
pub struct Cursor<'a> {
    value: Option<&'a Value>,
    /// The place that the walk went on from, and the step from there to here; none at that place itself.
    above: PlaceId,
    step: Option<Step<'a>>,
    errors: &'a Errors,
}

impl<'a> Cursor<'a> {
    pub fn root(value: &'a Value, errors: &'a Errors) -> Self {
        Self::new(Some(value), 0, None, errors)
    }

    /// A value at a path of one's own.
    pub fn at(value: Option<&'a Value>, path: impl Into<Path>, errors: &'a Errors) -> Self {
        let path: Path = path.into();
        let place = if path.as_str().is_empty() { 0 } else { errors.enter(0, Step::Member(path.as_str())) };
        Self::new(value, place, None, errors)
    }

    fn new(value: Option<&'a Value>, above: PlaceId, step: Option<Step<'a>>, errors: &'a Errors) -> Self {
        Self { value: value.filter(|v| !v.is_null()), above, step, errors }
    }

    /// This place by number, so that the walk can go on from it.
    fn place(&self) -> PlaceId {
        self.step.map_or(self.above, |step| self.errors.enter(self.above, step))
    }

    // Where the walk goes.

    /// The member `name` of the object here; also where it is absent, so that its absence can be an error.
    pub fn field(&self, name: &'a str) -> Cursor<'a> {
        Self::new(self.value.and_then(|v| v.get(name)), self.place(), Some(Step::Member(name)), self.errors)
    }

    /// A member some levels down: `c.dig("spec.template.spec")`.
    pub fn dig(&self, path: &'a str) -> Cursor<'a> {
        path.split('.').fold(self.clone(), |c, name| c.field(name))
    }

    /// The items of the list here.
    pub fn items(&self) -> impl Iterator<Item = Cursor<'a>> + use<'a> {
        let items = self.array();
        let (place, errors) = (if items.is_empty() { 0 } else { self.place() }, self.errors);
        let item = move |(i, item)| Cursor::new(Some(item), place, Some(Step::Index(i)), errors);
        items.iter().enumerate().map(item)
    }

    /// The entries of the map here, at `path[key]`.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Cursor<'a>)> + use<'a> {
        self.below(Step::Key)
    }

    /// The members of the object here, at `path.name`.
    pub fn members(&self) -> impl Iterator<Item = (&'a str, Cursor<'a>)> + use<'a> {
        self.below(Step::Member)
    }

    fn below<S>(&self, step: S) -> impl Iterator<Item = (&'a str, Cursor<'a>)> + use<'a, S>
    where
        S: Fn(&'a str) -> Step<'a>,
    {
        let members = self.object().filter(|members| !members.is_empty());
        let (place, errors) = (if members.is_some() { self.place() } else { 0 }, self.errors);
        let one = move |(name, value): (&'a String, &'a Value)| {
            (name.as_str(), Cursor::new(Some(value), place, Some(step(name)), errors))
        };
        members.into_iter().flatten().map(one)
    }

    // What is there.

    pub fn value(&self) -> Option<&'a Value> {
        self.value
    }

    pub fn path(&self) -> Path {
        self.errors.path(self.above, self.step)
    }

    pub fn errors(&self) -> &'a Errors {
        self.errors
    }

    /// Whether a feature gate is on, for a rule that depends on one.
    pub fn gate(&self, name: &str) -> bool {
        self.errors.gate(name)
    }

    pub fn exists(&self) -> bool {
        self.value.is_some()
    }

    /// The string here; empty where there is none.
    pub fn str(&self) -> &'a str {
        self.opt_str().unwrap_or_default()
    }

    pub fn opt_str(&self) -> Option<&'a str> {
        self.value.and_then(Value::as_str)
    }

    pub fn i64(&self) -> Option<i64> {
        self.value.and_then(Value::as_i64)
    }

    /// The boolean here; false where there is none.
    pub fn bool(&self) -> bool {
        self.value.and_then(Value::as_bool).unwrap_or_default()
    }

    pub fn array(&self) -> &'a [Value] {
        self.value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub fn object(&self) -> Option<&'a Map<String, Value>> {
        self.value.and_then(Value::as_object)
    }

    pub fn len(&self) -> usize {
        match self.value {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(members)) => members.len(),
            Some(Value::String(text)) => text.len(),
            _ => 0,
        }
    }

    /// Absent, or an empty list, map or string.
    pub fn is_empty(&self) -> bool {
        match self.value {
            Some(Value::Array(_) | Value::Object(_) | Value::String(_)) => self.len() == 0,
            value => value.is_none(),
        }
    }

    /// This place with another value: for what upstream reports under a path that is not the value's own.
    pub fn with_value(&self, value: Option<&'a Value>) -> Cursor<'a> {
        Self { value: value.filter(|v| !v.is_null()), ..self.clone() }
    }

    fn shown(&self) -> Value {
        self.value.cloned().unwrap_or(Value::Null)
    }

    // Errors at this place.

    pub fn push(&self, error: FieldError) {
        self.errors.push(error);
    }

    pub fn invalid(&self, detail: impl Into<String>) {
        self.push(FieldError::invalid(self.path(), self.shown(), detail));
    }

    /// `Invalid` with another value shown than the one here.
    pub fn invalid_value(&self, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldError::invalid(self.path(), value, detail));
    }

    pub fn missing(&self, detail: &str) {
        self.push(FieldError::required(self.path(), detail));
    }

    pub fn forbid(&self, detail: impl Into<String>) {
        self.push(FieldError::forbidden(self.path(), detail));
    }

    pub fn duplicate(&self) {
        self.push(FieldError::duplicate(self.path(), self.shown()));
    }

    pub fn not_found(&self) {
        self.push(FieldError::not_found(self.path(), self.shown()));
    }

    pub fn not_supported(&self, supported: &[&str]) {
        self.push(FieldError::not_supported(self.path(), self.str(), supported));
    }

    pub fn too_long(&self, bytes_max: usize) {
        self.push(FieldError::too_long(self.path(), bytes_max));
    }

    pub fn internal(&self, detail: impl Into<String>) {
        self.push(FieldError::internal(self.path(), detail));
    }

    // Rules. Each adds at most what it says and hands the cursor on, so that rules chain.

    /// Something not empty must be here. True if so.
    pub fn required(&self) -> bool {
        self.required_because("")
    }

    pub fn required_because(&self, why: &str) -> bool {
        if self.is_empty() {
            self.missing(why);
        }
        !self.is_empty()
    }

    /// Nothing may be here. True if so.
    pub fn absent(&self, why: &str) -> bool {
        if self.exists() {
            self.forbid(why);
        }
        !self.exists()
    }

    /// The string has a shape: `c.field("name").shape(names::dns1123_label)`.
    pub fn shape(&self, check: impl Fn(&str) -> Problems) -> &Self {
        check(self.str()).into_iter().for_each(|problem| self.invalid(problem));
        self
    }

    /// Required, and of a shape.
    pub fn required_shape(&self, check: impl Fn(&str) -> Problems) -> &Self {
        if self.required() {
            self.shape(check);
        }
        self
    }

    /// Of a shape where there is anything.
    pub fn optional_shape(&self, check: impl Fn(&str) -> Problems) -> &Self {
        if !self.is_empty() {
            self.shape(check);
        }
        self
    }

    /// One of some words, if there is one at all. `allowed` is sorted, as it is shown.
    pub fn one_of(&self, allowed: &[&str]) -> &Self {
        if self.exists() && !allowed.contains(&self.str()) {
            self.not_supported(allowed);
        }
        self
    }

    /// One of some words; empty or absent is an error of its own.
    pub fn required_one_of(&self, allowed: &[&str]) -> &Self {
        if self.required() {
            self.one_of(allowed);
        }
        self
    }

    /// Not below 0, if there is a number.
    pub fn non_negative(&self) -> &Self {
        self.at_least(0, "must be greater than or equal to 0")
    }

    pub fn positive(&self) -> &Self {
        self.at_least(1, "must be greater than 0")
    }

    pub fn at_least(&self, min: i64, detail: &str) -> &Self {
        if self.i64().is_some_and(|n| n < min) {
            self.invalid(detail);
        }
        self
    }

    /// Between two numbers, both allowed, if there is a number.
    pub fn range(&self, min: i64, max: i64) -> &Self {
        if self.i64().is_some_and(|n| !(min..=max).contains(&n)) {
            self.invalid(format!("must be between {min} and {max}, inclusive"));
        }
        self
    }

    pub fn port(&self) -> &Self {
        self.range(1, 65535)
    }

    pub fn bytes_max(&self, max: usize) -> &Self {
        if self.str().len() > max {
            self.too_long(max);
        }
        self
    }

    pub fn items_max(&self, max: usize) -> &Self {
        if self.len() > max {
            self.push(FieldError::too_many(self.path(), self.len(), max));
        }
        self
    }

    /// Items are told apart by a key (empty keys are other rules' matter).
    pub fn unique(&self, key: impl Fn(&Cursor<'a>) -> Cursor<'a>) -> &Self {
        let mut seen = std::collections::HashSet::new();
        for at in self.items().map(|item| key(&item)).filter(|k| !k.is_empty()) {
            if !seen.insert(at.shown().to_string()) {
                at.duplicate();
            }
        }
        self
    }

    /// The same as before.
    pub fn immutable(&self, old: &Cursor<'_>) -> &Self {
        self.immutable_because(old, "field is immutable")
    }

    pub fn immutable_because(&self, old: &Cursor<'_>, why: &str) -> &Self {
        if self.value != old.value {
            self.invalid(why);
        }
        self
    }

    /// Any error of any kind.
    pub fn error(&self, kind: ErrorKind, detail: impl Into<String>) {
        self.push(FieldError::new(kind, self.path(), self.shown(), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::names;
    use serde_json::json;

    fn errors(object: Value, rules: impl Fn(Cursor<'_>)) -> Vec<String> {
        let errors = Errors::new();
        rules(Cursor::root(&object, &errors));
        errors.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_name_the_place() {
        let object = json!({"spec": {"replicas": -1, "ports": [{"name": "a", "port": 0}, {"name": "a"}], "mode": "x"}});
        let found = errors(object, |c| {
            let spec = c.field("spec");
            spec.field("replicas").non_negative();
            spec.field("name").required();
            spec.field("mode").one_of(&["A", "B"]);
            spec.field("ports").unique(|p| p.field("name"));
            for port in spec.field("ports").items() {
                port.field("port").port();
            }
        });
        assert_eq!(
            found,
            [
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.name: Required value",
                "spec.mode: Unsupported value: \"x\": supported values: \"A\", \"B\"",
                "spec.ports[1].name: Duplicate value: \"a\"",
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ]
        );
    }

    #[test]
    fn absent_places_break_no_rule_but_required() {
        let found = errors(json!({}), |c| {
            let x = c.dig("a.b.c");
            x.non_negative().one_of(&["A"]).optional_shape(names::ip).items_max(0).immutable(&c.field("z"));
            assert_eq!((x.str(), x.bool(), x.items().count()), ("", false, 0));
        });
        assert!(found.is_empty(), "{found:?}");
    }
}
