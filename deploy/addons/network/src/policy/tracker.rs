//! Which policies, sets and chains this node needs, kept up to date change by change.
//!
//! A policy has chains here while it selects a pod of this node, and a set exists while such a chain names it. Pods of this node
//! that the same policies select share a chain, which goes through those policies and then drops. So a pod that comes or goes
//! changes elements of sets, and its address in a map.

use super::compile::{Chain, Compiled, Direction, FAMILIES, SetKey, chain_name, digest, family};
use super::model::{Key, Labels, Namespaces, PodFacts};
use super::ruleset::{Ruleset, self_set};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;

/// The policies that isolate a pod in one direction.
type Profile = (Direction, Vec<Key>);

/// A policy's chain that is in use.
struct Active {
    /// Profiles that go through it.
    users: usize,
    sets: BTreeSet<SetKey>,
}

/// What was set up for a pod of this node.
#[derive(Clone, Default, PartialEq, Eq)]
struct Assigned {
    addresses: Vec<IpAddr>,
    profiles: Vec<Profile>,
}

/// All that is known, and the rules that follow from it.
pub struct Tracker {
    namespaces: BTreeMap<String, Labels>,
    pods: BTreeMap<Key, PodFacts>,
    policies: BTreeMap<Key, Compiled>,
    active: BTreeMap<(Direction, Key), Active>,
    profiles: BTreeMap<Profile, usize>,
    assigned: BTreeMap<Key, Assigned>,
    /// Sets with the number of chains that name them.
    sets: BTreeMap<SetKey, usize>,
    pub rules: Ruleset,
}

/// The name of the chain of a profile.
fn profile_name(profile: &Profile) -> String {
    format!("pods-{}-{}", digest(&profile.1), profile.0.name())
}

/// The pods of a namespace.
fn of_namespace<'a>(
    pods: &'a BTreeMap<Key, PodFacts>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a Key, &'a PodFacts)> {
    let start = (namespace.to_owned(), String::new());
    let range = (Bound::Included(start), Bound::Unbounded);
    pods.range(range).take_while(move |((of, _), _)| of == namespace)
}

impl Tracker {
    pub fn new() -> Tracker {
        Tracker {
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            policies: BTreeMap::new(),
            active: BTreeMap::new(),
            profiles: BTreeMap::new(),
            assigned: BTreeMap::new(),
            sets: BTreeMap::new(),
            rules: Ruleset::new(),
        }
    }

    /// Policies that select a pod of this node.
    pub fn policies_in_use(&self) -> usize {
        self.active.keys().map(|(_, policy)| policy).collect::<BTreeSet<_>>().len()
    }

