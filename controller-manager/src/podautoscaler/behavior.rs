//! How fast a target follows what is recommended: stabilization windows, policies, bounds. Pure.

use std::time::{Duration, Instant};

use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// Without a behavior, a target at most doubles at once, but may always grow to this.
const UP_MIN: i32 = 4;
const UP_FACTOR: i32 = 2;

/// What was recommended and done lately for one HorizontalPodAutoscaler.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct History {
    /// Bounded by the longest window, an hour, at one for each sync.
    pub recommendations: Vec<(i32, Instant)>,
    /// Pods added and removed; bounded by the longest period of a policy, half an hour.
    pub added: Vec<(i32, Instant)>,
    pub removed: Vec<(i32, Instant)>,
}

/// Within what a target is scaled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub min: i32,
    pub max: i32,
    pub current: i32,
}

/// A reason and a message of a condition.
pub(super) type Why = (&'static str, &'static str);

/// The number of pods that a target gets now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub replicas: i32,
    /// For AbleToScale.
    pub able: Why,
    /// For ScalingLimited, and whether it is.
    pub limited: bool,
    pub limit: Why,
}

const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const WITHIN: Why = ("DesiredWithinRange", "the desired count is within the acceptable range");
const UP_LIMIT: Why = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Why =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: Why = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: Why = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");

/// From what is recommended to what is done. `window` is how long a lower recommendation has to hold where the behavior does
/// not say.
pub(super) fn normalize(
    history: &mut History,
    behavior: Option<&HorizontalPodAutoscalerBehavior>,
    bounds: Bounds,
    recommended: i32,
    window: Duration,
    now: Instant,
) -> Outcome {
    let rules = behavior.map(|behavior| (Rules::up(behavior), Rules::down(behavior, window)));
    let windows = match &rules {
        Some((up, down)) => (up.window, down.window),
        None => (Duration::ZERO, window),
    };
    let (stabilized, why) = match &rules {
        Some(_) => stabilize(history, bounds.current, recommended, windows, now),
        None => (highest(history, recommended, window, now), DOWN_STABILIZED),
    };
    history.recommendations.retain(|(_, at)| now.duration_since(*at) <= windows.0.max(windows.1));
    history.recommendations.push((recommended, now));
    let able = if stabilized == recommended { READY } else { why };
    let (replicas, limit) = match &rules {
        Some((up, down)) => limit_by_rules(history, up, down, bounds, stabilized, now),
        None => limit(bounds, stabilized),
    };
    Outcome { replicas, able, limited: replicas != stabilized, limit }
}

fn highest(history: &History, recommended: i32, window: Duration, now: Instant) -> i32 {
    let recent = history.recommendations.iter().filter(|(_, at)| now.duration_since(*at) <= window);
    recent.map(|(replicas, _)| *replicas).fold(recommended, i32::max)
}

/// Up only as far as everything within the window for it says, down only so far too.
fn stabilize(
    history: &History,
    current: i32,
    recommended: i32,
    (up, down): (Duration, Duration),
    now: Instant,
) -> (i32, Why) {
    let recent = |window: Duration| {
        let within = history.recommendations.iter().filter(move |(_, at)| now.duration_since(*at) < window);
        within.map(|(replicas, _)| *replicas)
    };
    let lowest = recent(up).fold(recommended, i32::min);
    let highest = recent(down).fold(recommended, i32::max);
    let stabilized = current.max(lowest).min(highest);
    (stabilized, if recommended >= current { UP_STABILIZED } else { DOWN_STABILIZED })
}

fn limit(bounds: Bounds, wanted: i32) -> (i32, Why) {
    let fastest = bounds.current.saturating_mul(UP_FACTOR).max(UP_MIN);
    let (most, why) = if bounds.max > fastest { (fastest, UP_LIMIT) } else { (bounds.max, TOO_MANY) };
    if wanted < bounds.min {
        (bounds.min, TOO_FEW)
    } else if wanted > most {
        (most, why)
    } else {
        (wanted, WITHIN)
    }
}

