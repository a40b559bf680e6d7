//! Rules for lists of `meta/v1 Condition`.

use super::{Cursor, names};

const REASON_BYTES_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 32 << 10;

/// Checks a list of conditions.
pub fn conditions(list: &Cursor<'_>) {
    let mut kinds: Vec<&str> = Vec::new();
    for condition in list.items() {
        let kind = condition.field("type");
        kind.required_shape(names::qualified_name);
        if kinds.contains(&kind.str()) {
            kind.duplicate();
        }
        kinds.push(kind.str());
        condition.field("status").required_one_of(&["False", "True", "Unknown"]);
        if condition.field("observedGeneration").i64().is_some_and(|n| n < 0) {
            condition.field("observedGeneration").invalid("must be greater than or equal to zero");
        }
        condition.field("lastTransitionTime").required_because("must be set");
        let reason = condition.field("reason");
        if reason.required() && !is_reason(reason.str()) {
            reason.invalid(
                "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters \
                 or '_,:', and must end with an alphanumeric character or '_'",
            );
        }
        reason.bytes_max(REASON_BYTES_MAX);
        condition.field("message").bytes_max(MESSAGE_BYTES_MAX);
    }
}

/// `[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?`
fn is_reason(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(|&b| word(b))
        && bytes.iter().all(|&b| word(b) || matches!(b, b',' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::Errors;
    use serde_json::json;

    #[test]
    fn conditions_are_checked_as_upstream_does() {
        let good = json!({"type": "example.com/Ready", "status": "True", "reason": "A_b:c", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        for (member, value, want) in [
            ("type", json!("Ready"), vec![]),
            ("type", json!(""), vec!["[0].type"]),
            ("type", json!("a b"), vec!["[0].type"]),
            ("status", json!("Maybe"), vec!["[0].status"]),
            ("observedGeneration", json!(-1), vec!["[0].observedGeneration"]),
            ("lastTransitionTime", json!(null), vec!["[0].lastTransitionTime"]),
            ("reason", json!(""), vec!["[0].reason"]),
            ("reason", json!("1a"), vec!["[0].reason"]),
            ("reason", json!("a:"), vec!["[0].reason"]),
            ("message", json!("x".repeat(MESSAGE_BYTES_MAX + 1)), vec!["[0].message"]),
        ] {
            let mut condition = good.clone();
            condition[member] = value;
            let (list, errors) = (json!([condition]), Errors::new());
            conditions(&Cursor::root(&list, &errors));
            let got: Vec<String> = errors.into_vec().iter().map(|e| e.field.to_string()).collect();
            assert_eq!(got, want, "{member}");
        }
        let (list, errors) = (json!([good, good]), Errors::new());
        conditions(&Cursor::root(&list, &errors));
        assert_eq!(errors.into_vec()[0].to_string(), "[1].type: Duplicate value: \"example.com/Ready\"");
    }
}
