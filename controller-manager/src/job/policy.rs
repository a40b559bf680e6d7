//! What a failed pod means, and when a Job has succeeded early: podFailurePolicy and successPolicy.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule},
    core::v1::{ContainerStatus, Pod},
};

use super::indexes;
use crate::common::{meta, pod};

/// What a failed pod means for its Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the backoff limit.
    Count,
    /// It does not.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The Job has failed, for this reason.
    FailJob(String),
}

/// The first rule that matches decides.
pub(super) fn match_pod_failure_policy(spec: &JobSpec, failed: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    for (number, rule) in rules.enumerate() {
        let Some(what) = matched(rule, failed) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => {
                let pod = meta::key(failed);
                Verdict::FailJob(format!(
                    "{} matching FailJob rule at index {number}",
                    what.replace("{pod}", &pod.to_string())
                ))
            }
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// What of the pod a rule matches, as the start of a sentence about `{pod}`.
fn matched(rule: &PodFailurePolicyRule, failed: &Pod) -> Option<String> {
    if let Some(requirement) = &rule.on_exit_codes {
        let status = failed.status.as_ref()?;
        let statuses =
            status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        return statuses
            .into_iter()
            .find_map(|status| exit_code(requirement, status))
            .map(|(container, code)| format!("Container {container} for pod {{pod}} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    let mut matching = patterns.filter(|pattern| {
        let wanted = pattern.status.as_deref().unwrap_or("True");
        pod::condition(failed, &pattern.type_).is_some_and(|condition| condition.status == wanted)
    });
    matching.next().map(|pattern| format!("Pod {{pod}} has condition {}", pattern.type_))
}

fn exit_code(requirement: &PodFailurePolicyOnExitCodesRequirement, status: &ContainerStatus) -> Option<(String, i32)> {
    if requirement.container_name.as_ref().is_some_and(|name| *name != status.name) {
        return None;
    }
    let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
    let listed = requirement.values.contains(&code);
    // Success is no failure, whatever is listed.
    let matches = code != 0 && if requirement.operator == "NotIn" { !listed } else { listed };
    matches.then(|| (status.name.clone(), code))
}

/// The first rule of the success policy that the succeeded indexes fulfil.
pub(super) fn success(spec: &JobSpec, succeeded: &BTreeSet<i32>) -> Option<usize> {
    let completions = spec.completions.unwrap_or(0);
    spec.success_policy.as_ref()?.rules.iter().position(|rule| {
        let wanted = rule.succeeded_indexes.as_deref().map(|text| indexes::parse(text, completions));
        let met = match &wanted {
            Some(wanted) => wanted.intersection(succeeded).count(),
            None => succeeded.len(),
        };
        match (rule.succeeded_count, &wanted) {
            (Some(count), _) => met >= usize::try_from(count).unwrap_or(usize::MAX),
            (None, Some(wanted)) => met == wanted.len(),
            (None, None) => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(extra: serde_json::Value) -> JobSpec {
        let mut spec = json!({"template": {}, "completions": 5});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let failed = |code: i32| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "default"},
                "status": {"phase": "Failed",
                    "conditions": if code == 137 { json!([{"type": "DisruptionTarget", "status": "True"}]) } else { json!([]) },
                    "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                        "state": {"terminated": {"exitCode": code}}}]},
            }))
            .unwrap()
        };
        let spec = spec(json!({"podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [43]}},
        ]}}));
        let message = "Container main for pod default/p failed with exit code 42 matching FailJob rule at index 1";
        for (code, verdict) in [
            (1, Verdict::Count),
            (42, Verdict::FailJob(message.into())),
            (43, Verdict::FailIndex),
            (137, Verdict::Ignore),
        ] {
            assert_eq!(match_pod_failure_policy(&spec, &failed(code)), verdict, "exit code {code}");
        }
    }

    #[test]
    fn early_success() {
        let rules = |rules: serde_json::Value| spec(json!({"successPolicy": {"rules": rules}}));
        for (rule, succeeded, met) in [
            (json!({"succeededIndexes": "0-1"}), vec![0], false),
            (json!({"succeededIndexes": "0-1"}), vec![0, 1, 4], true),
            (json!({"succeededIndexes": "0-3", "succeededCount": 2}), vec![3, 0], true),
            (json!({"succeededIndexes": "0-3", "succeededCount": 2}), vec![3, 4], false),
            (json!({"succeededCount": 3}), vec![1, 2, 4], true),
        ] {
            let set = succeeded.iter().copied().collect();
            assert_eq!(success(&rules(json!([rule.clone()])), &set).is_some(), met, "{rule} {succeeded:?}");
        }
    }
}
