//! From measurements to a number of pods. Pure; amounts are in thousandths.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::common::{meta, pod};

/// How far a measurement may lie from its target before anything is done, as a share of the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerances {
    pub down: f64,
    pub up: f64,
}

impl Tolerances {
    fn allows(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What was measured of one pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    pub milli: i64,
    pub at: Timestamp,
    /// The time over which it was measured, until `at`.
    pub window: Duration,
}

/// By the pod's name.
pub(super) type PodMetrics = HashMap<String, Measured>;

/// What is known about the pods of a target.
pub(super) struct Sample<'a> {
    pub pods: &'a [Arc<Pod>],
    pub metrics: PodMetrics,
    /// CPU time says little about a pod that has just started.
    pub is_cpu: bool,
    pub now: Timestamp,
}

/// How long the CPU time of a new pod says little.
#[derive(Clone, Copy, Debug)]
pub(super) struct Initially {
    pub cpu_initialization: Duration,
    pub readiness_delay: Duration,
}

/// What the average pod should use.
pub(super) enum Target {
    /// Percent of what it asks for; the requests by the pod's name.
    Utilization {
        percent: i32,
        requests: HashMap<String, i64>,
    },
    Average {
        milli: i64,
    },
}

/// What comes of a metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub replicas: i32,
    /// What was measured, as the kind of target has it: on average, or in all.
    pub milli: i64,
    pub utilization: Option<i32>,
}

/// The sum over an average pod, and how it compares with the target.
struct Usage {
    ratio: f64,
    milli: i64,
    utilization: Option<i32>,
}

impl Target {
    fn usage(&self, metrics: &PodMetrics) -> Result<Usage, String> {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        match self {
            Self::Average { milli } => {
                let total: i64 = metrics.values().fold(0, |sum, own| sum.saturating_add(own.milli));
                let average = total / count(metrics.len()).max(1);
                Ok(Usage { ratio: average as f64 / *milli as f64, milli: average, utilization: None })
            }
            Self::Utilization { percent, requests } => {
                // Measurements of other pods, which the selector does not mean, count for nothing.
                let known: Vec<_> =
                    metrics.iter().filter_map(|(name, own)| Some((own.milli, *requests.get(name)?))).collect();
                let total: i64 = known.iter().fold(0, |sum, (own, _)| sum.saturating_add(*own));
                let requested: i64 = known.iter().fold(0, |sum, (_, request)| sum.saturating_add(*request));
                if requested == 0 {
                    return Err("no metrics returned matched known pods".into());
                }
                let utilization = i32::try_from(total.saturating_mul(100) / requested).unwrap_or(i32::MAX);
                Ok(Usage {
                    ratio: f64::from(utilization) / f64::from(*percent),
                    milli: total / count(known.len()),
                    utilization: Some(utilization),
                })
            }
        }
    }

    /// What a pod that was not measured is taken to use so that nothing shrinks on its account.
    fn assumed(&self, name: &str) -> i64 {
        match self {
            Self::Average { milli } => *milli,
            Self::Utilization { percent, requests } => {
                requests.get(name).copied().unwrap_or(0).saturating_mul(i64::from((*percent).max(100))) / 100
            }
        }
    }
}

/// Pods by what their measurements are worth.
#[derive(Debug, Default)]
struct Groups<'a> {
    ready: usize,
    /// Too new to say anything.
    unready: HashSet<&'a str>,
    missing: HashSet<&'a str>,
    /// On their way out, or failed.
    ignored: HashSet<&'a str>,
}

fn group<'a>(sample: &Sample<'a>, initially: Initially) -> Groups<'a> {
    let mut groups = Groups::default();
    for pod in sample.pods {
        let name = meta::name(pod.as_ref());
        if meta::is_deleting(pod.as_ref()) || pod::phase(pod) == "Failed" {
            groups.ignored.insert(name);
        } else if pod::phase(pod) == "Pending" {
            groups.unready.insert(name);
        } else {
            match sample.metrics.get(name) {
                None => drop(groups.missing.insert(name)),
                Some(measured) if sample.is_cpu && is_unready(pod, measured, initially, sample.now) => {
                    groups.unready.insert(name);
                }
                Some(_) => groups.ready += 1,
            }
        }
    }
    groups
}

