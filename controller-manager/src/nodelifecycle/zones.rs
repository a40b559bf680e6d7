//! How fast nodes of a zone may be emptied. Where most nodes of a zone fail at once, the trouble is likely to be the
//! network's and not theirs (docs/concepts/architecture/nodes, "Rate limits on eviction").

use std::{collections::HashMap, time::Instant};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use crate::options::NodeOptions;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
/// Fewer nodes than this are never a sign of a broken zone.
const UNREADY_MIN: usize = 3;

/// The zone of a node: region and zone.
pub(super) fn of(node: &Node) -> String {
    let label = |key: &str| node.labels().get(key).cloned().unwrap_or_default();
    format!("{}/{}", label(REGION), label(ZONE))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Normal,
    /// Enough nodes fail to be careful.
    Partial,
    /// No node is ready.
    Full,
}

fn state(ready: usize, unready: usize, threshold: f32) -> State {
    match (ready, unready) {
        (0, 1..) => State::Full,
        (ready, unready) if unready >= UNREADY_MIN && unready as f32 / (ready + unready) as f32 >= threshold => {
            State::Partial
        }
        _ => State::Normal,
    }
}

/// Nodes per second.
fn rate(state: State, all_full: bool, size: usize, options: &NodeOptions) -> f32 {
    match state {
        // Then it is this process that sees nobody.
        State::Full if all_full => 0.0,
        State::Normal | State::Full => options.node_eviction_rate,
        State::Partial if size > options.large_cluster_size_threshold => options.secondary_node_eviction_rate,
        State::Partial => 0.0,
    }
}

#[derive(Debug)]
struct Zone {
    rate: f32,
    /// Up to one node is saved up.
    tokens: f32,
    refilled: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Zones(HashMap<String, Zone>);

impl Zones {
    /// Takes in which nodes are ready: zone and whether.
    pub fn update(&mut self, nodes: impl Iterator<Item = (String, bool)>, options: &NodeOptions, now: Instant) {
        let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
        for (zone, ready) in nodes {
            let count = counts.entry(zone).or_default();
            if ready { count.0 += 1 } else { count.1 += 1 }
        }
        let states: HashMap<&String, State> = counts
            .iter()
            .map(|(zone, (ready, unready))| (zone, state(*ready, *unready, options.unhealthy_zone_threshold)))
            .collect();
        // With one zone this holds as soon as none of its nodes is ready, as upstream has it.
        let all_full = states.values().all(|state| *state == State::Full);
        self.0.retain(|zone, _| counts.contains_key(zone));
        for (zone, (ready, unready)) in &counts {
            let rate = rate(states[zone], all_full, ready + unready, options);
            let zone = self.0.entry(zone.clone()).or_insert(Zone { rate, tokens: 1.0, refilled: now });
            zone.tokens = (zone.tokens + zone.rate * (now - zone.refilled).as_secs_f32()).min(1.0);
            zone.refilled = now;
            zone.rate = rate;
        }
    }

    /// Whether one more node of the zone may be emptied now; that is counted.
    pub fn may_evict(&mut self, zone: &str, now: Instant) -> bool {
        let Some(zone) = self.0.get_mut(zone).filter(|zone| zone.rate > 0.0) else { return false };
        zone.tokens = (zone.tokens + zone.rate * (now - zone.refilled).as_secs_f32()).min(1.0);
        zone.refilled = now;
        let may = zone.tokens >= 1.0;
        if may {
            zone.tokens -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::options::Options;

    #[test]
    fn rates_by_state_of_the_zone() {
        let options: Options = component_base::cli::try_parse("kcm", ["kcm"]).unwrap();
        for (ready, unready, all_full, expected) in [
            (10, 0, false, 0.1),
            (10, 2, false, 0.1),
            (1, 2, false, 0.1),
            (4, 6, false, 0.0),
            (40, 60, false, 0.01),
            (0, 5, false, 0.1),
            (0, 5, true, 0.0),
        ] {
            let state = state(ready, unready, options.nodes.unhealthy_zone_threshold);
            let rate = rate(state, all_full, ready + unready, &options.nodes);
            assert_eq!(rate, expected, "{ready} ready, {unready} not");
        }
    }

    #[test]
    fn one_node_at_a_time() {
        let options: Options = component_base::cli::try_parse("kcm", ["kcm"]).unwrap();
        let start = Instant::now();
        let mut zones = Zones::default();
        zones.update([("z".to_owned(), true), ("z".to_owned(), false)].into_iter(), &options.nodes, start);
        assert!(zones.may_evict("z", start));
        assert!(!zones.may_evict("z", start + Duration::from_secs(5)));
        assert!(zones.may_evict("z", start + Duration::from_secs(11)));
        assert!(!zones.may_evict("unknown", start));
    }
}
