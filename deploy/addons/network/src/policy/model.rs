//! What of a Pod matters to policies, and which pods a selector means.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Expression, SelectorExt};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub type Labels = BTreeMap<String, String>;

/// Namespace and name.
pub type Key = (String, String);

/// Protocols that policies can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As the API has it; TCP where it is left out.
    pub fn parse(text: Option<&str>) -> Option<Protocol> {
        match text {
            None | Some("TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }

    /// As rules have it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// A pod that has addresses of its own and still runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    pub labels: Labels,
    pub addresses: Vec<IpAddr>,
    /// Ports of its containers that have a name.
    pub ports: Vec<(String, Protocol, u16)>,
    /// Whether it is on this node.
    pub local: bool,
}

impl PodFacts {
    /// Nothing for a pod that policies are not for: one on its node's network, one without an address yet, and one that is
    /// over, whose address may be another's by now.
    pub fn of(pod: &Pod, node: &str) -> Option<PodFacts> {
        let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
        if spec.host_network == Some(true) || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let ips = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok());
        let addresses: Vec<IpAddr> = ips.collect();
        if addresses.is_empty() {
            return None;
        }
        // Init containers that keep running serve too.
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let ports = containers.flat_map(|container| container.ports.iter().flatten()).filter_map(|port| {
            let number = u16::try_from(port.container_port).ok()?;
            Some((port.name.clone()?, Protocol::parse(port.protocol.as_deref())?, number))
        });
        Some(PodFacts {
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            addresses,
            ports: ports.collect(),
            local: spec.node_name.as_deref() == Some(node),
        })
    }
}

/// A label selector in a form in which equal ones are equal, so that they share a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector(BTreeSet<Expression>);

impl Selector {
    /// The empty selector selects everything. An operator that is not known makes it an error.
    pub fn of(selector: &LabelSelector) -> Result<Selector, String> {
        let labels = selector.match_labels.iter().flatten();
        let mut all: BTreeSet<Expression> =
            labels.map(|(key, value)| Expression::Equal(key.clone(), value.clone())).collect();
        for expression in selector.match_expressions.iter().flatten() {
            let key = expression.key.clone();
            let mut values: BTreeSet<String> = expression.values.iter().flatten().cloned().collect();
            all.insert(match (expression.operator.as_str(), values.len()) {
                ("In", 1) => Expression::Equal(key, values.pop_first().unwrap_or_default()),
                ("In", _) => Expression::In(key, values),
                ("NotIn", 1) => Expression::NotEqual(key, values.pop_first().unwrap_or_default()),
                ("NotIn", _) => Expression::NotIn(key, values),
                ("Exists", _) => Expression::Exists(key),
                ("DoesNotExist", _) => Expression::DoesNotExist(key),
                (other, _) => return Err(format!("{other:?} is no operator of a label selector")),
            });
        }
        Ok(Selector(all))
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|expression| expression.matches(labels))
    }
}

/// Which namespaces a peer is looked for in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespaces {
    One(String),
    Matching(Selector),
}

/// Pods by where they are and by their labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodSet {
    pub namespaces: Namespaces,
    pub pods: Selector,
}

impl PodSet {
    /// All pods of the cluster.
    pub fn everything() -> PodSet {
        PodSet { namespaces: Namespaces::Matching(Selector::default()), pods: Selector::default() }
    }

    /// Whether a pod is one of them. `labels` are its namespace's; a namespace that is not known yet matches no selector.
    pub fn contains(&self, namespace: &str, labels: Option<&Labels>, pod: &PodFacts) -> bool {
        let there = match &self.namespaces {
            Namespaces::One(name) => name == namespace,
            Namespaces::Matching(selector) => labels.is_some_and(|labels| selector.matches(labels)),
        };
        there && self.pods.matches(&pod.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_selectors_are_one_and_match_as_the_api_says() {
        let selector = |value| Selector::of(&serde_json::from_value(value).unwrap());
        let by_label = selector(json!({"matchLabels": {"app": "web"}})).unwrap();
        let by_expression =
            selector(json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]})).unwrap();
        assert_eq!(by_label, by_expression);
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        for (expression, with, without) in [
            (json!({"key": "app", "operator": "In", "values": ["web", "db"]}), true, false),
            (json!({"key": "app", "operator": "NotIn", "values": ["web", "db"]}), false, true),
            (json!({"key": "app", "operator": "Exists"}), true, false),
            (json!({"key": "app", "operator": "DoesNotExist"}), false, true),
        ] {
            let selector = selector(json!({"matchExpressions": [expression]})).unwrap();
            assert_eq!(selector.matches(&labels(&[("app", "web")])), with, "{expression}");
            assert_eq!(selector.matches(&labels(&[("tier", "x")])), without, "{expression}");
        }
        assert!(selector(json!({})).unwrap().matches(&Labels::new()));
        assert!(selector(json!({"matchExpressions": [{"key": "app", "operator": "Near"}]})).is_err());
    }

    #[test]
    fn only_pods_with_an_address_of_their_own_that_still_run_count() {
        let pod = |host: bool, phase: &str, ips: &[&str]| -> Pod {
            let ips: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
            serde_json::from_value(json!({
                "metadata": {"labels": {"app": "web"}},
                "spec": {"nodeName": "a", "hostNetwork": host, "containers": [{"name": "c", "ports": [
                    {"containerPort": 80, "name": "http"}, {"containerPort": 53, "name": "dns", "protocol": "UDP"},
                    {"containerPort": 81}]}]},
                "status": {"phase": phase, "podIPs": ips},
            }))
            .unwrap()
        };
        for (of, counts) in [
            (pod(false, "Running", &["10.0.0.1", "fd00::1"]), true),
            (pod(false, "Pending", &["10.0.0.1"]), true),
            (pod(true, "Running", &["10.0.0.1"]), false),
            (pod(false, "Succeeded", &["10.0.0.1"]), false),
            (pod(false, "Failed", &["10.0.0.1"]), false),
            (pod(false, "Pending", &[]), false),
        ] {
            assert_eq!(PodFacts::of(&of, "a").is_some(), counts, "{of:?}");
        }
        let facts = PodFacts::of(&pod(false, "Running", &["10.0.0.1"]), "b").unwrap();
        assert!(!facts.local);
        assert_eq!(facts.ports, [("http".into(), Protocol::Tcp, 80), ("dns".into(), Protocol::Udp, 53)]);
    }
}
