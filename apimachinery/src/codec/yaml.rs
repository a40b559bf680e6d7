//! YAML text to trees, and the places of names that stand twice in it.

use super::json::{Parsed, Paths, Tree, passes_scalars};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

/// Names that are told of one text.
const DUPLICATES_MAX: usize = 10;

/// Parses one YAML document; JSON is YAML too. Members that are no strings (`8080: x`) become strings, as kubectl makes them.
pub fn parse_yaml(text: &[u8]) -> Result<Parsed, serde_yaml_ng::Error> {
    let Some(document) = serde_yaml_ng::Deserializer::from_slice(text).next() else { return Ok(Parsed::default()) };
    let seen = Cell::new(false);
    let value = Tree { duplicate: &seen }.deserialize(document)?;
    let found = RefCell::new(Vec::new());
    if seen.get()
        && let Some(document) = serde_yaml_ng::Deserializer::from_slice(text).next()
    {
        Paths { path: &RefCell::default(), found: &found }.deserialize(document)?;
    }
    Ok(Parsed { value, duplicates: found.into_inner() })
}

/// A name that stands in its map already, and the line, counted from 1, where it stands again.
#[derive(Clone, Debug, PartialEq)]
pub struct DuplicateKey {
    pub line: usize,
    pub key: String,
}

/// As upstream's strict reader words it.
impl fmt::Display for DuplicateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: key {:?} already set in map", self.line, self.key)
    }
}

/// The first names that stand twice in a document. Each costs a pass over it, since only an error knows its line; so it is for
/// documents that are known to have some.
pub fn duplicate_keys(text: &[u8]) -> Vec<DuplicateKey> {
    let next = |skipped: usize| {
        let document = serde_yaml_ng::Deserializer::from_slice(text).next()?;
        let (skip, key) = (Cell::new(skipped), RefCell::new(None));
        let error = Walk { skip: &skip, key: &key }.deserialize(document).err()?;
        Some(DuplicateKey { line: error.location()?.line(), key: key.take()? })
    };
    (0..DUPLICATES_MAX).map_while(next).collect()
}

/// Goes through a document until the name that is looked for.
#[derive(Clone, Copy)]
struct Walk<'a> {
    /// Names to pass by before it.
    skip: &'a Cell<usize>,
    key: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }
    passes_scalars!();
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key_seed(Name { walk: self, names: &names })? {
            names.insert(name);
            map.next_value_seed(self)?;
        }
        Ok(())
    }
}

/// A name in a map. The reader adds the line to an error that comes up here.
struct Name<'a> {
    walk: Walk<'a>,
    names: &'a HashSet<String>,
}

impl Name<'_> {
    fn check<E: Error>(self, name: String) -> Result<String, E> {
        if !self.names.contains(&name) {
            return Ok(name);
        }
        if let Some(left) = self.walk.skip.get().checked_sub(1) {
            self.walk.skip.set(left);
            return Ok(name);
        }
        *self.walk.key.borrow_mut() = Some(name);
        Err(E::custom("already set in map"))
    }
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<String, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Name<'_> {
    type Value = String;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the name of a member")
    }
    fn visit_bool<E: Error>(self, v: bool) -> Result<String, E> {
        self.check(v.to_string())
    }
    fn visit_i64<E: Error>(self, v: i64) -> Result<String, E> {
        self.check(v.to_string())
    }
    fn visit_u64<E: Error>(self, v: u64) -> Result<String, E> {
        self.check(v.to_string())
    }
    fn visit_f64<E: Error>(self, v: f64) -> Result<String, E> {
        self.check(v.to_string())
    }
    fn visit_str<E: Error>(self, v: &str) -> Result<String, E> {
        self.check(v.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_names_become_strings() {
        assert_eq!(parse_yaml(b"8080: x\ntrue: 1\n").unwrap().value, json!({"8080": "x", "true": 1}));
    }

    #[test]
    fn names_that_stand_twice_are_told_with_their_lines() {
        let told = |text: &str| duplicate_keys(text.as_bytes()).iter().map(ToString::to_string).collect::<Vec<_>>();
        let text = "\na: 1\nspec:\n  foo: 1\n  foo: 2\n  list:\n  - x: 1\n    x: 2\na: 2\n";
        let want = [
            "line 5: key \"foo\" already set in map",
            "line 8: key \"x\" already set in map",
            "line 9: key \"a\" already set in map",
        ];
        assert_eq!(told(text), want);
        assert_eq!(told(r#"{"a": 1, "a": 2}"#), ["line 1: key \"a\" already set in map"]);
        assert_eq!(told("a: 1\nb: [1, 2]\n"), [""; 0]);
        assert_eq!(told("a: ["), [""; 0]);
    }
}
