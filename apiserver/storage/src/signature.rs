//! What an object may be selected by, in 128 bits that stand beside it in the cache's set: a list by label passes over what cannot
//! match without following a single pointer. (A Bloom filter per object: it says "no" or "perhaps".)

use super::object::Object;
use std::borrow::Borrow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The labels and selectable fields of an object, or those that a selector demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signature([u64; 2]);

impl Signature {
    pub fn of(object: &Object) -> Signature {
        let labels = object.labels.iter().fold(Signature::default(), |s, (key, value)| s.with_label(key, value));
        object.fields.iter().enumerate().fold(labels, |s, (at, value)| s.with_field(at, value))
    }

    pub fn with_label(self, key: &str, value: &str) -> Signature {
        self.with((key, value))
    }

    /// The field at a position of the resource's selectable fields.
    pub fn with_field(self, at: usize, value: &str) -> Signature {
        self.with((at, value))
    }

    /// Whether an object with this signature can have all that `wanted` demands.
    pub fn may_have(self, wanted: Signature) -> bool {
        self.0[0] & wanted.0[0] == wanted.0[0] && self.0[1] & wanted.0[1] == wanted.0[1]
    }

    /// Two bits each: with some fifteen things that an object can be selected by, about one in twenty is mistaken for another.
    fn with(mut self, thing: impl Hash) -> Signature {
        let mut hasher = DefaultHasher::new();
        thing.hash(&mut hasher);
        let hash = hasher.finish();
        for bit in [hash & 127, (hash >> 32) & 127] {
            self.0[(bit >> 6) as usize] |= 1 << (bit & 63);
        }
        self
    }
}

/// An object ordered by its key, as the cache's set holds it.
#[derive(Clone, Debug)]
pub struct Entry(pub Arc<Object>, Signature);

impl Entry {
    pub fn new(object: Arc<Object>) -> Entry {
        let signature = Signature::of(&object);
        Entry(object, signature)
    }

    /// Whether the object can have what a selector demands; it must be looked at to know.
    pub fn may_have(&self, wanted: Signature) -> bool {
        self.1.may_have(wanted)
    }
}

impl Borrow<str> for Entry {
    fn borrow(&self) -> &str {
        &self.0.key
    }
}
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_never_missed_and_what_is_not_is_mostly_passed_over() {
        let object = |n: usize| {
            (0..5)
                .fold(Signature::default(), |s, i| s.with_label(&format!("key-{i}"), &format!("value-{n}-{i}")))
                .with_field(0, "node")
        };
        let wanted = Signature::default().with_label("key-3", "value-7-3").with_field(0, "node");
        assert!(object(7).may_have(wanted));
        let mistaken = (0..1000).filter(|n| *n != 7 && object(*n).may_have(wanted)).count();
        assert!(mistaken < 100, "{mistaken} of 1000");
        assert!(object(1).may_have(Signature::default()));
    }
}
