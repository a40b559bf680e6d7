//! Whether the node has what a pod requests, beside what other pods have requested already.

use std::collections::BTreeSet;
use std::sync::Arc;

use configuration::quantity::{self, ResourceList};
use k8s_openapi::api::core::v1::Pod;
use pod_state::spec;
use pod_state::status::Reason;

/// A resource that does not suffice: thousandths of cores for cpu, units otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub resource: String,
    pub requested: i64,
    pub used: i64,
    pub capacity: i64,
}

impl Missing {
    /// How much has to be freed.
    pub fn amount(&self) -> i64 {
        self.requested - (self.capacity - self.used)
    }

    pub fn reason(&self) -> Reason {
        let Self { resource, requested, used, capacity } = self;
        Reason::new(
            &format!("OutOf{resource}"),
            format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
            ),
        )
    }
}

/// Every resource that does not suffice, in the order in which the scheduler looks at them.
pub fn missing(pod: &Pod, others: &[Arc<Pod>], allocatable: &ResourceList) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut check = |resource: &str, requested: i64, used: i64| {
        let capacity = quantity::of(Some(allocatable), resource);
        if requested > 0 && requested > capacity - used {
            missing.push(Missing { resource: resource.to_owned(), requested, used, capacity });
        }
    };
    check("pods", 1, i64::try_from(others.len()).unwrap_or(i64::MAX));
    let native = ["cpu", "memory", "ephemeral-storage"];
    let named = names(pod);
    let others_named = named.iter().map(String::as_str).filter(|name| !native.contains(name));
    for name in native.into_iter().chain(others_named) {
        // An extended resource that the node doesn't have may be one of the cluster: not ours to check.
        if is_extended(name) && !allocatable.contains_key(name) {
            continue;
        }
        check(name, spec::request(pod, name), others.iter().map(|other| spec::request(other, name)).sum());
    }
    missing
}

/// Names of all that the pod requests.
fn names(pod: &Pod) -> BTreeSet<String> {
    let spec = spec::spec(pod);
    let containers = spec.containers.iter().chain(spec::init_containers(pod)).filter_map(|c| c.resources.as_ref());
    let requests = containers.chain(&spec.resources).filter_map(|resources| resources.requests.as_ref());
    requests.chain(&spec.overhead).flat_map(|list| list.keys().cloned()).collect()
}

/// A name with a domain that is not Kubernetes' own.
fn is_extended(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
        && !name.starts_with("requests.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::tests::{node, pod, requesting};

    #[test]
    fn a_pod_fits_only_in_what_others_leave() {
        let (small, big) = (requesting("small", json!({"cpu": "300m"})), requesting("big", json!({"cpu": "800m"})));
        let mut allocatable = node().allocatable;
        allocatable.insert("example.com/gpu".into(), quantity::count(1));
        let gpu = |count: &str| requesting("gpu", json!({"example.com/gpu": count}));
        let unknown = requesting("u", json!({"example.com/fpga": "9"}));
        let huge = requesting("h", json!({"hugepages-2Mi": "2Mi"}));
        let pod_level = pod("l", json!({"resources": {"requests": {"cpu": "1001m"}}}));
        type Case<'a> = (&'a str, &'a Pod, Vec<Arc<Pod>>, Option<(&'a str, &'a str)>);
        let cases: [Case; 8] = [
            ("alone", &big, vec![], None),
            (
                "beside another",
                &big,
                vec![small.clone()],
                Some(("OutOfcpu", "cpu, requested: 800, used: 300, capacity: 1000")),
            ),
            (
                "one pod too many",
                &small,
                vec![gpu("0"), gpu("0"), gpu("0")],
                Some(("OutOfpods", "pods, requested: 1, used: 3, capacity: 3")),
            ),
            ("an extended resource", &gpu("1"), vec![], None),
            (
                "of which there are too few",
                &gpu("2"),
                vec![],
                Some(("OutOfexample.com/gpu", "example.com/gpu, requested: 2, used: 0, capacity: 1")),
            ),
            ("one the node doesn't know", &unknown, vec![], None),
            (
                "huge pages it doesn't have",
                &huge,
                vec![],
                Some(("OutOfhugepages-2Mi", "hugepages-2Mi, requested: 2097152, used: 0, capacity: 0")),
            ),
            (
                "requests of the pod as a whole",
                &pod_level,
                vec![],
                Some(("OutOfcpu", "cpu, requested: 1001, used: 0, capacity: 1000")),
            ),
        ];
        for (case, pod, others, refused) in cases {
            let found = missing(pod, &others, &allocatable).first().map(Missing::reason);
            let refused =
                refused.map(|(reason, rest)| Reason::new(reason, format!("Node didn't have enough resource: {rest}")));
            assert_eq!(found, refused, "{case}");
        }
    }
}
