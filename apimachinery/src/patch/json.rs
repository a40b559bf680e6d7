//! JSON patch (RFC 6902).

use crate::codec::{MAX_DEPTH, depth};
use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde_json::Value;

/// More operations than this are refused unread.
pub const OPERATIONS_MAX: usize = 10_000;
/// All that `copy` operations may add, in bytes of JSON: repeated copies would double a document without bound.
pub const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Why a JSON patch does not apply.
#[derive(Debug, thiserror::Error)]
pub enum JsonPatchError {
    /// Not a list of operations: a bad request.
    #[error("error decoding patch: {0}")]
    Decode(#[from] serde_json::Error),
    /// Upstream answers 413.
    #[error("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {0}")]
    TooMany(usize),
    /// Upstream answers 422.
    #[error("the copies that the patch makes exceed {COPIED_BYTES_MAX} bytes")]
    CopyTooLarge,
    /// Operations may put what is deep into what is deep: 422.
    #[error("{operation} operation does not apply: the document would be nested more than {MAX_DEPTH} levels deep")]
    TooDeep { operation: &'static str },
    /// A `test` does not hold: 422.
    #[error("testing value {path} failed")]
    Test { path: String },
    /// An operation names a place that is not there: 422.
    #[error("{operation} operation does not apply: {path}: {problem}")]
    Apply { operation: &'static str, path: String, problem: String },
}

/// Applies a list of operations; after an error the document is left half patched and must be dropped.
pub fn json_patch(document: &mut Value, patch: Value) -> Result<(), JsonPatchError> {
    if let Some(count) = patch.as_array().map(Vec::len).filter(|count| *count > OPERATIONS_MAX) {
        return Err(JsonPatchError::TooMany(count));
    }
    let Patch(operations) = serde_json::from_value(patch)?;
    let mut copied = 0;
    for operation in &operations {
        if let PatchOperation::Copy(copy) = operation {
            copied += copy.from.resolve(document).map_or(0, |v| v.to_string().len());
            if copied > COPIED_BYTES_MAX {
                return Err(JsonPatchError::CopyTooLarge);
            }
        }
        // The document was not deeper before, so what it becomes is as deep as what is put into it, where it is put.
        let put = match operation {
            PatchOperation::Add(add) => Some(&add.value),
            PatchOperation::Replace(replace) => Some(&replace.value),
            PatchOperation::Copy(copy) => copy.from.resolve(document).ok(),
            PatchOperation::Move(moved) => moved.from.resolve(document).ok(),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
        };
        if put.is_some_and(|value| operation.path().count() + depth(value) > MAX_DEPTH) {
            return Err(JsonPatchError::TooDeep { operation: name(operation) });
        }
        json_patch::patch(document, std::slice::from_ref(operation)).map_err(|error| {
            let path = operation.path().to_string();
            match error.kind {
                PatchErrorKind::TestFailed => JsonPatchError::Test { path },
                kind => JsonPatchError::Apply { operation: name(operation), path, problem: kind.to_string() },
            }
        })?;
    }
    Ok(())
}

fn name(operation: &PatchOperation) -> &'static str {
    match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_apply_in_order() {
        let mut document = json!({"a": [1, 2], "b": {"c": 1}});
        let patch = json!([
            {"op": "test", "path": "/b/c", "value": 1},
            {"op": "add", "path": "/a/-", "value": 3},
            {"op": "remove", "path": "/a/0"},
            {"op": "move", "from": "/b/c", "path": "/d"},
            {"op": "copy", "from": "/a", "path": "/e~1f"},
        ]);
        json_patch(&mut document, patch).unwrap();
        assert_eq!(document, json!({"a": [2, 3], "b": {}, "d": 1, "e/f": [2, 3]}));
    }

    #[test]
    fn failures_say_what_failed() {
        for (patch, error) in [
            (json!([{"op": "test", "path": "/a", "value": 2}]), "testing value /a failed"),
            (json!([{"op": "remove", "path": "/x"}]), "remove operation does not apply: /x: "),
            (json!({"op": "x"}), "error decoding patch: "),
            (json!([{"op": "x", "path": "/a"}]), "error decoding patch: "),
        ] {
            let shown = json_patch(&mut json!({"a": 1}), patch).unwrap_err().to_string();
            assert!(shown.starts_with(error), "{shown}");
        }
    }

    #[test]
    fn patches_are_bounded() {
        let many = vec![json!({"op": "test", "path": "/a", "value": 1}); OPERATIONS_MAX + 1];
        assert!(matches!(json_patch(&mut json!({"a": 1}), many.into()), Err(JsonPatchError::TooMany(_))));
        let mut document = json!({"a": ["x".repeat(1000)]});
        let copies = vec![json!({"op": "copy", "from": "/a", "path": "/a/-"}); 100];
        assert!(matches!(json_patch(&mut document, copies.into()), Err(JsonPatchError::CopyTooLarge)));
    }

    #[test]
    fn patches_do_not_pile_depth_on_depth() {
        let chain = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"a": inner}));
        // Each copies the whole chain to its own end.
        let doubled = |times: usize| -> Value {
            (0..times).map(|n| json!({"op": "copy", "from": "", "path": "/a".repeat((8 << n) - 1)})).collect()
        };
        let piled: Value =
            (1..40).map(|n| json!({"op": "add", "path": "/a".repeat(100 * n), "value": chain(100)})).collect();
        for patch in [doubled(16), piled, json!([{"op": "replace", "path": "/a/a", "value": chain(127)}])] {
            let mut document = chain(8);
            let result = json_patch(&mut document, patch);
            assert!(matches!(result, Err(JsonPatchError::TooDeep { .. })), "{result:?}");
            assert!(depth(&document) <= MAX_DEPTH);
        }
        let mut document = chain(8);
        json_patch(&mut document, doubled(3)).unwrap();
        assert!(depth(&document) > 32);
    }
}
