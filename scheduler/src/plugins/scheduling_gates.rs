//! Pods with gates wait until somebody takes the last gate away. (KEP-3521.)

use crate::cluster::PodInfo;
use crate::framework::{Events, Plugin, Rejection, Verdict};

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn events(&self) -> Events {
        Events::OWN_UPDATE
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Verdict {
        let gates = pod.pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref());
        match gates {
            Some(gates) if !gates.is_empty() => {
                let names: Vec<&str> = gates.iter().map(|g| g.name.as_str()).collect();
                Err(Rejection::final_(format!("waiting for scheduling gates: {names:?}")))
            }
            _ => Ok(()),
        }
    }
}
