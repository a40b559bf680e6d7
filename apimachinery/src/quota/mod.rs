//! What objects use of a ResourceQuota, by the names that quotas have for it.
//!
//! Two read this: the API server's admission, which charges a write before it is stored, and the resourcequota controller,
//! which counts what there is. Every name that may stand in `spec.hard` is tracked by one [`Kind`], see [`Kind::tracking`];
//! [`Kind::usage`] is what one object of it uses. Nothing here knows who asks, or keeps anything.

mod claims;
mod pod;
pub mod pod_totals;
mod scope;

pub use pod::unstated;
pub use pod_totals::{Amounts, Basis, Side, amount, totals};

use crate::Value;
use crate::quantity::{Format, Quantity};
use jiff::Timestamp;

/// Core resources whose objects quotas also count by the bare name.
const COUNTED: [&str; 7] =
    ["configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "resourcequotas", "secrets", "services"];

pub const PODS: Kind<'static> = Kind { group: "", plural: "pods" };
pub const SERVICES: Kind<'static> = Kind { group: "", plural: "services" };
pub const CLAIMS: Kind<'static> = Kind { group: "", plural: "persistentvolumeclaims" };
pub const DEVICE_CLAIMS: Kind<'static> = Kind { group: "resource.k8s.io", plural: "resourceclaims" };

/// A resource whose objects use something: group (empty for core) and plural.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind<'a> {
    pub group: &'a str,
    pub plural: &'a str,
}

impl<'a> Kind<'a> {
    /// Whose objects a name in `hard` is about; none if nobody keeps count of it.
    pub fn tracking(name: &'a str) -> Option<Kind<'a>> {
        if let Some(counted) = name.strip_prefix("count/") {
            let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
            return Some(Kind { group, plural });
        }
        if COUNTED.contains(&name) {
            return Some(Kind { group: "", plural: name });
        }
        match name {
            "services.nodeports" | "services.loadbalancers" => Some(SERVICES),
            _ if claims::is_storage(name) => Some(CLAIMS),
            _ if name.ends_with(claims::OF_DEVICE_CLASS) => Some(DEVICE_CLAIMS),
            _ if pod::is_compute(name) => Some(PODS),
            _ => None,
        }
    }

    /// What an object uses. `now` tells pods that are long past their end from those about to end.
    pub fn usage(self, object: &Value, now: Timestamp) -> Amounts {
        let dot = if self.group.is_empty() { "" } else { "." };
        let mut used = Amounts::from([(format!("count/{}{dot}{}", self.plural, self.group), count(1))]);
        if self.group.is_empty() && COUNTED.contains(&self.plural) && self != PODS {
            used.insert(self.plural.to_owned(), count(1));
        }
        match self {
            PODS if pod::counts(object, now) => pod::usage(object, &mut used),
            SERVICES => service(object, &mut used),
            CLAIMS => claims::storage(object, &mut used),
            DEVICE_CLAIMS => claims::devices(object, &mut used),
            _ => {}
        }
        used
    }

    /// Whether the scopes of a quota's `spec`, if it has any, are about the object. Only pods and volume claims have what
    /// scopes ask for.
    pub fn in_scope(self, spec: &Value, object: &Value) -> bool {
        scope::of(spec).all(|requirement| match self {
            PODS => requirement.pod(object),
            CLAIMS => requirement.claim(object),
            _ => false,
        })
    }

    /// What all of `objects` use of those `names` that this kind tracks; zero is told too.
    pub fn tally<'n>(
        self,
        names: impl IntoIterator<Item = &'n str>,
        spec: &Value,
        objects: impl IntoIterator<Item = Value>,
        now: Timestamp,
    ) -> Amounts {
        let tracked = names.into_iter().filter(|name| Kind::tracking(name) == Some(self));
        let mut sum: Amounts = tracked.map(|name| (name.to_owned(), count(0))).collect();
        for object in objects.into_iter().filter(|object| self.in_scope(spec, object)) {
            for (name, amount) in self.usage(&object, now) {
                if let Some(total) = sum.get_mut(&name) {
                    // Zero has no format of its own to keep.
                    *total = if total.is_zero() { amount } else { total.add(&amount) };
                }
            }
        }
        sum
    }
}

/// A number of things.
pub fn count(n: i64) -> Quantity {
    Quantity::new(n, Format::DecimalSi)
}

