//! One input out of others: as bytes, and as a tree where a part is JSON.

use crate::corpus::{Corpus, SEPARATOR, parts};
use crate::{INPUT_BYTES_MAX, Random};
use serde_json::{Map, Value};

/// Mutations of one input.
const CHANGES_MAX: usize = 6;
/// Values that code finds hard.
const HARD: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "\"\"",
    "[]",
    "{}",
    "1e400",
    "1e308",
    "-0",
    "0.1",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "\"\\u0000\"",
    "\"\\ud83d\\ude00\"",
    "[[[[[[[[[]]]]]]]]]",
    "{\"\":{}}",
    "[null]",
    "\"1Ki\"",
    "\"9999999999999999999999\"",
    "\"$patch\"",
    "\"a/b\"",
    "\"2024-02-30T25:61:61Z\"",
    "\"0001-01-01T00:00:00Z\"",
];
/// Bytes that many grammars treat in their own way.
const BYTES: &[u8] = b"\0\n\r\t \"'\\/{}[](),:;.=!<>~*&%$#@+-_|^?aZ09\x7f\x80\xbf\xc3\xff";

pub fn mutate(corpus: &Corpus, words: &[&str], random: &mut Random) -> Vec<u8> {
    let Some(base) = random.pick(&corpus.files) else { return Vec::new() };
    let whole = parts(base);
    let used = whole.iter().rposition(|p| !p.is_empty()).map_or(1, |last| last + 1);
    let mut mutated: Vec<Vec<u8>> = whole[..used].iter().map(|p| p.to_vec()).collect();
    for _ in 0..=random.below(CHANGES_MAX) {
        let at = random.below(mutated.len());
        // A part from elsewhere, now and then.
        if random.one_in(12)
            && let Some(other) = random.pick(&corpus.files).map(|other| parts(other))
            && let Some(part) = random.pick(&other)
        {
            mutated[at] = part.to_vec();
        }
        let tree = if random.one_in(3) { None } else { serde_json::from_slice::<Value>(&mutated[at]).ok() };
        match tree {
            Some(mut tree) => {
                change_tree(&mut tree, corpus, words, random);
                mutated[at] = tree.to_string().into_bytes();
            }
            None => change_bytes(&mut mutated[at], corpus, words, random),
        }
    }
    let mut input = mutated.join(SEPARATOR);
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change_bytes(bytes: &mut Vec<u8>, corpus: &Corpus, words: &[&str], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(16)).min(bytes.len());
    match random.below(9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.pick(BYTES).copied().unwrap_or_default(),
        2 => bytes.insert(at, random.pick(BYTES).copied().unwrap_or_default()),
        3 if at < end => drop(bytes.drain(at..end)),
        4 => insert(bytes, at, random.pick(words).map_or("", |w| w).as_bytes()),
        5 => insert(bytes, at, random.pick(HARD).map_or("", |w| w).as_bytes()),
        6 if at < end => {
            // The same again, and again: depth and length.
            let times = 1 << random.below(9);
            let again = bytes[at..end].repeat(times);
            insert(bytes, at, &again);
        }
        7 => {
            if let Some(other) = random.pick(&corpus.files) {
                let from = random.below(other.len());
                let to = (from + random.below(64)).min(other.len());
                insert(bytes, at, &other[from..to]);
            }
        }
        _ => bytes.truncate(at),
    }
    bytes.truncate(INPUT_BYTES_MAX);
}

fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    bytes.splice(at..at, more.iter().copied());
}

fn change_tree(tree: &mut Value, corpus: &Corpus, words: &[&str], random: &mut Random) {
    let chosen = random.below(count(tree));
    let Some(place) = nth(tree, &mut { chosen }) else { return };
    match random.below(7) {
        0 => *place = hard(random),
        1 => *place = random.pick(words).map_or(Value::Null, |w| Value::from(*w)),
        2 => {
            // A piece of another document.
            let other = random.pick(&corpus.files).map(|other| parts(other)).unwrap_or_default();
            if let Some(mut other) = random.pick(&other).and_then(|p| serde_json::from_slice::<Value>(p).ok()) {
                let at = random.below(count(&other));
                *place = nth(&mut other, &mut { at }).map(Value::take).unwrap_or_default();
            }
        }
        3 => {
            let depth = 1 << random.below(8);
            let mut inner = place.take();
            let name = random.pick(words).map_or("a", |w| w);
            for level in 0..depth {
                inner = if level % 2 == 0 {
                    Value::Array(vec![inner])
                } else {
                    Map::from_iter([(name.to_owned(), inner)]).into()
                };
            }
            *place = inner;
        }
        _ => match place {
            Value::Object(members) => change_members(members, words, random),
            Value::Array(items) => match (items.is_empty(), random.below(4)) {
                (true, _) | (_, 0) => items.push(hard(random)),
                (_, 1) => drop(items.remove(random.below(items.len()))),
                (_, 2) => {
                    let item = items[random.below(items.len())].clone();
                    items.extend(std::iter::repeat_n(item, 1 << random.below(6)));
                }
                _ => items.reverse(),
            },
            Value::String(text) => {
                let mut bytes = std::mem::take(text).into_bytes();
                change_bytes(&mut bytes, corpus, words, random);
                *text = String::from_utf8_lossy(&bytes).into_owned();
            }
            other => *other = hard(random),
        },
    }
}

fn change_members(members: &mut Map<String, Value>, words: &[&str], random: &mut Random) {
    let names: Vec<String> = members.keys().cloned().collect();
    let name = random.pick(&names).cloned().unwrap_or_default();
    let word = random.pick(words).map_or("a", |w| w).to_owned();
    match random.below(4) {
        0 => drop(members.remove(&name)),
        1 => {
            if let Some(value) = members.remove(&name) {
                members.insert(word, value);
            }
        }
        2 => {
            let value = members.get(&name).cloned().unwrap_or_default();
            members.insert(word, value);
        }
        _ => drop(members.insert(word, hard(random))),
    }
}

fn hard(random: &mut Random) -> Value {
    random.pick(HARD).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// How many values a tree is made of.
fn count(tree: &Value) -> usize {
    1 + match tree {
        Value::Object(members) => members.values().map(count).sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

/// The value that is passed after `left` others.
fn nth<'a>(tree: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(tree);
    }
    *left -= 1;
    match tree {
        Value::Object(members) => members.values_mut().find_map(|v| nth(v, left)),
        Value::Array(items) => items.iter_mut().find_map(|v| nth(v, left)),
        _ => None,
    }
}
