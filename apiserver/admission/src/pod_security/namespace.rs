//! What becomes of the pods of a namespace when its labels ask for more: they stay, and the client is warned of them.

use super::configuration::Exemptions;
use super::pod_class;
use super::policy::Policy;
use handlers::api::Api;
use request::status::Result;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Pods that are looked at, and for how long, at most; as upstream.
const PODS_MAX: usize = 3000;
const TIME_MAX: Duration = Duration::from_secs(1);

/// Texts to warn of the pods in a namespace that a policy would refuse. Those that miss the same are told of together.
pub fn warnings(api: &Api, exemptions: &Exemptions, namespace: &str, enforce: &Policy) -> Result<Vec<String>> {
    let pods = api.builtin("", "v1", "pods")?;
    let snapshot = pods.cache()?.snapshot();
    let prefix = format!("{namespace}/");
    let total = snapshot.range(&prefix, "").count();
    let started = Instant::now();
    let mut checked = 0;
    // By what they violate: the first pod, and how many there are.
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in snapshot.range(&prefix, "").take(PODS_MAX) {
        if started.elapsed() > TIME_MAX {
            break;
        }
        checked += 1;
        let tree = pod.tree();
        if exemptions.runtime_classes.contains(pod_class(&tree["spec"])) {
            continue;
        }
        if let Some(violations) = enforce.violations(&tree["metadata"], &tree["spec"]) {
            let name = tree["metadata"]["name"].as_str().unwrap_or_default();
            found.entry(violations.reasons()).or_insert_with(|| (name.to_owned(), 0)).1 += 1;
        }
    }
    Ok(tell(namespace, enforce, checked, total, &found))
}

fn tell(
    namespace: &str,
    enforce: &Policy,
    checked: usize,
    total: usize,
    found: &BTreeMap<String, (String, usize)>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if checked < total {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {:?}",
            enforce.name()
        ));
    }
    let mut of_pods: Vec<String> = found
        .iter()
        .map(|(reasons, (pod, count))| match count {
            1 => format!("{pod}: {reasons}"),
            2 => format!("{pod} (and 1 other pod): {reasons}"),
            more => format!("{pod} (and {} other pods): {reasons}", more - 1),
        })
        .collect();
    of_pods.sort();
    warnings.extend(of_pods);
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_miss_the_same_are_told_of_together() {
        let found = [("b", "y", 1), ("c", "x", 2), ("a", "z", 3)];
        let found = found.into_iter().map(|(why, pod, n)| (why.to_owned(), (pod.to_owned(), n))).collect();
        assert_eq!(
            tell("ns", &Policy::default(), 6, 9, &found),
            [
                "new PodSecurity enforce level only checked against the first 6 of 9 existing pods",
                "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"privileged:latest\"",
                "x (and 1 other pod): c",
                "y: b",
                "z (and 2 other pods): a",
            ]
        );
        assert!(tell("ns", &Policy::default(), 9, 9, &BTreeMap::new()).is_empty());
    }
}