fn service(service: &Value, used: &mut Amounts) {
    let spec = &service["spec"];
    let ports = || spec["ports"].as_array().into_iter().flatten();
    let (balancers, node_ports) = match spec["type"].as_str() {
        Some("NodePort") => (0, ports().count()),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => {
            // Those that were asked for by number are there all the same.
            (1, ports().filter(|port| port["nodePort"].as_i64().is_some_and(|port| port != 0)).count())
        }
        Some("LoadBalancer") => (1, ports().count()),
        _ => (0, 0),
    };
    used.insert("services.loadbalancers".into(), count(balancers));
    used.insert("services.nodeports".into(), count(node_ports as i64));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn used(kind: Kind<'_>, object: Value) -> Value {
        let amounts = kind.usage(&object, Timestamp::UNIX_EPOCH);
        amounts
            .into_iter()
            .map(|(name, amount)| (name, Value::from(amount.to_string())))
            .collect::<crate::Map<_, _>>()
            .into()
    }

    #[test]
    fn every_name_has_one_kind_that_tracks_it() {
        for (name, group, plural) in [
            ("pods", "", "pods"),
            ("count/pods", "", "pods"),
            ("cpu", "", "pods"),
            ("limits.memory", "", "pods"),
            ("requests.hugepages-2Mi", "", "pods"),
            ("requests.nvidia.com/gpu", "", "pods"),
            ("services.nodeports", "", "services"),
            ("requests.storage", "", "persistentvolumeclaims"),
            ("gold.storageclass.storage.k8s.io/requests.storage", "", "persistentvolumeclaims"),
            ("gpu.deviceclass.resource.k8s.io/devices", "resource.k8s.io", "resourceclaims"),
            ("count/deployments.apps", "apps", "deployments"),
            ("count/widgets.example.com", "example.com", "widgets"),
            ("secrets", "", "secrets"),
        ] {
            assert_eq!(Kind::tracking(name), Some(Kind { group, plural }), "{name}");
        }
        for name in ["deployments", "limits.nvidia.com/gpu", "requests.kubernetes.io/x", "example.com/x"] {
            assert_eq!(Kind::tracking(name), None, "{name}");
        }
    }

    #[test]
    fn services_use_ports_and_balancers() {
        for (spec, balancers, ports) in [
            (json!({"type": "ClusterIP", "ports": [{}]}), "0", "0"),
            (json!({"type": "NodePort", "ports": [{}, {}]}), "0", "2"),
            (json!({"type": "LoadBalancer", "ports": [{}, {}]}), "1", "2"),
            (
                json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"nodePort": 30000}, {}]}),
                "1",
                "1",
            ),
        ] {
            let used = used(SERVICES, json!({"spec": spec}));
            let want = json!({"count/services": "1", "services": "1", "services.loadbalancers": balancers,
                "services.nodeports": ports});
            assert_eq!(used, want);
        }
    }

    #[test]
    fn objects_of_other_kinds_count_one() {
        assert_eq!(
            used(Kind { group: "apps", plural: "deployments" }, json!({})),
            json!({"count/deployments.apps": "1"})
        );
        assert_eq!(
            used(Kind { group: "", plural: "secrets" }, json!({})),
            json!({"count/secrets": "1", "secrets": "1"})
        );
        assert_eq!(used(Kind { group: "", plural: "endpoints" }, json!({})), json!({"count/endpoints": "1"}));
    }

    #[test]
    fn a_tally_sums_what_is_in_scope_and_names_what_is_zero() {
        let pod = |cpu: &str| json!({"spec": {"containers": [{"resources": {"requests": {"cpu": cpu}}}]}});
        let names = ["pods", "cpu", "limits.cpu", "services"];
        let tally = |spec: Value| {
            let sum = PODS.tally(names, &spec, [pod("500m"), pod("1"), json!({"spec": {}})], Timestamp::UNIX_EPOCH);
            sum.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(tally(json!({})), "cpu=1500m limits.cpu=0 pods=3");
        assert_eq!(tally(json!({"scopes": ["NotBestEffort"]})), "cpu=1500m limits.cpu=0 pods=2");
        assert_eq!(tally(json!({"scopes": ["BestEffort"]})), "cpu=0 limits.cpu=0 pods=1");
    }
}