    /// A namespace has these labels, or is gone.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        if self.namespaces.get(name) == labels.as_ref() {
            return;
        }
        let old = match labels.clone() {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
        for key in self.sets.keys().filter(|key| matches!(key.pods.namespaces, Namespaces::Matching(_))) {
            for (_, pod) in of_namespace(&self.pods, name) {
                // What stays is added before the other is removed, and so was never gone.
                for (family, element) in key.elements(name, labels.as_ref(), pod) {
                    self.rules.add_element(&key.name(family), element);
                }
                for (family, element) in key.elements(name, old.as_ref(), pod) {
                    self.rules.remove_element(&key.name(family), &element);
                }
            }
        }
    }

    /// A pod is this, or is gone.
    pub fn set_pod(&mut self, key: &Key, pod: Option<PodFacts>) {
        if self.pods.get(key) == pod.as_ref() {
            return;
        }
        let old = match pod.clone() {
            Some(pod) => self.pods.insert(key.clone(), pod),
            None => self.pods.remove(key),
        };
        let labels = self.namespaces.get(&key.0);
        for set in self.sets.keys() {
            for (family, element) in pod.iter().flat_map(|pod| set.elements(&key.0, labels, pod)) {
                self.rules.add_element(&set.name(family), element);
            }
            for (family, element) in old.iter().flat_map(|pod| set.elements(&key.0, labels, pod)) {
                self.rules.remove_element(&set.name(family), &element);
            }
        }
        self.assign(key);
    }

    /// A policy is this, or is gone.
    pub fn set_policy(&mut self, key: &Key, policy: Option<Compiled>) {
        if self.policies.get(key) == policy.as_ref() {
            return;
        }
        for direction in Direction::ALL {
            let chain = policy.as_ref().and_then(|policy| policy.chains.get(&direction));
            if let (Some(chain), true) = (chain, self.active.contains_key(&(direction, key.clone()))) {
                self.change_chain(direction, key, chain);
            }
        }
        match policy {
            Some(policy) => self.policies.insert(key.clone(), policy),
            None => self.policies.remove(key),
        };
        let local = of_namespace(&self.pods, &key.0).filter(|(_, pod)| pod.local).map(|(key, _)| key.clone());
        for pod in local.collect::<Vec<_>>() {
            self.assign(&pod);
        }
    }

    /// The chain of a policy that is in use gets other rules.
    fn change_chain(&mut self, direction: Direction, key: &Key, chain: &Chain) {
        for set in &chain.sets {
            self.retain_set(set);
        }
        self.rules.set_chain(&chain_name(direction, key), chain.rules.clone());
        let old =
            self.active.get_mut(&(direction, key.clone())).map(|a| std::mem::replace(&mut a.sets, chain.sets.clone()));
        for set in old.iter().flatten() {
            self.release_set(set);
        }
    }

    /// The policies that isolate a pod, in each direction in which there are any.
    fn profiles_of(&self, key: &Key, pod: &PodFacts) -> Vec<Profile> {
        let start = (key.0.clone(), String::new());
        let range = self.policies.range((Bound::Included(start), Bound::Unbounded));
        let selecting: Vec<(&Key, &Compiled)> = range
            .take_while(|((of, _), _)| *of == key.0)
            .filter(|(_, policy)| policy.selector.matches(&pod.labels))
            .collect();
        let of_direction = |direction: Direction| {
            let isolating = selecting.iter().filter(|(_, policy)| policy.chains.contains_key(&direction));
            (direction, isolating.map(|(key, _)| (*key).clone()).collect::<Vec<_>>())
        };
        Direction::ALL.into_iter().map(of_direction).filter(|(_, policies)| !policies.is_empty()).collect()
    }

    /// Sets up what a pod of this node needs, and takes down what it no longer does.
    fn assign(&mut self, key: &Key) {
        let new = self
            .pods
            .get(key)
            .filter(|pod| pod.local)
            .map(|pod| Assigned { addresses: pod.addresses.clone(), profiles: self.profiles_of(key, pod) });
        let new = new.filter(|assigned| !assigned.profiles.is_empty());
        let old = self.assigned.get(key).cloned();
        if new == old {
            return;
        }
        // What is needed still is taken before the old is given back, and so was never gone.
        for profile in new.iter().flat_map(|new| &new.profiles) {
            self.retain_profile(profile);
        }
        if let Some(assigned) = &old {
            for ((direction, _), address) in pairs(assigned) {
                self.rules.remove_verdict(*direction, *address, key);
                self.rules.remove_element(&self_set(*direction, family(address)), &format!("{address} . {address}"));
            }
        }
        if let Some(assigned) = &new {
            for (profile, address) in pairs(assigned) {
                self.rules.set_verdict(profile.0, *address, key, &profile_name(profile));
                self.rules.add_element(&self_set(profile.0, family(address)), format!("{address} . {address}"));
            }
        }
        for profile in old.iter().flat_map(|old| &old.profiles) {
            self.release_profile(profile);
        }
        match new {
            Some(new) => self.assigned.insert(key.clone(), new),
            None => self.assigned.remove(key),
        };
    }

    fn retain_profile(&mut self, profile: &Profile) {
        let users = self.profiles.entry(profile.clone()).or_default();
        *users += 1;
        if *users > 1 {
            return;
        }
        let (direction, policies) = profile;
        for policy in policies {
            self.retain_policy(*direction, policy);
        }
        let through = policies.iter().map(|policy| format!("jump {}", chain_name(*direction, policy)));
        let rules = through.chain(["drop".to_owned()]).collect();
        self.rules.set_chain(&profile_name(profile), rules);
    }

    fn release_profile(&mut self, profile: &Profile) {
        let Some(users) = self.profiles.get_mut(profile) else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        self.profiles.remove(profile);
        self.rules.remove_chain(&profile_name(profile));
        for policy in &profile.1 {
            self.release_policy(profile.0, policy);
        }
    }

    fn retain_policy(&mut self, direction: Direction, key: &Key) {
        if let Some(active) = self.active.get_mut(&(direction, key.clone())) {
            active.users += 1;
            return;
        }
        let chain =
            self.policies.get(key).and_then(|policy| policy.chains.get(&direction)).cloned().unwrap_or_default();
        for set in &chain.sets {
            self.retain_set(set);
        }
        self.rules.set_chain(&chain_name(direction, key), chain.rules);
        self.active.insert((direction, key.clone()), Active { users: 1, sets: chain.sets });
    }

    fn release_policy(&mut self, direction: Direction, key: &Key) {
        let Some(active) = self.active.get_mut(&(direction, key.clone())) else { return };
        active.users -= 1;
        if active.users > 0 {
            return;
        }
        let sets = std::mem::take(&mut active.sets);
        self.active.remove(&(direction, key.clone()));
        self.rules.remove_chain(&chain_name(direction, key));
        for set in &sets {
            self.release_set(set);
        }
    }

    fn retain_set(&mut self, key: &SetKey) {
        let users = self.sets.entry(key.clone()).or_default();
        *users += 1;
        if *users > 1 {
            return;
        }
        for family in FAMILIES {
            self.rules.add_set(&key.name(family), key.type_of(family));
        }
        let pods: Box<dyn Iterator<Item = (&Key, &PodFacts)>> = match &key.pods.namespaces {
            Namespaces::One(namespace) => Box::new(of_namespace(&self.pods, namespace)),
            Namespaces::Matching(_) => Box::new(self.pods.iter()),
        };
        for ((namespace, _), pod) in pods {
            for (family, element) in key.elements(namespace, self.namespaces.get(namespace), pod) {
                self.rules.add_element(&key.name(family), element);
            }
        }
    }

    fn release_set(&mut self, key: &SetKey) {
        let Some(users) = self.sets.get_mut(key) else { return };
        *users -= 1;
        if *users == 0 {
            self.sets.remove(key);
            for family in FAMILIES {
                self.rules.remove_set(&key.name(family));
            }
        }
    }
}

