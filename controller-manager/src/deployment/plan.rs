//! The arithmetic of rollouts: how many replicas each ReplicaSet should have. Pure functions, no I/O.

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::core::Selector;

use super::annotations;
use crate::common::{
    int_or_percent::{Round, resolve},
    meta,
    pod_events::PodOwner,
};

impl PodOwner for Deployment {
    fn selector(&self) -> Option<Selector> {
        meta::selector(&self.spec.as_ref()?.selector).ok().filter(|selector| !selector.selects_all())
    }
}

pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.type_.as_deref());
    strategy == Some("Recreate")
}

pub(super) fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false)
}

/// Whether `spec.replicas` changed since the sets were sized: then they are scaled first, without rolling on.
pub(super) fn is_scaling<'a>(deployment: &Deployment, sets: impl Iterator<Item = &'a ReplicaSet>) -> bool {
    let mut active = sets.filter(|set| Size::of(set).spec > 0);
    active.any(|set| annotations::desired_replicas(set).is_some_and(|desired| desired != replicas(deployment)))
}

/// What the arithmetic needs to know of a ReplicaSet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Asked for.
    pub spec: i32,
    pub available: i32,
    /// Of the Deployment, with its surge, when this set was last sized.
    pub max: Option<i32>,
}

impl Size {
    pub fn of(set: &ReplicaSet) -> Self {
        Self {
            spec: set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0),
            available: set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0),
            max: annotations::max_replicas(set),
        }
    }
}

fn total(sizes: &[Size]) -> i32 {
    sizes.iter().map(|size| size.spec).sum()
}

/// The bounds between which a rollout moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub replicas: i32,
    pub max_surge: i32,
    pub max_unavailable: i32,
    rolling: bool,
    /// `status.replicas`, for sets that carry no size annotation.
    status_replicas: i32,
}

impl Limits {
    pub fn of(deployment: &Deployment) -> Self {
        let replicas = replicas(deployment);
        let rolling = !is_recreate(deployment);
        let update = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
        let share = |value: Option<&IntOrString>, round| match value {
            Some(value) => resolve(value, replicas, round).unwrap_or(0),
            None => 0,
        };
        let (mut max_surge, mut max_unavailable) = (0, 0);
        if rolling {
            max_surge = share(update.and_then(|update| update.max_surge.as_ref()), Round::Up);
            max_unavailable = share(update.and_then(|update| update.max_unavailable.as_ref()), Round::Down);
            // Both zero would never move; shares of a small number round to it.
            if max_surge == 0 && max_unavailable == 0 {
                max_unavailable = 1;
            }
        }
        let status_replicas = deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
        let max_unavailable = max_unavailable.min(replicas);
        Self { replicas, max_surge, max_unavailable, rolling, status_replicas }
    }

    /// The size of the current set in the next step upwards. `sizes` are those of all sets.
    pub fn new_size(&self, sizes: &[Size], current: i32) -> i32 {
        if !self.rolling || current >= self.replicas {
            return self.replicas;
        }
        let room = self.replicas + self.max_surge - total(sizes);
        if room <= 0 { current } else { current + room.min(self.replicas - current) }
    }

    /// Sizes of old sets in the next step downwards, by index, only those that change. `old` is oldest first.
    pub fn old_sizes(&self, old: &[Size], new: Size) -> Vec<(usize, i32)> {
        let min_available = self.replicas - self.max_unavailable;
        // Pods of the current set that are not available yet use up their share of the unavailable.
        let budget = total(old) + new.spec - min_available - (new.spec - new.available);
        if total(old) == 0 || budget <= 0 {
            return Vec::new();
        }
        let mut sizes: Vec<i32> = old.iter().map(|size| size.spec).collect();

        // First those that serve nobody: taking them costs no availability.
        let mut cleaned = 0;
        for (size, target) in old.iter().zip(&mut sizes) {
            let unhealthy = (size.spec - size.available).max(0).min(budget - cleaned);
            *target -= unhealthy;
            cleaned += unhealthy;
        }

        let available: i32 = old.iter().map(|size| size.available).sum::<i32>() + new.available;
        let mut left = (available - min_available).max(0);
        for target in &mut sizes {
            let down = (*target).min(left);
            *target -= down;
            left -= down;
        }
        let changed = |(index, target): (usize, i32)| (target != old[index].spec).then_some((index, target));
        sizes.into_iter().enumerate().filter_map(changed).collect()
    }

    /// Sizes for a new `spec.replicas` when no step is taken. `sizes` is oldest first; if `has_new`, the last one is the
    /// current set. All sets are listed that must be looked at, also for their annotations.
    pub fn scaled(&self, sizes: &[Size], has_new: bool) -> Vec<(usize, i32)> {
        let active: Vec<usize> = (0..sizes.len()).filter(|index| sizes[*index].spec > 0).collect();
        match active[..] {
            [] if sizes.is_empty() => return Vec::new(),
            // Nothing runs: the current set, or else the youngest.
            [] => return vec![(sizes.len() - 1, self.replicas)],
            [only] => return vec![(only, self.replicas)],
            _ => {}
        }
        if let Some(new) = sizes.last().filter(|_| has_new)
            && new.spec == self.replicas
            && new.available == self.replicas
            && new.spec > 0
        {
            return active.into_iter().filter(|index| index + 1 != sizes.len()).map(|index| (index, 0)).collect();
        }
        if self.rolling { self.proportional(sizes, active) } else { Vec::new() }
    }

