//! Rules for the `LabelSelector` objects of specs.

use super::object_meta::labels;
use super::{Cursor, names};

/// Checks a `LabelSelector`; an absent one is fine.
pub fn label_selector(selector: &Cursor<'_>) {
    labels(&selector.field("matchLabels"));
    for expression in selector.field("matchExpressions").items() {
        let (operator, values) = (expression.field("operator"), expression.field("values"));
        match operator.str() {
            "In" | "NotIn" => {
                values.required_because("must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.forbid("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Exists" | "DoesNotExist" => {}
            _ => operator.invalid("not a valid selector operator"),
        }
        expression.field("key").shape(names::qualified_name);
        for value in values.items() {
            value.shape(names::label_value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::Errors;
    use serde_json::json;

    #[test]
    fn each_operator_takes_its_values() {
        let selector = json!({"matchLabels": {"a b": "c d"}, "matchExpressions": [
            {"key": "k", "operator": "In"},
            {"key": "k", "operator": "Exists", "values": ["v"]},
            {"key": "", "operator": "Near"},
            {"key": "k", "operator": "NotIn", "values": ["v", "-"]},
        ]});
        let errors = Errors::new();
        label_selector(&Cursor::root(&selector, &errors));
        let found: Vec<_> = errors.into_vec().iter().map(|e| (e.field.to_string(), e.kind.reason())).collect();
        let expected = [
            ("matchLabels", "FieldValueInvalid"),
            ("matchLabels", "FieldValueInvalid"),
            ("matchExpressions[0].values", "FieldValueRequired"),
            ("matchExpressions[1].values", "FieldValueForbidden"),
            ("matchExpressions[2].operator", "FieldValueInvalid"),
            ("matchExpressions[2].key", "FieldValueInvalid"),
            ("matchExpressions[2].key", "FieldValueInvalid"),
            ("matchExpressions[3].values[1]", "FieldValueInvalid"),
        ];
        assert_eq!(found, expected.map(|(f, r)| (f.to_owned(), r)));
    }
}