/// Whether the CPU time of a pod is that of its start.
fn is_unready(pod: &Pod, measured: &Measured, initially: Initially, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(started), Some(ready)) = (started, pod::condition(pod, "Ready")) else { return true };
    let changed = ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0);
    let after = |time: Timestamp, span: Duration| {
        time.checked_add(SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
    };
    let is_false = ready.status == "False";
    if after(started.0, initially.cpu_initialization) > now {
        // It has to have been ready for the whole of what was measured.
        is_false || measured.at < after(changed, measured.window)
    } else {
        // Never ready since soon after its start.
        is_false && after(started.0, initially.readiness_delay) > changed
    }
}

fn ceil(replicas: f64) -> i32 {
    // A cast saturates.
    replicas.ceil() as i32
}

/// How many pods are wanted by what is measured of each.
///
/// Pods that are missing are taken to use what argues against a change, and pods that are not ready to use nothing; if that
/// turns the direction around, nothing changes.
pub(super) fn by_pods(
    current: i32,
    target: &Target,
    tolerances: Tolerances,
    sample: Sample<'_>,
    initially: Initially,
) -> Result<Proposal, String> {
    if sample.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    let groups = group(&sample, initially);
    let Sample { mut metrics, now, .. } = sample;
    metrics.retain(|name, _| !groups.ignored.contains(name.as_str()) && !groups.unready.contains(name.as_str()));
    if metrics.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let Usage { ratio, milli, utilization } = target.usage(&metrics)?;
    let propose = |replicas| Ok(Proposal { replicas, milli, utilization });
    let up_with_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        return propose(if tolerances.allows(ratio) { current } else { ceil(ratio * groups.ready as f64) });
    }
    let mut assume = |name: &str, milli| {
        metrics.insert(name.to_owned(), Measured { milli, at: now, window: Duration::ZERO });
    };
    if ratio < 1.0 {
        groups.missing.iter().for_each(|name| assume(name, target.assumed(name)));
    } else if ratio > 1.0 {
        groups.missing.iter().for_each(|name| assume(name, 0));
    }
    if up_with_unready {
        groups.unready.iter().for_each(|name| assume(name, 0));
    }
    let rebalanced = target.usage(&metrics)?.ratio;
    let turned = ratio < 1.0 && rebalanced > 1.0 || ratio > 1.0 && rebalanced < 1.0;
    if tolerances.allows(rebalanced) || turned {
        return propose(current);
    }
    let wanted = ceil(rebalanced * metrics.len() as f64);
    let against = rebalanced < 1.0 && wanted > current || rebalanced > 1.0 && wanted < current;
    propose(if against { current } else { wanted })
}

/// How many pods are wanted when something else is measured that they share: `milli` should be `target`.
pub(super) fn by_value(
    current: i32,
    milli: i64,
    target: i64,
    tolerances: Tolerances,
    pods: &[Arc<Pod>],
) -> Result<Proposal, String> {
    let ratio = milli as f64 / target as f64;
    let propose = |replicas| Ok(Proposal { replicas, milli, utilization: None });
    if current == 0 {
        return propose(ceil(ratio));
    }
    if tolerances.allows(ratio) {
        return propose(current);
    }
    if pods.is_empty() {
        return Err(
            "unable to calculate ready pods: no pods returned by selector while calculating replica count".into()
        );
    }
    let ready = pods.iter().filter(|pod| pod::phase(pod) == "Running" && pod::is_ready(pod)).count();
    propose(ceil(ratio * ready as f64))
}

/// The same where each pod's share should be `target`; `replicas` are those that share now.
pub(super) fn by_share(replicas: i32, milli: i64, target: i64, tolerances: Tolerances) -> Proposal {
    let wanted = milli as f64 / target as f64;
    let ratio = wanted / f64::from(replicas);
    let share = (milli as f64 / f64::from(replicas)).ceil() as i64;
    Proposal {
        replicas: if tolerances.allows(ratio) { replicas } else { ceil(wanted) },
        milli: share,
        utilization: None,
    }
}

/// What pods ask for of a resource, all containers or one, sidecars included.
pub(super) fn requests(pods: &[Arc<Pod>], resource: &str, container: &str) -> Result<HashMap<String, i64>, String> {
    let named = |pod: &Arc<Pod>| Ok((meta::name(pod.as_ref()).to_owned(), request(pod, resource, container)?));
    pods.iter().map(named).collect()
}