    /// Spreads the difference over all active sets by their share, so that a rollout that goes wrong does not get all
    /// that is added.
    fn proportional(&self, sizes: &[Size], mut active: Vec<usize>) -> Vec<(usize, i32)> {
        let current: i32 = active.iter().map(|index| sizes[*index].spec).sum();
        let allowed = if self.replicas > 0 { self.replicas + self.max_surge } else { 0 };
        let to_add = allowed - current;
        // The largest first; among equals the younger gets more, the older loses more.
        active.sort_by_key(|index| {
            let age = if to_add > 0 { usize::MAX - index } else { *index };
            (std::cmp::Reverse(sizes[*index].spec), age)
        });
        let mut added = 0;
        let mut targets = Vec::with_capacity(active.len());
        for index in &active {
            let share = self.share(sizes[*index], to_add, added);
            added += share;
            targets.push((*index, sizes[*index].spec + share));
        }
        // What rounding has left over.
        if let Some((_, largest)) = targets.first_mut() {
            *largest = (*largest + to_add - added).max(0);
        }
        targets
    }

    fn share(&self, size: Size, to_add: i32, added: i32) -> i32 {
        if to_add == 0 || to_add == added {
            return 0;
        }
        let fraction = if self.replicas == 0 {
            -size.spec
        } else {
            let before = size.max.filter(|max| *max > 0).unwrap_or(self.status_replicas);
            if before == 0 {
                return 0;
            }
            let scaled = f64::from(size.spec) * f64::from(self.replicas + self.max_surge) / f64::from(before);
            scaled.round() as i32 - size.spec
        };
        let left = to_add - added;
        if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(replicas: i32, max_surge: i32, max_unavailable: i32) -> Limits {
        Limits { replicas, max_surge, max_unavailable, rolling: true, status_replicas: 0 }
    }

    fn size(spec: i32, available: i32) -> Size {
        Size { spec, available, max: None }
    }

    #[test]
    fn the_new_set_grows_into_the_surge() {
        for (replicas, surge, old, new, expected) in [
            (10, 0, 10, 0, 0),
            (10, 2, 10, 0, 2),
            (10, 2, 5, 0, 7),
            (10, 2, 10, 2, 2),
            (10, 20, 10, 0, 10),
            (10, 2, 0, 10, 10),
            (3, 1, 0, 5, 3),
        ] {
            let sizes = [size(old, old), size(new, new)];
            assert_eq!(limits(replicas, surge, 0).new_size(&sizes, new), expected, "{replicas}+{surge}: {old}/{new}");
        }
    }

    #[test]
    fn recreate_takes_the_whole_size_at_once() {
        let limits = Limits { rolling: false, ..limits(4, 0, 0) };
        assert_eq!(limits.new_size(&[size(0, 0)], 0), 4);
    }

    #[test]
    fn old_sets_shrink_by_what_may_be_unavailable() {
        for (name, unavailable, old, new, expected) in [
            ("nothing to spare", 0, vec![size(10, 10)], size(0, 0), vec![]),
            ("two to spare", 2, vec![size(10, 10)], size(0, 0), vec![(0, 8)]),
            ("new ones are up", 0, vec![size(10, 10)], size(2, 2), vec![(0, 8)]),
            ("new ones are not up yet", 2, vec![size(8, 8)], size(4, 0), vec![]),
            ("unhealthy first", 2, vec![size(5, 5), size(5, 0)], size(0, 0), vec![(1, 3)]),
            ("oldest first", 5, vec![size(5, 5), size(5, 5)], size(0, 0), vec![(0, 0)]),
            ("done", 2, vec![size(0, 0)], size(10, 10), vec![]),
        ] {
            assert_eq!(limits(10, 0, unavailable).old_sizes(&old, new), expected, "{name}");
        }
    }

    #[test]
    fn scaling_during_a_rollout_is_proportional() {
        let sized = |spec, max| Size { spec, available: spec, max: Some(max) };
        for (name, replicas, surge, sizes, expected) in [
            ("10 to 15", 15, 3, vec![sized(8, 13), sized(5, 13)], vec![(0, 11), (1, 7)]),
            ("10 to 5", 5, 1, vec![sized(8, 11), sized(3, 11)], vec![(0, 4), (1, 2)]),
            ("to nothing", 0, 0, vec![sized(8, 11), sized(3, 11)], vec![(0, 0), (1, 0)]),
            ("one set takes all", 7, 3, vec![sized(0, 13), sized(5, 13)], vec![(1, 7)]),
            ("nothing runs", 7, 3, vec![sized(0, 13), sized(0, 13)], vec![(1, 7)]),
            ("the new set is full", 5, 1, vec![sized(2, 6), sized(5, 6)], vec![(0, 0)]),
        ] {
            let scaled = limits(replicas, surge, 0).scaled(&sizes, true);
            assert_eq!(scaled, expected, "{name}");
        }
    }

    #[test]
    fn bounds_from_the_strategy() {
        let deployment = |replicas, surge: &str, unavailable: &str| -> Deployment {
            serde_json::from_value(serde_json::json!({"metadata": {}, "spec": {
                "replicas": replicas, "selector": {}, "template": {},
                "strategy": {"type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            }}))
            .unwrap()
        };
        for (replicas, surge, unavailable, expected) in [
            (10, "25%", "25%", (3, 2)),
            (1, "25%", "25%", (1, 0)),
            (1, "0%", "0%", (0, 1)),
            (3, "0%", "25%", (0, 1)),
            (2, "100%", "100%", (2, 2)),
            (0, "25%", "25%", (0, 0)),
        ] {
            let limits = Limits::of(&deployment(replicas, surge, unavailable));
            assert_eq!((limits.max_surge, limits.max_unavailable), expected, "{replicas} {surge} {unavailable}");
        }
    }
}
