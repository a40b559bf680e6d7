//! A profile: the plugins of one scheduler name, and the points run over all of them.

use super::{CycleData, Events, Plugin, PreFilter, Rejection, State, Verdict};
use crate::cluster::{Cluster, NodeInfo, PodInfo, Slot};
use std::collections::HashSet;

/// A plugin in a profile.
pub struct Entry {
    pub plugin: Box<dyn Plugin>,
    /// Times this its scores count; 0 does not score.
    pub weight: i64,
    pub filters: bool,
}

/// A plugin as it takes part in a profile.
pub fn entry(plugin: Box<dyn Plugin>, weight: i64, filters: bool) -> Entry {
    Entry { plugin, weight, filters }
}

pub struct Profile {
    pub scheduler_name: String,
    pub entries: Vec<Entry>,
}

/// States of all plugins in one cycle, by position in the profile; none: the plugin is skipped.
pub struct States(Vec<Option<State>>);

impl Clone for States {
    fn clone(&self) -> Self {
        let copy = |state: &State| state.as_deref().map(CycleData::clone_box);
        States(self.0.iter().map(|state| state.as_ref().map(copy)).collect())
    }
}

/// A plugin's verdict on a pod, with the plugin's position.
pub type Turned = (usize, Rejection);

/// A node that passed, with its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scored {
    pub slot: Slot,
    pub score: i64,
}

impl Profile {
    pub fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Turned> {
        self.each(|plugin| plugin.pre_enqueue(pod))
    }

    fn each(&self, ask: impl Fn(&dyn Plugin) -> Verdict) -> Result<(), Turned> {
        for (i, entry) in self.entries.iter().enumerate() {
            ask(&*entry.plugin).map_err(|rejection| (i, rejection))?;
        }
        Ok(())
    }

    /// States of the plugins, and the nodes that come into question (none: all).
    pub fn pre_filter(&self, pod: &PodInfo, cluster: &Cluster) -> Result<(States, Option<HashSet<String>>), Turned> {
        let mut states = Vec::with_capacity(self.entries.len());
        let mut only: Option<HashSet<String>> = None;
        for (i, entry) in self.entries.iter().enumerate() {
            if !entry.filters {
                states.push(None);
                continue;
            }
            match entry.plugin.pre_filter(pod, cluster).map_err(|rejection| (i, rejection))? {
                PreFilter::Skip => states.push(None),
                PreFilter::Run(state) => states.push(Some(state)),
                PreFilter::Only(nodes, state) => {
                    only = Some(match only {
                        Some(before) => before.intersection(&nodes).cloned().collect(),
                        None => nodes,
                    });
                    states.push(Some(state));
                }
            }
        }
        Ok((States(states), only))
    }

    pub fn filter(&self, states: &States, pod: &PodInfo, node: &NodeInfo) -> Result<(), Turned> {
        for (i, (entry, state)) in self.entries.iter().zip(&states.0).enumerate() {
            if let Some(state) = state {
                entry.plugin.filter(state, pod, node).map_err(|rejection| (i, rejection))?;
            }
        }
        Ok(())
    }

    pub fn simulate(&self, states: &mut States, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, added: bool) {
        for (entry, state) in self.entries.iter().zip(&mut states.0) {
            if let Some(state) = state {
                entry.plugin.simulate(state, pod, other, node, added);
            }
        }
    }

    /// Scores of the nodes that passed.
    pub fn score(&self, pod: &PodInfo, cluster: &Cluster, nodes: &[Slot]) -> Vec<Scored> {
        let mut totals: Vec<Scored> = nodes.iter().map(|slot| Scored { slot: *slot, score: 0 }).collect();
        let mut scores = Vec::with_capacity(nodes.len());
        for entry in self.entries.iter().filter(|e| e.weight > 0) {
            let Some(state) = entry.plugin.pre_score(pod, cluster, nodes) else { continue };
            scores.clear();
            scores.extend(
                nodes.iter().map(|slot| cluster.get(*slot).map_or(0, |node| entry.plugin.score(&state, pod, node))),
            );
            entry.plugin.normalize(&state, &mut scores);
            for (total, score) in totals.iter_mut().zip(&scores) {
                total.score += score * entry.weight;
            }
        }
        totals
    }

    /// A plugin's position as a bit; none if the profile lacks it.
    pub fn position(&self, name: &str) -> u64 {
        self.entries.iter().position(|e| e.plugin.name() == name).map_or(0, |i| 1 << i)
    }

    /// What may help a pod that these plugins turned down.
    pub fn events(&self, plugins: u64) -> Events {
        self.entries
            .iter()
            .enumerate()
            .filter(|(i, _)| plugins & (1 << i) != 0)
            .fold(Events::NONE, |all, (_, e)| all.and(e.plugin.events()))
    }
}
