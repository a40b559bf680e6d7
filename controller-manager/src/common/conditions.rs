//! Conditions of workloads' status: all kinds have the same five fields under their own type.

use k8s_openapi::{
    api::{
        apps::v1::{DeploymentCondition, ReplicaSetCondition},
        batch::v1::JobCondition,
        core::v1::{NodeCondition, PodCondition, ReplicationControllerCondition},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::meta;

/// A condition of some kind.
pub trait Condition: Clone {
    fn new(kind: &str, status: &str, reason: &str, message: &str) -> Self;
    fn kind(&self) -> &str;
    fn status(&self) -> &str;
    fn reason(&self) -> &str;
    fn message(&self) -> &str;
    fn last_transition(&mut self) -> &mut Option<Time>;
}

macro_rules! condition {
    ($($type:ty { $($extra:ident),* })*) => {$(
        impl Condition for $type {
            fn new(kind: &str, status: &str, reason: &str, message: &str) -> Self {
                let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
                #[allow(clippy::needless_update)]
                Self {
                    type_: kind.to_owned(),
                    status: status.to_owned(),
                    reason: text(reason),
                    message: text(message),
                    last_transition_time: Some(meta::now()),
                    $($extra: Some(meta::now()),)*
                    ..Self::default()
                }
            }

            fn kind(&self) -> &str {
                &self.type_
            }

            fn status(&self) -> &str {
                &self.status
            }

            fn reason(&self) -> &str {
                self.reason.as_deref().unwrap_or_default()
            }

            fn message(&self) -> &str {
                self.message.as_deref().unwrap_or_default()
            }

            fn last_transition(&mut self) -> &mut Option<Time> {
                &mut self.last_transition_time
            }
        }
    )*};
}

condition! {
    DeploymentCondition { last_update_time }
    JobCondition { last_probe_time }
    ReplicaSetCondition {}
    ReplicationControllerCondition {}
    PodCondition {}
    NodeCondition { last_heartbeat_time }
}

/// The condition of a type.
pub fn get<'a, C: Condition>(conditions: &'a Option<Vec<C>>, kind: &str) -> Option<&'a C> {
    conditions.iter().flatten().find(|condition| condition.kind() == kind)
}

/// Sets a condition. Its transition time stays if its status does; nothing changes if status and reason are the same.
/// Returns whether anything changed.
pub fn set<C: Condition>(conditions: &mut Option<Vec<C>>, mut new: C) -> bool {
    let conditions = conditions.get_or_insert_default();
    match conditions.iter_mut().find(|condition| condition.kind() == new.kind()) {
        Some(old) if old.status() == new.status() && old.reason() == new.reason() => false,
        Some(old) => {
            if old.status() == new.status() {
                *new.last_transition() = old.last_transition().clone();
            }
            *old = new;
            true
        }
        None => {
            conditions.push(new);
            true
        }
    }
}

/// Removes the condition of a type; an empty list becomes none.
pub fn remove<C: Condition>(conditions: &mut Option<Vec<C>>, kind: &str) {
    if let Some(list) = conditions {
        list.retain(|condition| condition.kind() != kind);
        if list.is_empty() {
            *conditions = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_follows_the_status() {
        let then = Time(jiff::Timestamp::UNIX_EPOCH);
        let old =
            ReplicaSetCondition { last_transition_time: Some(then.clone()), ..Condition::new("A", "True", "R", "") };
        for (status, reason, changed, kept) in
            [("True", "R", false, true), ("True", "S", true, true), ("False", "R", true, false)]
        {
            let mut conditions = Some(vec![old.clone()]);
            assert_eq!(set(&mut conditions, Condition::new("A", status, reason, "m")), changed);
            let time = conditions.unwrap().remove(0).last_transition_time;
            assert_eq!(time.as_ref() == Some(&then), kept, "{status} {reason}");
        }
    }
}
