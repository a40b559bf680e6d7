//! JSON text to trees. Duplicate members are kept track of, since a strict client wants to hear of them.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::{Cell, RefCell};
use std::fmt;

/// A tree and the paths of members that stood more than once (the last one counts).
#[derive(Debug, Default)]
pub struct Parsed {
    pub value: Value,
    /// Such as `metadata.labels.a` or `spec.containers[0].image`.
    pub duplicates: Vec<String>,
}

/// Parses JSON text.
pub fn parse(text: &[u8]) -> Result<Parsed, serde_json::Error> {
    let seen = Cell::new(false);
    let mut de = serde_json::Deserializer::from_slice(text);
    let value = Tree { duplicate: &seen }.deserialize(&mut de)?;
    de.end()?;
    let mut duplicates = Vec::new();
    if seen.get() {
        // Rare, so paths are only tracked on a second pass.
        let path = RefCell::new(String::new());
        let found = RefCell::new(Vec::new());
        let mut de = serde_json::Deserializer::from_slice(text);
        Paths { path: &path, found: &found }.deserialize(&mut de)?;
        duplicates = found.into_inner();
    }
    Ok(Parsed { value, duplicates })
}

/// Builds the tree and notes whether any member stood twice.
pub(super) struct Tree<'a> {
    pub duplicate: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Tree { duplicate: self.duplicate })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(Key(key)) = map.next_key()? {
            let value = map.next_value_seed(Tree { duplicate: self.duplicate })?;
            if members.insert(key, value).is_some() {
                self.duplicate.set(true);
            }
        }
        Ok(Value::Object(members))
    }
}

/// A member's name; YAML's numbers and booleans are taken as text.
struct Key(String);

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Key, D::Error> {
        let seen = Cell::new(false);
        match d.deserialize_any(Tree { duplicate: &seen })? {
            Value::String(s) => Ok(Key(s)),
            Value::Number(n) => Ok(Key(n.to_string())),
            Value::Bool(b) => Ok(Key(b.to_string())),
            _ => Err(D::Error::custom("the name of a member must be a string")),
        }
    }
}

/// What a visitor does with scalars that only looks for names: nothing.
macro_rules! passes_scalars {
    () => {
        fn visit_bool<E>(self, _: bool) -> Result<(), E> {
            Ok(())
        }
        fn visit_i64<E>(self, _: i64) -> Result<(), E> {
            Ok(())
        }
        fn visit_u64<E>(self, _: u64) -> Result<(), E> {
            Ok(())
        }
        fn visit_f64<E>(self, _: f64) -> Result<(), E> {
            Ok(())
        }
        fn visit_str<E>(self, _: &str) -> Result<(), E> {
            Ok(())
        }
        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }
    };
}
pub(super) use passes_scalars;

/// Walks the text again, only to name duplicates.
pub(super) struct Paths<'a> {
    pub path: &'a RefCell<String>,
    pub found: &'a RefCell<Vec<String>>,
}

impl Paths<'_> {
    fn within<T>(&self, segment: &str, go: impl FnOnce(Paths) -> T) -> T {
        let length = self.path.borrow().len();
        self.path.borrow_mut().push_str(segment);
        let result = go(Paths { path: self.path, found: self.found });
        self.path.borrow_mut().truncate(length);
        result
    }
}

impl<'de> DeserializeSeed<'de> for Paths<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Paths<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any JSON value")
    }
    passes_scalars!();
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut i = 0;
        while self.within(&format!("[{i}]"), |p| seq.next_element_seed(p))?.is_some() {
            i += 1;
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = std::collections::HashSet::new();
        while let Some(Key(key)) = map.next_key()? {
            let dot = if self.path.borrow().is_empty() { "" } else { "." };
            self.within(&format!("{dot}{key}"), |p| {
                if names.contains(&key) {
                    p.found.borrow_mut().push(p.path.borrow().clone());
                }
                map.next_value_seed(p)
            })?;
            names.insert(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_of_duplicates_counts_and_each_is_named() {
        let p = parse(br#"{"a":1,"b":[{"c":1,"c":2}],"a":3}"#).unwrap();
        assert_eq!(p.value, json!({"a": 3, "b": [{"c": 2}]}));
        assert_eq!(p.duplicates, ["b[0].c", "a"]);
    }

    #[test]
    fn deep_nesting_and_trailing_text_are_refused() {
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse(b"{} x").is_err());
    }
}
