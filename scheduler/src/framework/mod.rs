//! The scheduling framework: extension points and what passes between them. (KEP-624.)
//!
//! A plugin implements [`Plugin`] and overrides the points it takes part in. What it works out before filtering goes into a
//! [`State`] that only it reads.

mod profile;

pub use profile::{Profile, Scored, States, entry as profile_entry};

use crate::cluster::{Cluster, NodeInfo, PodInfo, Slot};
use std::any::Any;
use std::borrow::Cow;
use std::collections::HashSet;

/// Why a node, or the whole cluster, does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: Cow<'static, str>,
    /// Ending other pods could help.
    pub resolvable: bool,
}

impl Rejection {
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Rejection {
        Rejection { reason: reason.into(), resolvable: true }
    }

    /// Nothing that preemption does could help.
    pub fn final_(reason: impl Into<Cow<'static, str>>) -> Rejection {
        Rejection { reason: reason.into(), resolvable: false }
    }
}

pub type Verdict = Result<(), Rejection>;

/// What changes of the cluster can make a pod schedulable that a plugin has turned down: a set of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events(pub u16);

impl Events {
    pub const NONE: Events = Events(0);
    pub const NODE_ADDED: Events = Events(1);
    pub const NODE_ALLOCATABLE: Events = Events(2);
    pub const NODE_LABELS: Events = Events(4);
    pub const NODE_TAINTS: Events = Events(8);
    /// A pod went, or will need less.
    pub const POD_REMOVED: Events = Events(16);
    /// A pod got a node, or other labels.
    pub const POD_ADDED: Events = Events(32);
    pub const VOLUMES: Events = Events(64);
    /// The pod itself changed.
    pub const OWN_UPDATE: Events = Events(128);
    pub const ALL: Events = Events(0xffff);

    pub const fn and(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }

    pub fn meets(self, other: Events) -> bool {
        self.0 & other.0 != 0
    }
}

/// What a plugin worked out for one cycle. Cloned when preemption tries things out.
pub trait CycleData: Any + Send {
    fn clone_box(&self) -> Box<dyn CycleData>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Any + Send + Clone> CycleData for T {
    fn clone_box(&self) -> Box<dyn CycleData> {
        Box::new(self.clone())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// A plugin's data for the cycle, if it has any.
pub type State = Option<Box<dyn CycleData>>;

/// Reads a state as what its plugin put there.
pub fn data<T: 'static>(state: &State) -> Option<&T> {
    state.as_ref().and_then(|s| (**s).as_any().downcast_ref())
}

pub fn data_mut<T: 'static>(state: &mut State) -> Option<&mut T> {
    state.as_mut().and_then(|s| (**s).as_any_mut().downcast_mut())
}

/// What comes of looking at a pod before any node.
#[derive(Default)]
pub enum PreFilter {
    /// The plugin has nothing to say about this pod; it is not asked again in this cycle.
    #[default]
    Skip,
    /// It goes on with this.
    Run(State),
    /// Only these nodes come into question.
    Only(HashSet<String>, State),
}

/// Highest score of a node after normalization.
pub const SCORE_MAX: i64 = 100;

/// One plugin. All points are optional.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// What may help the pods that this plugin turned down.
    fn events(&self) -> Events {
        Events::ALL
    }

    /// Whether the pod may be tried at all.
    fn pre_enqueue(&self, _pod: &PodInfo) -> Verdict {
        Ok(())
    }

    fn pre_filter(&self, _pod: &PodInfo, _cluster: &Cluster) -> Result<PreFilter, Rejection> {
        Ok(PreFilter::Run(None))
    }

    fn filter(&self, _state: &State, _pod: &PodInfo, _node: &NodeInfo) -> Verdict {
        Ok(())
    }

    /// Brings the state up to date with a pod that preemption adds to (`added`) or takes from a node for a trial.
    fn simulate(&self, _state: &mut State, _pod: &PodInfo, _other: &PodInfo, _node: &NodeInfo, _added: bool) {}

    /// Called with the nodes that passed. False: the plugin does not score this pod.
    fn pre_score(&self, _pod: &PodInfo, _cluster: &Cluster, _nodes: &[Slot]) -> Option<State> {
        None
    }

    fn score(&self, _state: &State, _pod: &PodInfo, _node: &NodeInfo) -> i64 {
        0
    }

    /// Brings scores into 0..=[`SCORE_MAX`].
    fn normalize(&self, _state: &State, _scores: &mut [i64]) {}
}

/// Scales scores so that the highest is [`SCORE_MAX`]; `reverse` makes the lowest the best.
pub fn scale(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        *score = match (max, reverse) {
            (0, true) => SCORE_MAX,
            (0, false) => 0,
            (max, true) => SCORE_MAX - *score * SCORE_MAX / max,
            (max, false) => *score * SCORE_MAX / max,
        };
    }
}
