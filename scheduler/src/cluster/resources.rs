//! Amounts of resources as plain numbers.

use apimachinery::quantity::Quantity as Parsed;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a container without a request counts as when nodes are scored, so that such pods spread too: 100m and 200 MiB.
pub const NONZERO_MILLI_CPU: i64 = 100;
pub const NONZERO_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts; memory and storage in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Only of nodes: how many pods.
    pub pods: i64,
    /// Extended resources, huge pages and the like, by name. Few, so a list.
    pub scalar: Vec<(Arc<str>, i64)>,
}

impl Resources {
    pub fn from_map(map: Option<&BTreeMap<String, Quantity>>) -> Resources {
        let mut all = Resources::default();
        for (name, quantity) in map.into_iter().flatten() {
            let Ok(parsed) = Parsed::parse(&quantity.0) else { continue };
            match name.as_str() {
                "cpu" => all.milli_cpu = parsed.milli_value(),
                "memory" => all.memory = parsed.value(),
                "ephemeral-storage" => all.ephemeral_storage = parsed.value(),
                "pods" => all.pods = parsed.value(),
                other => all.scalar.push((other.into(), parsed.value())),
            }
        }
        all
    }

    pub fn scalar(&self, name: &str) -> i64 {
        self.scalar.iter().find(|(n, _)| **n == *name).map_or(0, |(_, amount)| *amount)
    }

    pub fn add(&mut self, other: &Resources) {
        self.combine(other, |a, b| a + b);
    }

    pub fn subtract(&mut self, other: &Resources) {
        self.combine(other, |a, b| a - b);
        self.scalar.retain(|(_, amount)| *amount != 0);
    }

    fn max(&mut self, other: &Resources) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Resources, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            match self.scalar.iter_mut().find(|(n, _)| n == name) {
                Some((_, own)) => *own = with(*own, *amount),
                None => self.scalar.push((name.clone(), with(0, *amount))),
            }
        }
    }
}

/// What a pod asks for: its containers together, or its largest init container with the sidecars started before it, whichever is
/// more; and its overhead. (KEP-753, KEP-688.)
pub fn requests(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    let (mut sidecars, mut largest) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&own);
            sidecars.add(&own);
            largest.max(&sidecars);
        } else {
            let mut beside = own;
            beside.add(&sidecars);
            largest.max(&beside);
        }
    }
    running.max(&largest);
    // Requests of the pod as a whole take the place of its containers'. (KEP-2837.)
    if let Some(whole) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let whole_amounts = Resources::from_map(Some(whole));
        if whole.contains_key("cpu") {
            running.milli_cpu = whole_amounts.milli_cpu;
        }
        if whole.contains_key("memory") {
            running.memory = whole_amounts.memory;
        }
    }
    running.add(&Resources::from_map(spec.overhead.as_ref()));
    running
}

/// Requests as they are.
pub fn asked(container: &Container) -> Resources {
    Resources::from_map(container.resources.as_ref().and_then(|r| r.requests.as_ref()))
}

/// Requests with something in the place of nothing.
pub fn asked_or_usual(container: &Container) -> Resources {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let mut all = Resources::from_map(requests);
    if requests.is_none_or(|r| !r.contains_key("cpu")) {
        all.milli_cpu = NONZERO_MILLI_CPU;
    }
    if requests.is_none_or(|r| !r.contains_key("memory")) {
        all.memory = NONZERO_MEMORY;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cpu(spec: Value) -> i64 {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        requests(&spec, asked).milli_cpu
    }

    fn container(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> Value {
        json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn containers_add_up_and_init_containers_count_by_the_largest() {
        let cases = [
            (json!({"containers": [container("100m"), container("200m")]}), 300),
            (json!({"containers": [container("100m")], "initContainers": [container("500m"), container("300m")]}), 500),
            (json!({"containers": [container("100m")], "initContainers": [sidecar("50m"), container("500m")]}), 550),
            (json!({"containers": [container("100m")], "initContainers": [container("120m"), sidecar("50m")]}), 150),
            (json!({"containers": [container("100m")], "overhead": {"cpu": "20m"}}), 120),
            (json!({"containers": [container("100m")], "resources": {"requests": {"cpu": "1"}}}), 1000),
        ];
        for (spec, expected) in cases {
            assert_eq!(cpu(spec.clone()), expected, "{spec}");
        }
    }
}
