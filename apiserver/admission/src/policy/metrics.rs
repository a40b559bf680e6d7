//! How policies fare, under upstream's names.

use component_base::metrics::{HistogramVec, IntCounterVec, histogram_vec, int_counter_vec};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

const CHECK_BUCKETS: &[f64] = &[0.000_000_5, 0.001, 0.01, 0.1, 1.0];
/// Pairs of policy and binding that are told apart. Later ones count together: series are never forgotten, policies come and go.
const PAIRS_MAX: usize = 1000;
const OTHER: &str = "other";

const VALIDATING: [&str; 4] = ["policy", "policy_binding", "error_type", "enforcement_action"];
const MUTATING: [&str; 3] = ["policy", "policy_binding", "error_type"];

static VALIDATING_TOTAL: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Validations of admission policies, by what came of them.";
    int_counter_vec("apiserver_validating_admission_policy_check_total", help, &VALIDATING)
});
static VALIDATING_DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "Time of one validation of an admission policy.";
    histogram_vec("apiserver_validating_admission_policy_check_duration_seconds", help, &VALIDATING, CHECK_BUCKETS)
});
static MUTATING_TOTAL: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Runs of mutating admission policies, by what came of them.";
    int_counter_vec("apiserver_mutating_admission_policy_check_total", help, &MUTATING)
});
static MUTATING_DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "Time of one run of a mutating admission policy.";
    histogram_vec("apiserver_mutating_admission_policy_check_duration_seconds", help, &MUTATING, CHECK_BUCKETS)
});
/// Names of policies and bindings.
type Pairs = HashSet<(Box<str>, Box<str>)>;

static PAIRS: Mutex<Option<Pairs>> = Mutex::new(None);

/// What went wrong with an expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorType {
    #[default]
    None,
    Compile,
    Invalid,
    OutOfBudget,
}

impl ErrorType {
    fn label(self) -> &'static str {
        match self {
            ErrorType::None => "no_error",
            ErrorType::Compile => "compile_error",
            ErrorType::Invalid => "invalid_error",
            ErrorType::OutOfBudget => "out_of_budget",
        }
    }
}

/// The names as labels: as they are, for the first of them.
fn pair<'a>(policy: &'a str, binding: &'a str) -> (&'a str, &'a str) {
    let mut pairs = PAIRS.lock();
    let pairs = pairs.get_or_insert_default();
    let key = (policy.into(), binding.into());
    if pairs.contains(&key) || pairs.len() < PAIRS_MAX && pairs.insert(key) {
        (policy, binding)
    } else {
        (OTHER, OTHER)
    }
}

/// Counts one validation that did not simply hold. `action`: allow, deny, audit or warn.
pub fn validated(policy: &str, binding: &str, error: ErrorType, action: &str, took: Duration) {
    let (policy, binding) = pair(policy, binding);
    let labels = [policy, binding, error.label(), action];
    VALIDATING_TOTAL.with_label_values(&labels).inc();
    VALIDATING_DURATION.with_label_values(&labels).observe(took.as_secs_f64());
}

/// Counts one run of a mutating policy.
pub fn mutated(policy: &str, binding: &str, error: ErrorType, took: Duration) {
    let (policy, binding) = pair(policy, binding);
    let labels = [policy, binding, error.label()];
    MUTATING_TOTAL.with_label_values(&labels).inc();
    MUTATING_DURATION.with_label_values(&labels).observe(took.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_up_to_a_bound() {
        validated("p", "b", ErrorType::None, "deny", Duration::from_millis(1));
        let names: Vec<String> = (0..PAIRS_MAX).map(|i| format!("p{i}")).collect();
        names.iter().for_each(|name| mutated(name, "b", ErrorType::Compile, Duration::ZERO));
        assert_eq!(pair("p", "b"), ("p", "b"));
        assert_eq!(pair("late", "b"), (OTHER, OTHER));
        let text = component_base::metrics::render();
        let line = "apiserver_validating_admission_policy_check_total{enforcement_action=\"deny\",error_type=\"no_error\",policy=\"p\",policy_binding=\"b\"} 1";
        assert!(text.contains(line), "{text}");
    }
}
