//! When pods that failed count as failures of their job (KEP-3329), and when a job is done before all its pods are (KEP-3998).

use apimachinery::validation::{Cursor, names};

const FAILURE_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const CONDITIONS_MAX: usize = 20;
const SUCCESS_RULES_MAX: usize = 20;
const INDEXES_BYTES_MAX: usize = 64 * 1024;

/// Checks `podFailurePolicy` of a job's spec.
pub fn failure(spec: &Cursor<'_>) {
    let rules = spec.dig("podFailurePolicy.rules");
    rules.items_max(FAILURE_RULES_MAX);
    for rule in rules.items() {
        let action = rule.field("action");
        action.required_one_of(&["Count", "FailIndex", "FailJob", "Ignore"]);
        if action.str() == "FailIndex" && !spec.field("backoffLimitPerIndex").exists() {
            action.invalid("requires the backoffLimitPerIndex to be set");
        }
        let (codes, conditions) = (rule.field("onExitCodes"), rule.field("onPodConditions"));
        if codes.exists() {
            exit_codes(&codes, &spec.dig("template.spec"));
        }
        conditions.items_max(CONDITIONS_MAX);
        for condition in conditions.items() {
            condition.field("type").shape(names::qualified_name);
            condition.field("status").required_one_of(&["False", "True", "Unknown"]);
        }
        match (codes.exists(), !conditions.is_empty()) {
            (true, true) => rule.invalid("specifying both OnExitCodes and OnPodConditions is not supported"),
            (false, false) => rule.invalid("specifying one of OnExitCodes and OnPodConditions is required"),
            _ => {}
        }
    }
}

fn exit_codes(codes: &Cursor<'_>, pods: &Cursor<'_>) {
    let (operator, name, values) = (codes.field("operator"), codes.field("containerName"), codes.field("values"));
    operator.required_one_of(&["In", "NotIn"]);
    let named = |list| pods.field(list).array().iter().any(|container| container["name"] == name.str());
    if name.exists() && !named("containers") && !named("initContainers") {
        name.invalid("must be one of the container or initContainer names in the pod template");
    }
    if values.is_empty() {
        values.invalid("at least one value is required");
    }
    values.items_max(EXIT_CODES_MAX);
    for value in values.items().filter(|value| operator.str() == "In" && value.i64() == Some(0)) {
        value.invalid("must not be 0 for the In operator");
    }
    values.unique(Cursor::clone);
    if !values.array().is_sorted_by_key(|value| value.as_i64()) {
        values.invalid("must be ordered");
    }
}

/// Checks `successPolicy` of an indexed job's spec.
pub fn success(spec: &Cursor<'_>) {
    let policy = spec.field("successPolicy");
    if !policy.exists() {
        return;
    }
    let rules = policy.field("rules");
    rules.required_because("at least one rules must be specified when the successPolicy is specified");
    rules.items_max(SUCCESS_RULES_MAX);
    let completions = spec.field("completions").i64().unwrap_or_default();
    for rule in rules.items() {
        let (indexes, count) = (rule.field("succeededIndexes"), rule.field("succeededCount"));
        if !indexes.exists() && !count.exists() {
            rule.missing("at least one of succeededCount or succeededIndexes must be specified");
        }
        indexes.bytes_max(INDEXES_BYTES_MAX);
        let listed = indexes.opt_str().map(|text| {
            count_indexes(text, completions).unwrap_or_else(|problem| {
                indexes.invalid(format!("error parsing succeededIndexes: {problem}"));
                0
            })
        });
        count.non_negative();
        let limits = [(Some(completions), "specified completions"), (listed, "indexes in the succeededIndexes field")];
        for (limit, of_what) in limits {
            if let (Some(limit), Some(wanted)) = (limit, count.i64())
                && wanted > limit
            {
                count.invalid(format!("must be less than or equal to {limit} (the number of {of_what})"));
            }
        }
    }
}

/// How many indexes below `completions` a list such as `1,3-5` names; they must be in order.
fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let index = |part: &str| match part.parse::<i64>() {
            Err(_) => Err(format!("cannot convert string to integer for index: {part:?}")),
            Ok(index) if index >= completions => Err(format!("too large index: {part:?}")),
            Ok(index) => Ok(index),
        };
        let (from, to) = match interval.split('-').collect::<Vec<_>>()[..] {
            [one] => (index(one)?, index(one)?),
            [from, to] => match (index(from)?, index(to)?) {
                (from, to) if from >= to => return Err(format!("{from} is not below {to}")),
                ends => ends,
            },
            _ => return Err(format!("an interval has at most two parts separated by '-', not {interval:?}")),
        };
        if last.is_some_and(|last| last >= from) {
            return Err(format!("{from} is not above what stands before it"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_indexes() {
        for (text, count) in [("", 0), ("0", 1), ("1,3-5", 4), ("0-9", 10)] {
            assert_eq!(count_indexes(text, 10), Ok(count), "{text}");
        }
        for text in [",", "a", "10", "5-3", "3-3", "1,1", "1-3,2", "1-2-3", "-1"] {
            assert!(count_indexes(text, 10).is_err(), "{text}");
        }
    }
}
