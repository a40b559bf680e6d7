//! Who owns whom, by metadata alone. Pure: changes go in, uids that need a look come out.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// An object's uid: a UUID in 16 bytes, since there is one for each object of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(u128);

impl Uid {
    pub fn parse(text: &str) -> Self {
        let hex: String = text.chars().filter(|c| *c != '-').collect();
        // What is no UUID (an aggregated server may do as it likes) is hashed, FNV-1a.
        let hashed = || {
            text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
                (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
            })
        };
        Self(if hex.len() == 32 { u128::from_str_radix(&hex, 16).unwrap_or_else(|_| hashed()) } else { hashed() })
    }
}

/// Where an object is found. The texts are shared among all objects of a kind and namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinates {
    /// Of the API, without version: versions are views of the same object.
    pub group: Arc<str>,
    pub kind: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Box<str>,
}

/// One of a node's owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    uid: Uid,
    /// The owner, deleted in the foreground, waits for this dependent.
    blocks: bool,
}

#[derive(Clone, Debug)]
struct Node {
    at: Coordinates,
    owners: Box<[Owner]>,
    dependents: Vec<Uid>,
    deleting: bool,
    /// Deleted in the foreground: waits for its dependents.
    deleting_dependents: bool,
    orphaning: bool,
    /// Which watch shows it; `None` if it is only known as somebody's owner.
    source: Option<u32>,
    /// The list in which it was seen last.
    epoch: u32,
}

/// What a worker needs to know of a node.
#[derive(Clone, Debug)]
pub struct View {
    pub at: Coordinates,
    pub deleting: bool,
    pub deleting_dependents: bool,
    /// Nobody has seen it yet: it may not exist.
    pub is_virtual: bool,
}

/// What has to be looked at after a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// May have to be deleted, or may go on with a foreground deletion.
    pub delete: Vec<Uid>,
    /// Wait for their dependents to be released.
    pub orphan: Vec<Uid>,
}

#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    texts: HashSet<Arc<str>>,
}

impl Graph {
    pub fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn view(&self, uid: Uid) -> Option<View> {
        self.nodes.get(&uid).map(|node| View {
            at: node.at.clone(),
            deleting: node.deleting,
            deleting_dependents: node.deleting_dependents,
            is_virtual: node.source.is_none(),
        })
    }

    pub fn dependents(&self, uid: Uid) -> Vec<Uid> {
        self.nodes.get(&uid).map(|node| node.dependents.clone()).unwrap_or_default()
    }

    /// Dependents that a foreground deletion of `uid` has to wait for.
    pub fn blocking(&self, uid: Uid) -> Vec<Uid> {
        let blocks = |dependent: &Uid| {
            let owners = self.nodes.get(dependent).map(|node| &node.owners);
            owners.is_some_and(|owners| owners.iter().any(|owner| owner.uid == uid && owner.blocks))
        };
        self.dependents(uid).into_iter().filter(blocks).collect()
    }

    /// An object was seen by watch `source`.
    pub fn observe(
        &mut self,
        source: u32,
        epoch: u32,
        group: &Arc<str>,
        kind: &Arc<str>,
        meta: &ObjectMeta,
    ) -> Effects {
        let Some(uid) = meta.uid.as_deref().map(Uid::parse) else { return Effects::default() };
        let at = Coordinates {
            group: group.clone(),
            kind: kind.clone(),
            namespace: self.intern(meta.namespace.as_deref().unwrap_or_default()),
            name: meta.name.as_deref().unwrap_or_default().into(),
        };
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|own| own == finalizer);
        let deleting = meta.deletion_timestamp.is_some();
        let references = meta.owner_references.as_deref().unwrap_or_default();
        let owners: Box<[Owner]> = references
            .iter()
            .map(|owner| Owner { uid: Uid::parse(&owner.uid), blocks: owner.block_owner_deletion == Some(true) })
            .collect();
        let mut effects = Effects::default();