fn limit_by_rules(
    history: &History,
    up: &Rules,
    down: &Rules,
    bounds: Bounds,
    wanted: i32,
    now: Instant,
) -> (i32, Why) {
    let current = bounds.current;
    if wanted > current {
        let fastest = up.fastest(history, current, now, Direction::Up).max(current);
        let (most, why) = if bounds.max > fastest { (fastest, UP_LIMIT) } else { (bounds.max, TOO_MANY) };
        if wanted > most {
            return (most, why);
        }
    } else if wanted < current {
        let fastest = down.fastest(history, current, now, Direction::Down).min(current);
        let (least, why) = if bounds.min < fastest { (fastest, DOWN_LIMIT) } else { (bounds.min, TOO_FEW) };
        if wanted < least {
            return (least, why);
        }
    }
    (wanted, WITHIN)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// Rules of one direction, complete.
struct Rules {
    window: Duration,
    select: String,
    policies: Vec<HPAScalingPolicy>,
}

impl Rules {
    fn new(rules: Option<&HPAScalingRules>, window: Duration, policies: &[(&str, i32)]) -> Self {
        let given = rules.and_then(|rules| rules.policies.clone()).filter(|policies| !policies.is_empty());
        let preset = || {
            let policy = |(kind, value): &(&str, i32)| HPAScalingPolicy {
                type_: (*kind).to_owned(),
                value: *value,
                period_seconds: 15,
            };
            policies.iter().map(policy).collect()
        };
        let secs = rules.and_then(|rules| rules.stabilization_window_seconds).and_then(|secs| u64::try_from(secs).ok());
        Self {
            window: secs.map_or(window, Duration::from_secs),
            select: rules.and_then(|rules| rules.select_policy.clone()).unwrap_or_else(|| "Max".into()),
            policies: given.unwrap_or_else(preset),
        }
    }

    fn up(behavior: &HorizontalPodAutoscalerBehavior) -> Self {
        Self::new(behavior.scale_up.as_ref(), Duration::ZERO, &[("Pods", 4), ("Percent", 100)])
    }

    fn down(behavior: &HorizontalPodAutoscalerBehavior, window: Duration) -> Self {
        Self::new(behavior.scale_down.as_ref(), window, &[("Percent", 100)])
    }

    /// How far the target may go in this direction now.
    fn fastest(&self, history: &History, current: i32, now: Instant, direction: Direction) -> i32 {
        if self.select == "Disabled" {
            return current;
        }
        let proposals = self.policies.iter().map(|policy| {
            let period = Duration::from_secs(u64::try_from(policy.period_seconds).unwrap_or(0));
            let changed = |events: &[(i32, Instant)]| -> i32 {
                let recent = events.iter().filter(|(_, at)| now.duration_since(*at) < period);
                recent.map(|(pods, _)| *pods).sum()
            };
            let before = current - changed(&history.added) + changed(&history.removed);
            let share = f64::from(policy.value) / 100.0;
            match (policy.type_.as_str(), direction) {
                ("Percent", Direction::Up) => (f64::from(before) * (1.0 + share)).ceil() as i32,
                ("Percent", Direction::Down) => (f64::from(before) * (1.0 - share)) as i32,
                (_, Direction::Up) => before.saturating_add(policy.value),
                (_, Direction::Down) => before.saturating_sub(policy.value),
            }
        });
        // The largest change is the highest number on the way up and the lowest on the way down.
        let highest = (self.select == "Min") == (direction == Direction::Down);
        if highest { proposals.max() } else { proposals.min() }.unwrap_or(current)
    }
}

/// Remembers that a target was scaled, as long as a policy may ask.
pub(super) fn remember(
    history: &mut History,
    behavior: Option<&HorizontalPodAutoscalerBehavior>,
    from: i32,
    to: i32,
    now: Instant,
) {
    let Some(behavior) = behavior else { return };
    let (events, rules) = if to > from {
        (&mut history.added, Rules::up(behavior))
    } else {
        (&mut history.removed, Rules::down(behavior, Duration::ZERO))
    };
    let longest_secs = rules.policies.iter().map(|policy| policy.period_seconds).max().unwrap_or(0);
    let longest = Duration::from_secs(u64::try_from(longest_secs).unwrap_or(0));
    events.retain(|(_, at)| now.duration_since(*at) <= longest);
    events.push(((to - from).abs(), now));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    fn behavior(value: Value) -> Option<HorizontalPodAutoscalerBehavior> {
        (!value.is_null()).then(|| serde_json::from_value(value).unwrap())
    }

    fn ago(now: Instant, events: &[(i32, u64)]) -> Vec<(i32, Instant)> {
        events.iter().map(|(pods, secs)| (*pods, now - Duration::from_secs(*secs))).collect()
    }

    #[test]
    fn bounds_and_rates() {
        let now = Instant::now() + Duration::from_secs(10_000);
        let fast_down = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [
            {"type": "Percent", "value": 50, "periodSeconds": 60}, {"type": "Pods", "value": 2, "periodSeconds": 60}]}});
        let with = |select: &str| {
            let mut behavior = fast_down.clone();
            behavior["scaleDown"]["selectPolicy"] = select.into();
            behavior
        };
        for (name, rules, current, recommended, replicas, limit) in [
            ("as recommended", json!(null), 4, 6, 6, WITHIN),
            ("too many", json!(null), 9, 20, 10, TOO_MANY),
            ("at most doubled", json!(null), 4, 10, 8, UP_LIMIT),
            ("always up to four", json!(null), 1, 10, 4, UP_LIMIT),
            ("too few", json!(null), 4, 1, 2, TOO_FEW),
            ("four or doubled", json!({}), 3, 10, 7, UP_LIMIT),
            ("the largest change", fast_down.clone(), 10, 2, 5, DOWN_LIMIT),
            ("the smallest change", with("Min"), 10, 2, 8, DOWN_LIMIT),
            ("disabled", with("Disabled"), 10, 2, 10, DOWN_LIMIT),
        ] {
            let bounds = Bounds { min: 2, max: 10, current };
            let rules = behavior(rules);
            let outcome = normalize(&mut History::default(), rules.as_ref(), bounds, recommended, WINDOW, now);
            assert_eq!((outcome.replicas, outcome.limit), (replicas, limit), "{name}");
            assert_eq!(outcome.limited, limit != WITHIN, "{name}");
        }
    }

    #[test]
    fn recent_recommendations_hold() {
        let now = Instant::now() + Duration::from_secs(10_000);
        let slow_up = json!({"scaleUp": {"stabilizationWindowSeconds": 60}});
        for (name, rules, recent, current, recommended, replicas, able) in [
            ("down after a high one", json!(null), &[(8, 100)][..], 8, 4, 8, DOWN_STABILIZED),
            ("down after an old one", json!(null), &[(8, 400)], 8, 4, 4, READY),
            ("up at once", json!(null), &[(2, 100)], 2, 4, 4, READY),
            ("down, with a behavior", json!({}), &[(6, 100)], 8, 4, 6, DOWN_STABILIZED),
            ("up after a low one", slow_up.clone(), &[(3, 30)], 2, 6, 3, UP_STABILIZED),
            ("up after an old one", slow_up, &[(3, 90)], 2, 6, 6, READY),
        ] {
            let mut history = History { recommendations: ago(now, recent), ..History::default() };
            let bounds = Bounds { min: 1, max: 10, current };
            let rules = behavior(rules);
            let outcome = normalize(&mut history, rules.as_ref(), bounds, recommended, WINDOW, now);
            assert_eq!((outcome.replicas, outcome.able), (replicas, able), "{name}");
            assert_eq!(history.recommendations.last(), Some(&(recommended, now)), "{name}");
        }
    }

    #[test]
    fn what_was_done_within_a_period_counts() {
        let now = Instant::now() + Duration::from_secs(10_000);
        let rules = behavior(json!({
            "scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}]},
            "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
        }));
        for (added, removed, recommended, replicas) in [
            (&[][..], &[][..], 10, 10),
            (&[(3, 30)], &[], 20, 7),
            (&[(3, 90)], &[], 20, 10),
            (&[(4, 30)], &[(2, 30)], 20, 8),
            (&[], &[(1, 30)], 1, 5),
            (&[], &[(2, 30)], 1, 6),
        ] {
            let mut history = History { added: ago(now, added), removed: ago(now, removed), ..History::default() };
            let bounds = Bounds { min: 1, max: 100, current: 6 };
            let outcome = normalize(&mut history, rules.as_ref(), bounds, recommended, WINDOW, now);
            assert_eq!(outcome.replicas, replicas, "{added:?} {removed:?}");
        }
        let mut history = History { added: ago(now, &[(1, 90), (2, 30)]), ..History::default() };
        remember(&mut history, rules.as_ref(), 3, 8, now);
        assert_eq!(history.added, [ago(now, &[(2, 30)]), vec![(5, now)]].concat());
        remember(&mut history, None, 3, 8, now);
        assert_eq!(history.added.len(), 2, "without a behavior nobody asks");
    }
}