fn request(pod: &Pod, resource: &str, container: &str) -> Result<i64, String> {
    let name = meta::name(pod);
    let Some(spec) = &pod.spec else { return Err(format!("no spec in Pod {name}")) };
    let of_pod = spec.resources.as_ref().and_then(|own| own.requests.as_ref()).filter(|own| !own.is_empty());
    let sidecars = spec.init_containers.iter().flatten().filter(|own| own.restart_policy.as_deref() == Some("Always"));
    let mut containers = spec.containers.iter().chain(sidecars);
    let asked = |own: &Container| milli(own.resources.as_ref()?.requests.as_ref()?.get(resource)?);
    if !container.is_empty() {
        let own = containers.find(|own| own.name == container);
        let own = own.ok_or_else(|| format!("container {container} not found in Pod {name}"))?;
        return asked(own)
            .ok_or_else(|| format!("missing request for {resource} in container {container} of Pod {name}"));
    }
    if let Some(of_pod) = of_pod {
        let shared = of_pod.get(resource).and_then(milli);
        let overhead = spec.overhead.as_ref().and_then(|own| milli(own.get(resource)?)).unwrap_or(0);
        let sum = || containers.filter_map(asked).reduce(i64::saturating_add);
        let asked =
            shared.or_else(sum).ok_or_else(|| format!("missing pod-level request for {resource} in Pod {name}"))?;
        return Ok(asked.saturating_add(overhead));
    }
    containers.try_fold(0i64, |sum, own| {
        let asked = asked(own)
            .ok_or_else(|| format!("missing request for {resource} in container {} of Pod {name}", own.name))?;
        Ok(sum.saturating_add(asked))
    })
}