        let before = self.nodes.remove(&uid);
        let dependents = before.as_ref().map(|node| node.dependents.clone()).unwrap_or_default();
        if let Some(before) = &before
            && before.source.is_none()
            && before.at != at
        {
            // Dependents that named it wrongly have an owner that does not exist.
            effects.delete.extend(&dependents);
        }
        let node = Node {
            at,
            owners: owners.clone(),
            dependents,
            deleting,
            deleting_dependents: deleting && has(FOREGROUND),
            orphaning: deleting && has(ORPHAN),
            source: Some(source),
            epoch,
        };
        let old_owners = before.as_ref().map(|node| node.owners.clone()).unwrap_or_default();
        let old_flags = before.as_ref().map_or((false, false), |node| (node.deleting_dependents, node.orphaning));
        if node.deleting_dependents && !old_flags.0 {
            effects.delete.extend(&node.dependents);
            effects.delete.push(uid);
        }
        if node.orphaning && !old_flags.1 {
            effects.orphan.push(uid);
        }
        let namespace = node.at.namespace.clone();
        self.nodes.insert(uid, node);
        self.unlink(uid, &old_owners, &owners, &mut effects);
        for (owner, reference) in owners.iter().zip(references) {
            let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
            self.link(uid, owner.uid, group, &reference.kind, &namespace, &reference.name, &mut effects);
        }
        effects
    }

    /// Takes `uid` off the owners it no longer has.
    fn unlink(&mut self, uid: Uid, old: &[Owner], new: &[Owner], effects: &mut Effects) {
        for owner in old {
            let now = new.iter().find(|new| new.uid == owner.uid);
            let Some(node) = self.nodes.get_mut(&owner.uid) else { continue };
            if now.is_none() {
                node.dependents.retain(|dependent| *dependent != uid);
            }
            // It no longer holds up its owner's deletion.
            if node.deleting_dependents && owner.blocks && !now.is_some_and(|now| now.blocks) {
                effects.delete.push(owner.uid);
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn link(
        &mut self,
        uid: Uid,
        owner: Uid,
        group: &str,
        kind: &str,
        namespace: &Arc<str>,
        name: &str,
        effects: &mut Effects,
    ) {
        if let Some(node) = self.nodes.get_mut(&owner) {
            let at = &node.at;
            let meant = *at.group == *group && *at.kind == *kind && *at.name == *name;
            let elsewhere = !at.namespace.is_empty() && at.namespace != *namespace;
            if !node.dependents.contains(&uid) {
                node.dependents.push(uid);
                // Also where another object has that uid: whether the one that is meant exists has to be looked up.
                if node.deleting_dependents || !meant || elsewhere {
                    effects.delete.push(uid);
                }
            }
            return;
        }
        // Not seen yet, or gone: a stand-in is made, and somebody looks whether it exists.
        let at = Coordinates {
            group: self.intern(group),
            kind: self.intern(kind),
            namespace: namespace.clone(),
            name: name.into(),
        };
        let node = Node {
            at,
            owners: Box::default(),
            dependents: vec![uid],
            deleting: false,
            deleting_dependents: false,
            orphaning: false,
            source: None,
            epoch: 0,
        };
        self.nodes.insert(owner, node);
        effects.delete.push(owner);
    }

    /// An object is gone.
    pub fn remove(&mut self, uid: Uid) -> Effects {
        let Some(node) = self.nodes.remove(&uid) else { return Effects::default() };
        let mut effects = Effects { delete: node.dependents, orphan: Vec::new() };
        for owner in &node.owners {
            if let Some(owner_node) = self.nodes.get_mut(&owner.uid) {
                owner_node.dependents.retain(|dependent| *dependent != uid);
                if owner_node.deleting_dependents {
                    effects.delete.push(owner.uid);
                }
            }
        }
        effects
    }

    /// A list of `source` is complete: what it did not show is gone.
    pub fn sweep(&mut self, source: u32, epoch: u32) -> Effects {
        let gone: Vec<Uid> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.source == Some(source) && node.epoch != epoch)
            .map(|(uid, _)| *uid)
            .collect();
        let mut effects = Effects::default();
        for uid in gone {
            effects.delete.extend(self.remove(uid).delete);
        }
        effects
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

    use super::*;

    fn uid(number: u8) -> String {
        format!("00000000-0000-0000-0000-0000000000{number:02x}")
    }

    fn id(number: u8) -> Uid {
        Uid::parse(&uid(number))
    }

    fn object(number: u8, owners: &[u8], finalizers: &[&str], deleting: bool) -> ObjectMeta {
        let owner = |number: &u8| OwnerReference {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: format!("o{number}"),
            uid: uid(*number),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        ObjectMeta {
            uid: Some(uid(number)),
            name: Some(format!("o{number}")),
            namespace: Some("default".into()),
            owner_references: Some(owners.iter().map(owner).collect()),
            finalizers: Some(finalizers.iter().map(|finalizer| (*finalizer).to_owned()).collect()),
            deletion_timestamp: deleting.then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        }
    }

    fn see(graph: &mut Graph, meta: ObjectMeta) -> Effects {
        let (group, kind) = (graph.intern("apps"), graph.intern("ReplicaSet"));
        graph.observe(0, 1, &group, &kind, &meta)
    }

    #[test]
    fn an_owner_that_was_not_seen_is_looked_for() {
        let mut graph = Graph::default();
        assert_eq!(see(&mut graph, object(2, &[1], &[], false)).delete, [id(1)]);
        assert!(graph.view(id(1)).unwrap().is_virtual);
        assert_eq!(see(&mut graph, object(1, &[], &[], false)), Effects::default());
        assert!(!graph.view(id(1)).unwrap().is_virtual);
        assert_eq!(graph.dependents(id(1)), [id(2)]);
    }

    #[test]
    fn dependents_of_what_is_gone_need_a_look() {
        let mut graph = Graph::default();
        see(&mut graph, object(1, &[], &[], false));
        see(&mut graph, object(2, &[1], &[], false));
        assert_eq!(graph.remove(id(1)).delete, [id(2)]);
    }

    #[test]
    fn a_foreground_deletion_waits_for_blocking_dependents() {
        let mut graph = Graph::default();
        see(&mut graph, object(1, &[], &[], false));
        see(&mut graph, object(2, &[1], &[], false));
        let effects = see(&mut graph, object(1, &[], &[FOREGROUND], true));
        assert_eq!(effects.delete, [id(2), id(1)]);
        assert_eq!(graph.blocking(id(1)), [id(2)]);
        assert_eq!(graph.remove(id(2)).delete, [id(1)]);
        assert!(graph.blocking(id(1)).is_empty());
    }

    #[test]
    fn orphaning_is_noticed_once() {
        let mut graph = Graph::default();
        see(&mut graph, object(1, &[], &[], false));
        assert_eq!(see(&mut graph, object(1, &[], &[ORPHAN], true)).orphan, [id(1)]);
        assert_eq!(see(&mut graph, object(1, &[], &[ORPHAN], true)), Effects::default());
    }

    #[test]
    fn a_released_dependent_is_no_longer_one() {
        let mut graph = Graph::default();
        see(&mut graph, object(1, &[], &[], false));
        see(&mut graph, object(2, &[1], &[], false));
        see(&mut graph, object(2, &[], &[], false));
        assert!(graph.dependents(id(1)).is_empty());
        assert_eq!(graph.remove(id(1)), Effects::default());
    }

    #[test]
    fn a_list_removes_what_it_does_not_show() {
        let mut graph = Graph::default();
        see(&mut graph, object(1, &[], &[], false));
        see(&mut graph, object(2, &[1], &[], false));
        let (group, kind) = (graph.intern("apps"), graph.intern("ReplicaSet"));
        graph.observe(0, 2, &group, &kind, &object(2, &[1], &[], false));
        assert_eq!(graph.sweep(0, 2).delete, [id(2)]);
        assert_eq!(graph.len(), 1);
    }
}
