//! Bounds that a pod sets itself on the node's disk: emptyDir's `sizeLimit`, and limits of `ephemeral-storage`. The kernel
//! doesn't hold it to them, so a pod beyond one is ended. No disruption: it would end the same way elsewhere.

use apimachinery::quantity::{Format, Quantity};
use configuration::quantity;
use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use pod_state::spec;

/// What the pod uses, in bytes.
pub struct Used<'a> {
    pub volumes: Vec<(&'a str, u64)>,
    /// Logs, and writable layers where images share the node's disk.
    pub containers: Vec<(&'a str, u64)>,
    pub all: u64,
}

/// A bound that was exceeded.
#[derive(Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Its name in the metric.
    pub signal: &'static str,
    pub message: String,
}

/// The pod has set any bound at all.
pub fn is_bounded(pod: &Pod) -> bool {
    let sized = |volume: &Volume| volume.empty_dir.as_ref().is_some_and(|source| source.size_limit.is_some());
    spec::spec(pod).volumes.iter().flatten().any(sized) || spec::limits_sum(pod, "ephemeral-storage") > 0
}

/// The first bound that the pod exceeds.
pub fn exceeded(pod: &Pod, used: &Used) -> Option<Exceeded> {
    empty_dir(pod, used).or_else(|| whole(pod, used)).or_else(|| container(pod, used))
}

fn is_beyond(used: u64, limit: i64) -> bool {
    limit > 0 && used > limit.unsigned_abs()
}

fn empty_dir(pod: &Pod, used: &Used) -> Option<Exceeded> {
    spec::spec(pod).volumes.iter().flatten().find_map(|volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        let (_, bytes) = used.volumes.iter().find(|(name, _)| *name == volume.name)?;
        let message = format!("Usage of EmptyDir volume \"{}\" exceeds the limit \"{}\". ", volume.name, limit.0);
        is_beyond(*bytes, quantity::parse(&limit.0)?).then_some(Exceeded { signal: "emptydirfs.limit", message })
    })
}

fn whole(pod: &Pod, used: &Used) -> Option<Exceeded> {
    let limit = spec::limits_sum(pod, "ephemeral-storage");
    let text = Quantity::new(limit, Format::BinarySi);
    let message = format!("Pod ephemeral local storage usage exceeds the total limit of containers {text}. ");
    is_beyond(used.all, limit).then_some(Exceeded { signal: "ephemeralpodfs.limit", message })
}

fn container(pod: &Pod, used: &Used) -> Option<Exceeded> {
    let exceeds = |container: &Container| {
        let limit = container.resources.as_ref()?.limits.as_ref()?.get("ephemeral-storage")?;
        let (name, bytes) = used.containers.iter().find(|(name, _)| *name == container.name)?;
        let message = format!("Container {name} exceeded its local ephemeral storage limit \"{}\". ", limit.0);
        is_beyond(*bytes, quantity::parse(&limit.0)?)
            .then_some(Exceeded { signal: "ephemeralcontainerfs.limit", message })
    };
    spec::spec(pod).containers.iter().find_map(exceeds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_held_to_the_bounds_it_has_set() {
        let limit = |bytes: &str| json!({"limits": {"ephemeral-storage": bytes}});
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"name": "a", "resources": limit("1Mi")}, {"name": "b"}],
            "volumes": [
                {"name": "small", "emptyDir": {"sizeLimit": "100Ki"}},
                {"name": "free", "emptyDir": {}},
                {"name": "zero", "emptyDir": {"sizeLimit": "0"}},
            ],
        }}))
        .expect("a pod");
        const KI: u64 = 1 << 10;
        type Case<'a> = (&'a [(&'a str, u64)], &'a [(&'a str, u64)], u64, &'a str);
        let cases: [Case; 6] = [
            (&[("small", 100 * KI)], &[("a", 1000 * KI)], 1024 * KI, ""),
            (&[("small", 100 * KI + 1)], &[], 0, "Usage of EmptyDir volume \"small\" exceeds the limit \"100Ki\". "),
            (&[("free", 1 << 40), ("zero", 1 << 40)], &[], 0, ""),
            (&[], &[], 1024 * KI + 1, "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "),
            (&[], &[("a", 1024 * KI + 1)], 0, "Container a exceeded its local ephemeral storage limit \"1Mi\". "),
            (&[], &[("b", 1 << 40)], 0, ""),
        ];
        for (volumes, containers, all, message) in cases {
            let used = Used { volumes: volumes.to_vec(), containers: containers.to_vec(), all };
            let found = exceeded(&pod, &used).map(|exceeded| exceeded.message).unwrap_or_default();
            assert_eq!(found, message);
        }
    }
}