fn milli(quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> Option<i64> {
    Some(apimachinery::quantity::Quantity::parse(&quantity.0).ok()?.milli_value())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const INITIALLY: Initially =
        Initially { cpu_initialization: Duration::from_secs(300), readiness_delay: Duration::from_secs(30) };
    const TOLERANCES: Tolerances = Tolerances { down: 0.1, up: 0.1 };

    fn now() -> Timestamp {
        Timestamp::from_second(10_000).unwrap()
    }

    /// A pod that started and changed its readiness so many seconds ago.
    fn pod(name: &str, phase: &str, ready: &str, started: i64, changed: i64) -> Arc<Pod> {
        let ago = |secs: i64| (now() - SignedDuration::from_secs(secs)).to_string();
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
                "status": {"phase": phase, "startTime": ago(started),
                    "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": ago(changed)}]},
            }))
            .unwrap(),
        )
    }

    fn sample<'a>(pods: &'a [Arc<Pod>], of: &[(&str, i64)]) -> Sample<'a> {
        let measured = |milli| Measured { milli, at: now(), window: Duration::from_secs(60) };
        let metrics = of.iter().map(|(name, milli)| ((*name).to_owned(), measured(*milli))).collect();
        Sample { pods, metrics, is_cpu: true, now: now() }
    }

    fn running(names: &[&str]) -> Vec<Arc<Pod>> {
        names.iter().map(|name| pod(name, "Running", "True", 3600, 3600)).collect()
    }

    #[test]
    fn percent_of_requests() {
        for (name, pods, measured, percent, replicas, utilization) in [
            ("as wanted", running(&["a", "b"]), &[("a", 500), ("b", 500)][..], 50, 2, 50),
            ("within the tolerance", running(&["a", "b"]), &[("a", 540), ("b", 540)], 50, 2, 54),
            ("too much", running(&["a", "b"]), &[("a", 1000), ("b", 1000)], 50, 4, 100),
            ("too little", running(&["a", "b"]), &[("a", 100), ("b", 100)], 50, 1, 10),
            ("missing ones stop the growth", running(&["a", "b"]), &[("a", 1000)], 50, 2, 100),
            ("missing ones stop the shrinking", running(&["a", "b"]), &[("a", 100)], 50, 2, 10),
            ("others count for nothing", running(&["a"]), &[("a", 500), ("x", 9000)], 50, 1, 50),
        ] {
            let current = i32::try_from(pods.len()).unwrap();
            let target = Target::Utilization { percent, requests: requests(&pods, "cpu", "").unwrap() };
            let proposal = by_pods(current, &target, TOLERANCES, sample(&pods, measured), INITIALLY).unwrap();
            assert_eq!((proposal.replicas, proposal.utilization), (replicas, Some(utilization)), "{name}");
        }
    }

    #[test]
    fn pods_that_are_new_or_going_say_little() {
        let deleting = {
            let mut pod = Pod::clone(&pod("d", "Running", "True", 3600, 3600));
            pod.metadata.deletion_timestamp = Some(meta::now());
            Arc::new(pod)
        };
        let cpu = |more: Arc<Pod>, measured: &[(&str, i64)]| {
            let pods = [running(&["a"]), vec![more]].concat();
            let target = Target::Average { milli: 100 };
            by_pods(2, &target, TOLERANCES, sample(&pods, measured), INITIALLY).unwrap().replicas
        };
        for (name, more, replicas) in [
            ("ready for long", pod("b", "Running", "True", 3600, 3600), 20),
            ("pending", pod("b", "Pending", "False", 10, 10), 5),
            ("young and not ready for a whole window", pod("b", "Running", "True", 100, 30), 5),
            ("young and ready for long enough", pod("b", "Running", "True", 100, 70), 20),
            ("young and not ready", pod("b", "Running", "False", 100, 90), 5),
            ("old and never ready", pod("b", "Running", "False", 3600, 3590), 5),
            ("old and not ready any more", pod("b", "Running", "False", 3600, 10), 20),
        ] {
            assert_eq!(cpu(more, &[("a", 500), ("b", 1500)]), replicas, "{name}");
        }
        assert_eq!(cpu(deleting, &[("a", 500), ("d", 9000)]), 5);
    }

    #[test]
    fn what_cannot_be_computed_is_told() {
        let target = Target::Average { milli: 100 };
        let run = |pods: &[Arc<Pod>], measured: &[(&str, i64)]| {
            by_pods(1, &target, TOLERANCES, sample(pods, measured), INITIALLY).unwrap_err()
        };
        assert!(run(&[], &[("a", 1)]).starts_with("no pods returned by selector"));
        assert!(run(&[pod("a", "Pending", "False", 1, 1)], &[("a", 1)]).starts_with("did not receive metrics"));
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c"}]}}))
        .unwrap();
        for (container, message) in [
            ("", "missing request for cpu in container c of Pod p"),
            ("c", "missing request for cpu in container c of Pod p"),
            ("d", "container d not found in Pod p"),
        ] {
            assert_eq!(request(&pod, "cpu", container).unwrap_err(), message);
        }
    }

    #[test]
    fn requests_of_containers_sidecars_and_pods() {
        let of = |spec: Value, container: &str| {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
            request(&pod, "cpu", container)
        };
        let asks = |name: &str, cpu: &str| json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = asks("side", "500m");
        sidecar["restartPolicy"] = json!("Always");
        let two =
            json!({"containers": [asks("a", "1"), asks("b", "250m")], "initContainers": [sidecar, asks("i", "9")]});
        assert_eq!(of(two.clone(), ""), Ok(1750));
        assert_eq!(of(two.clone(), "b"), Ok(250));
        assert_eq!(of(two.clone(), "side"), Ok(500));
        let mut whole = two;
        whole["resources"] = json!({"requests": {"cpu": "3"}});
        whole["overhead"] = json!({"cpu": "100m"});
        assert_eq!(of(whole.clone(), ""), Ok(3100));
        assert_eq!(of(whole, "a"), Ok(1000));
    }

    #[test]
    fn values_that_pods_share() {
        let pods = running(&["a", "b"]);
        for (current, milli, target, replicas) in
            [(2, 20_000, 10_000, 4), (2, 10_500, 10_000, 2), (2, 1_000, 10_000, 1), (0, 35_000, 10_000, 4)]
        {
            assert_eq!(by_value(current, milli, target, TOLERANCES, &pods).unwrap().replicas, replicas, "{milli}");
        }
        assert!(by_value(2, 20_000, 10_000, TOLERANCES, &[]).is_err());
        for (replicas, milli, target, wanted, share) in
            [(2, 20_000, 5_000, 4, 10_000), (2, 10_500, 5_000, 2, 5_250), (3, 1_000, 5_000, 1, 334)]
        {
            let proposal = by_share(replicas, milli, target, TOLERANCES);
            assert_eq!((proposal.replicas, proposal.milli), (wanted, share), "{milli}");
        }
    }
}
