//! Sets of completion indexes as text: `1,3-5,7`.

use std::{collections::BTreeSet, fmt::Write};

/// The indexes of a text, below `completions`; what cannot be read is left out.
pub(super) fn parse(text: &str, completions: i32) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            // The bound keeps a text from the outside from growing without limit.
            indexes.extend(first.max(0)..=last.min(completions - 1));
        }
    }
    indexes
}

/// The text of a set, with runs of three and more (and of two, as upstream writes them) joined.
pub(super) fn format(indexes: &BTreeSet<i32>) -> String {
    let mut text = String::new();
    let mut rest = indexes.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while rest.next_if_eq(&(last + 1)).is_some() {
            last += 1;
        }
        if !text.is_empty() {
            text.push(',');
        }
        let _ = match last - first {
            0 => write!(text, "{first}"),
            1 => write!(text, "{first},{last}"),
            _ => write!(text, "{first}-{last}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_sets() {
        for (text, indexes) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0,1", vec![0, 1]),
            ("1,3-5,7", vec![1, 3, 4, 5, 7]),
            ("0-9", (0..10).collect()),
        ] {
            let set = parse(text, 10);
            assert_eq!(set, indexes.into_iter().collect(), "{text}");
            assert_eq!(format(&set), text);
        }
        assert_eq!(parse("8-2000000000", 10).len(), 2);
        assert!(parse("x,-", 10).is_empty());
    }
}
