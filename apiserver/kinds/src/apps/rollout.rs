//! What kinds that roll out pods have in common: selectors, numbers that may be percentages, counts in their status.

use apimachinery::Value;
use apimachinery::validation::selector::label_selector;
use apimachinery::validation::{Cursor, Errors, Path, names};

/// Checks a selector that must select something.
pub fn required_selector(selector: &Cursor<'_>, kind: &str) {
    if !selector.exists() {
        selector.missing("");
        return;
    }
    label_selector(selector);
    if selector.field("matchLabels").is_empty() && selector.field("matchExpressions").is_empty() {
        selector.invalid(format!("empty selector is invalid for {kind}"));
    }
}

/// Whether a selector can be made of it. If not that is an error of its own, and the template is not looked at.
pub fn selector_is_usable(selector: &Cursor<'_>) -> bool {
    let errors = Errors::new();
    label_selector(&Cursor::at(selector.value(), Path::root(), &errors));
    if !errors.is_empty() {
        selector.invalid("invalid label selector");
    }
    errors.is_empty()
}

/// Not negative, or a percentage.
pub fn count_or_percent(c: &Cursor<'_>) {
    match c.value() {
        Some(Value::String(text)) => {
            for _ in names::percent(text) {
                c.invalid("must be an integer or percentage (e.g '5%')");
            }
        }
        _ => {
            c.non_negative();
        }
    }
}

/// A percentage of more than everything makes no sense.
pub fn at_most_everything(c: &Cursor<'_>) {
    if percentage(c).is_some_and(|p| p > 100) {
        c.invalid("must not be greater than 100%");
    }
}

fn percentage(c: &Cursor<'_>) -> Option<u64> {
    let text = c.opt_str()?;
    names::percent(text).is_empty().then(|| text.strip_suffix('%')?.parse().ok())?
}

/// Whether a number or percentage is nothing.
pub fn is_zero(c: &Cursor<'_>) -> bool {
    // What is no percentage counts as the number that it is.
    let number = || c.opt_str().map_or(c.i64(), |text| text.parse().ok()).unwrap_or_default();
    percentage(c).map_or_else(|| number() == 0, |percent| percent == 0)
}

/// Counts in a status: none negative; those named are no more than `all`.
pub fn counts(status: &Cursor<'_>, names: &[&str], all: &str, parts: &[&str]) {
    for name in names {
        status.field(name).non_negative();
    }
    let most = status.field(all).i64().unwrap_or_default();
    for name in parts {
        if status.field(name).i64().unwrap_or_default() > most {
            status.field(name).invalid(format!("cannot be greater than status.{all}"));
        }
    }
}
