//! One webhook of a configuration.

use crate::match_conditions::MatchConditions;
use crate::rules::{Rule, selector};
use apimachinery::Value;
use apimachinery::selector::LabelSelector;
use std::time::Duration;
use webhook::Destination;

/// The versions of AdmissionReview that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewVersion {
    V1,
    V1beta1,
}

impl ReviewVersion {
    pub fn as_str(self) -> &'static str {
        match self {
            ReviewVersion::V1 => "v1",
            ReviewVersion::V1beta1 => "v1beta1",
        }
    }

    /// The first of a webhook's versions that is spoken here.
    pub fn choose(given: &Value) -> Option<ReviewVersion> {
        given.as_array()?.iter().find_map(|version| match version.as_str()? {
            "v1" => Some(ReviewVersion::V1),
            "v1beta1" => Some(ReviewVersion::V1beta1),
            _ => None,
        })
    }
}

/// What a webhook does besides answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideEffects {
    /// None at all, or none on a dry run.
    NoneOnDryRun,
    /// Some, or nobody knows: not to be asked on a dry run. Only old configurations may say so.
    Some,
}

/// A webhook, ready to be asked.
#[derive(Debug)]
pub struct Hook {
    /// As its owner calls it: `pods.example.com`.
    pub name: String,
    /// Unique in a server: configuration and place in it.
    pub id: String,
    /// Whom to ask, or why nobody can be asked.
    pub destination: Result<Destination, String>,
    pub rules: Vec<Rule>,
    /// `matchPolicy: Equivalent`
    pub equivalent: bool,
    pub namespace_selector: LabelSelector,
    pub object_selector: LabelSelector,
    /// `failurePolicy: Ignore`
    pub ignores_failure: bool,
    pub timeout: Duration,
    pub side_effects: SideEffects,
    pub review_version: Option<ReviewVersion>,
    /// `reinvocationPolicy: IfNeeded`
    pub reinvoke: bool,
    pub match_conditions: MatchConditions,
}

impl Hook {
    /// Reads all webhooks of a configuration. A selector that cannot be read selects nothing.
    pub fn read_all(configuration: &Value) -> Vec<Hook> {
        let owner = configuration["metadata"]["name"].as_str().unwrap_or("");
        let hooks = configuration["webhooks"].as_array().into_iter().flatten().enumerate();
        hooks.map(|(at, hook)| Hook::read(&format!("{owner}/{at}"), hook)).collect()
    }

    fn read(id: &str, hook: &Value) -> Hook {
        let selects = |name: &str| selector(&hook[name]).unwrap_or_else(|_| LabelSelector::nothing());
        Hook {
            name: hook["name"].as_str().unwrap_or("").to_owned(),
            id: id.to_owned(),
            destination: Destination::webhook(&hook["clientConfig"]),
            rules: Rule::read_list(&hook["rules"]),
            equivalent: hook["matchPolicy"] != "Exact",
            namespace_selector: selects("namespaceSelector"),
            object_selector: selects("objectSelector"),
            ignores_failure: hook["failurePolicy"] == "Ignore",
            timeout: Duration::from_secs(hook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30)),
            side_effects: match hook["sideEffects"].as_str() {
                Some("None" | "NoneOnDryRun") => SideEffects::NoneOnDryRun,
                _ => SideEffects::Some,
            },
            review_version: ReviewVersion::choose(&hook["admissionReviewVersions"]),
            reinvoke: hook["reinvocationPolicy"] == "IfNeeded",
            match_conditions: MatchConditions::compile(&hook["matchConditions"], false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_review_version_that_is_spoken_is_taken() {
        for (given, want) in [
            (json!(["v1", "v1beta1"]), Some(ReviewVersion::V1)),
            (json!(["v1beta1", "v1"]), Some(ReviewVersion::V1beta1)),
            (json!(["v9", "v1"]), Some(ReviewVersion::V1)),
            (json!(["v9"]), None),
            (Value::Null, None),
        ] {
            assert_eq!(ReviewVersion::choose(&given), want, "{given}");
        }
    }

    #[test]
    fn a_configuration_gives_hooks_in_order() {
        let hooks = Hook::read_all(&json!({"metadata": {"name": "c"}, "webhooks": [
            {"name": "a", "failurePolicy": "Ignore", "timeoutSeconds": 3, "sideEffects": "None", "clientConfig": {"url": "https://h"}},
            {"name": "b", "matchPolicy": "Exact", "sideEffects": "Unknown", "reinvocationPolicy": "IfNeeded"},
        ]}));
        let [a, b] = &hooks[..] else { panic!("{hooks:?}") };
        assert_eq!(
            (&*a.name, &*a.id, a.ignores_failure, a.timeout.as_secs(), a.equivalent),
            ("a", "c/0", true, 3, true)
        );
        assert_eq!((&*b.id, b.ignores_failure, b.equivalent, b.reinvoke), ("c/1", false, false, true));
        assert_eq!((a.side_effects, b.side_effects), (SideEffects::NoneOnDryRun, SideEffects::Some));
        assert!(a.destination.is_ok() && b.destination.is_err());
    }
}
