//! Short hashes that are safe in names.

use serde::Serialize;

/// Letters and digits of generated names: no vowels, no characters that look alike, so that no words come out.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A 32 bit FNV-1a hash of the value's JSON, in the alphabet of generated names. The same value gives the same hash in
/// every process and release: it is part of objects' names.
pub fn of(value: &impl Serialize, collisions: Option<i32>) -> String {
    let mut hash = 0x811c_9dc5_u32;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    // Maps are sorted in k8s-openapi's types, and a typed object always encodes.
    feed(&serde_json::to_vec(value).unwrap_or_default());
    if let Some(collisions) = collisions {
        feed(&collisions.to_le_bytes());
    }
    encode(hash)
}

/// Decimal digits, each as one letter of the alphabet.
fn encode(hash: u32) -> String {
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_stable_short_and_safe() {
        let value = serde_json::json!({"b": 1, "a": [true, null]});
        assert_eq!(of(&value, None), of(&value, None));
        assert_ne!(of(&value, None), of(&value, Some(1)));
        assert!(of(&value, None).len() <= 10);
        assert!(of(&value, None).bytes().all(|byte| ALPHABET.contains(&byte)));
    }
}