/// Every profile of a pod with every address.
fn pairs(assigned: &Assigned) -> impl Iterator<Item = (&Profile, &IpAddr)> {
    assigned.profiles.iter().flat_map(|profile| assigned.addresses.iter().map(move |address| (profile, address)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::compile::compile;
    use serde_json::{Value, json};

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.to_owned(), name.to_owned())
    }

    fn labels(text: &str) -> Labels {
        text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn pod(of: &str, address: u8, local: bool) -> PodFacts {
        PodFacts { labels: labels(of), addresses: vec![[10, 0, 0, address].into()], ports: Vec::new(), local }
    }

    fn policy(namespace: &str, spec: Value) -> Option<Compiled> {
        compile(namespace, &serde_json::from_value(json!({"spec": spec})).unwrap()).0
    }

    fn lines(tracker: &mut Tracker) -> Vec<String> {
        let text = tracker.rules.script();
        // The verb and what it is about are enough to tell what a change costs.
        text.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn a_change_costs_what_it_touches() {
        let mut tracker = Tracker::new();
        tracker.set_namespace("shop", Some(labels("team=a")));
        tracker.set_pod(&key("shop", "web"), Some(pod("app=web", 1, true)));
        assert_eq!(lines(&mut tracker), Vec::<String>::new(), "without policies there are no rules");
        let from_clients = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]});
        tracker.set_policy(&key("shop", "p"), policy("shop", from_clients.clone()));
        let all = lines(&mut tracker);
        assert_eq!(all.iter().filter(|line| *line == "add set").count(), 2);
        assert_eq!(all.iter().filter(|line| *line == "add chain").count(), 2);
        tracker.set_policy(&key("shop", "same.peers"), policy("shop", from_clients));
        assert!(!lines(&mut tracker).contains(&"add set".to_owned()), "equal selectors share a set");
        tracker.set_pod(&key("shop", "client"), Some(pod("app=client", 2, false)));
        assert_eq!(lines(&mut tracker), ["add element"], "a peer comes");
        tracker.set_pod(&key("shop", "client"), Some(pod("app=client,new=label", 2, false)));
        assert_eq!(lines(&mut tracker), Vec::<String>::new(), "a label that nobody asks for");
        tracker.set_pod(&key("shop", "web-2"), Some(pod("app=web", 3, true)));
        assert_eq!(lines(&mut tracker), ["add element"; 2], "another pod under the same policies: self and map");
        tracker.set_pod(&key("shop", "far"), Some(pod("app=web", 4, false)));
        assert_eq!(lines(&mut tracker), Vec::<String>::new(), "a pod of another node");
        tracker.set_pod(&key("shop", "client"), None);
        assert_eq!(lines(&mut tracker), ["delete element"], "a peer goes");
        for name in ["p", "same.peers"] {
            tracker.set_policy(&key("shop", name), None);
        }
        let all = lines(&mut tracker);
        assert_eq!(all.iter().filter(|line| *line == "delete set").count(), 2);
        assert_eq!(all.iter().filter(|line| *line == "delete chain").count(), 3);
        assert_eq!(tracker.policies_in_use(), 0);
    }

    /// A generator of numbers that is the same in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    /// Whatever came in whatever order, the rules are those of who sees only the end. And nft is left with the same by
    /// all the small scripts as by one that makes everything anew.
    #[test]
    fn many_small_changes_end_where_one_large_one_does() {
        let specs = [
            json!({}),
            json!({"podSelector": {"matchLabels": {"app": "0"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "1"}}}]}]}),
            json!({"policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": {"matchLabels": {"team": "0"}}}], "ports": [{"port": 80}]}]}),
            json!({"ingress": [{"from": [{"namespaceSelector": {}}]}], "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]}),
            json!({"ingress": [{"ports": [{"port": "http"}, {"port": 8000, "endPort": 8010}, {"port": 53, "protocol": "UDP"}, {"port": 7, "protocol": "SCTP"}, {"port": "s", "protocol": "SCTP"}]}]}),
        ];
        let compare_in_nft = |scripts: Vec<String>| {
            let mut command = std::process::Command::new("unshare");
            command.args(["--net", "sh", "-c", "nft -f - && nft list ruleset"]);
            command
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            let mut child = command.spawn().ok()?;
            use std::io::Write;
            child.stdin.take()?.write_all(scripts.concat().as_bytes()).ok()?;
            let output = child.wait_with_output().ok()?;
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            if error.contains("Operation not permitted") || error.contains("not found") {
                eprintln!("skipped the part with nft: it needs root and nft ({error})");
                return None;
            }
            assert!(output.status.success(), "{error}");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            // Chains are listed in the order in which they were made, elements in that of their hashes.
            let mut blocks: Vec<String> = text
                .split("\n\n")
                .map(|block| {
                    let words = block.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
                    let mut words: Vec<&str> = words
                        .filter(|word| {
                            !matches!(*word, "table" | "inet" | "ferrokube-network-policy" | "comment" | "{" | "}")
                        })
                        .collect();
                    words.sort_unstable();
                    words.join(" ")
                })
                .collect();
            blocks.sort();
            Some(blocks)
        };
        for seed in 0..12 {
            let mut random = Random(seed);
            let mut tracker = Tracker::new();
            let mut scripts = vec![tracker.rules.full()];
            for _ in 0..120 {
                let namespace = random.below(2).to_string();
                match random.below(8) {
                    0 => {
                        let team = format!("team={}", random.below(2));
                        tracker.set_namespace(&namespace, (random.below(5) > 0).then(|| labels(&team)));
                    }
                    1 | 2 => {
                        let spec = specs[random.below(specs.len() as u64) as usize].clone();
                        let spec = (random.below(4) > 0).then(|| policy(&namespace, spec)).flatten();
                        tracker.set_policy(&key(&namespace, &format!("v1.{}-x", random.below(3))), spec);
                    }
                    _ => {
                        let name = random.below(6);
                        let mut facts = pod(&format!("app={}", random.below(2)), random.below(6) as u8 + 1, name < 3);
                        facts.addresses.push(format!("fd00::{}", random.below(6) + 1).parse().unwrap());
                        facts.ports.push(("http".into(), crate::policy::model::Protocol::Tcp, 8080));
                        tracker.set_pod(&key(&namespace, &name.to_string()), (random.below(4) > 0).then_some(facts));
                    }
                }
                if random.below(3) == 0 {
                    scripts.push(tracker.rules.script());
                }
            }
            scripts.push(tracker.rules.script());
            let mut fresh = Tracker::new();
            for (key, pod) in &tracker.pods {
                fresh.set_pod(key, Some(pod.clone()));
            }
            for (key, policy) in &tracker.policies {
                fresh.set_policy(key, Some(policy.clone()));
            }
            for (name, labels) in &tracker.namespaces {
                fresh.set_namespace(name, Some(labels.clone()));
            }
            let full = fresh.rules.full();
            assert_eq!(tracker.rules.full(), full, "seed {seed}");
            let Some(small) = compare_in_nft(scripts) else { continue };
            assert_eq!(Some(small), compare_in_nft(vec![full]), "seed {seed}");
        }
    }
}
