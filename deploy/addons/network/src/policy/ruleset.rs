//! Chains, sets and maps as they are wanted, and the script that leads there from what was applied last.
//!
//! The first time that something is touched, what it was is noted. A script compares that with what it is now, so it costs what
//! was touched, and what was changed and changed back costs nothing.

use super::compile::{Direction, FAMILIES, family};
use super::model::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The table of the policies, as scripts name it.
pub const TABLE: &str = "inet ferrokube-network-policy";

/// Elements that one line of a script has at most: nft reads a line as a whole.
const ELEMENTS_PER_LINE_MAX: usize = 500;

/// A set of nftables.
struct Set {
    type_of: &'static str,
    /// Elements with how many times each was added: two pods may have one address for a moment.
    elements: BTreeMap<String, usize>,
}

/// The map that says which chain a pod's connections go through, and the address there.
type Verdict = (Direction, IpAddr);

#[derive(Default)]
pub struct Ruleset {
    sets: BTreeMap<String, Set>,
    chains: BTreeMap<String, Vec<String>>,
    /// Chain by owner, of whom the last counts.
    verdicts: BTreeMap<Verdict, BTreeMap<Key, String>>,
    touched_sets: BTreeMap<String, bool>,
    touched_elements: BTreeMap<(String, String), bool>,
    touched_chains: BTreeMap<String, Option<Vec<String>>>,
    touched_verdicts: BTreeMap<Verdict, Option<String>>,
}

/// The name of a map.
fn map_name(direction: Direction, family: &str) -> String {
    format!("{}-pods-{family}", direction.name())
}

/// The script that puts an empty table with its hooks in the place of whatever was there.
///
/// Each direction has a hook of its own, because to accept in one ends only that one. Both come before what filters at the
/// usual priority. Only forwarded packets are looked at: a node's own always reach its pods (probes do), and a pod its node.
fn base() -> String {
    let mut script = format!(
        "add table {TABLE}\ndelete table {TABLE}\nadd table {TABLE} {{ comment \"pod network: NetworkPolicy\" ; }}\n"
    );
    for (direction, priority, opened_by, header) in [
        (Direction::Egress, "filter - 2", "ct original", "saddr"),
        (Direction::Ingress, "filter - 1", "ct reply", "daddr"),
    ] {
        let chain = direction.name();
        script.push_str(&format!("add chain {TABLE} {chain} {{ type filter hook forward priority {priority} ; }}\n"));
        // Errors about a connection belong to it; one that was not let through has none.
        script.push_str(&format!("add rule {TABLE} {chain} ct state related meta l4proto {{ icmp, icmpv6 }} accept\n"));
        for family in FAMILIES {
            let map = map_name(direction, family);
            let address = if family == "ip" { "ipv4_addr" } else { "ipv6_addr" };
            script.push_str(&format!(
                "add map {TABLE} {map} {{ type {address} : verdict ; }}\n\
                 add set {TABLE} {chain}-self-{family} {{ type {address} . {address} ; }}\n\
                 add rule {TABLE} {chain} ct original {family} saddr . ct reply {family} saddr @{chain}-self-{family} accept\n\
                 add rule {TABLE} {chain} {opened_by} {family} saddr vmap @{map}\n\
                 add rule {TABLE} {chain} ct state invalid,untracked {family} {header} vmap @{map}\n"
            ));
        }
    }
    script
}

impl Ruleset {
    pub fn add_set(&mut self, name: &str, type_of: &'static str) {
        let before = self.sets.contains_key(name);
        self.touched_sets.entry(name.to_owned()).or_insert(before);
        self.sets.entry(name.to_owned()).or_insert_with(|| Set { type_of, elements: BTreeMap::new() });
    }

    /// Removes a set with its elements.
    pub fn remove_set(&mut self, name: &str) {
        let Some(set) = self.sets.remove(name) else { return };
        self.touched_sets.entry(name.to_owned()).or_insert(true);
        for element in set.elements.into_keys() {
            self.touched_elements.entry((name.to_owned(), element)).or_insert(true);
        }
    }

    pub fn add_element(&mut self, set: &str, element: String) {
        let Some(found) = self.sets.get_mut(set) else { return };
        self.touched_elements.entry((set.to_owned(), element.clone())).or_insert(found.elements.contains_key(&element));
        *found.elements.entry(element).or_default() += 1;
    }

    pub fn remove_element(&mut self, set: &str, element: &str) {
        let Some(found) = self.sets.get_mut(set) else { return };
        let Some(count) = found.elements.get_mut(element) else { return };
        *count -= 1;
        if *count == 0 {
            found.elements.remove(element);
            self.touched_elements.entry((set.to_owned(), element.to_owned())).or_insert(true);
        }
    }

    pub fn set_chain(&mut self, name: &str, rules: Vec<String>) {
        let before = self.chains.insert(name.to_owned(), rules);
        self.touched_chains.entry(name.to_owned()).or_insert(before);
    }

    pub fn remove_chain(&mut self, name: &str) {
        let before = self.chains.remove(name);
        self.touched_chains.entry(name.to_owned()).or_insert(before);
    }

    /// Has the connections of an address go through a chain.
    pub fn set_verdict(&mut self, direction: Direction, address: IpAddr, owner: &Key, chain: &str) {
        let owners = self.verdicts.entry((direction, address)).or_default();
        self.touched_verdicts.entry((direction, address)).or_insert(owners.values().next_back().cloned());
        owners.insert(owner.clone(), chain.to_owned());
    }

    pub fn remove_verdict(&mut self, direction: Direction, address: IpAddr, owner: &Key) {
        let Some(owners) = self.verdicts.get_mut(&(direction, address)) else { return };
        self.touched_verdicts.entry((direction, address)).or_insert(owners.values().next_back().cloned());
        owners.remove(owner);
        if owners.is_empty() {
            self.verdicts.remove(&(direction, address));
        }
    }

    fn verdict(&self, verdict: &Verdict) -> Option<&String> {
        self.verdicts.get(verdict)?.values().next_back()
    }

    /// Sets and the elements in them.
    pub fn size(&self) -> (usize, usize) {
        (self.sets.len(), self.sets.values().map(|set| set.elements.len()).sum())
    }

    /// The script for what was touched since the last one; empty if nothing is different. In its order everything that a line
    /// names is there, and what is deleted is named by nothing.
    pub fn script(&mut self) -> String {
        let mut lines = Lines::default();
        let sets = std::mem::take(&mut self.touched_sets);
        let elements = std::mem::take(&mut self.touched_elements);
        let chains = std::mem::take(&mut self.touched_chains);
        let verdicts = std::mem::take(&mut self.touched_verdicts);
        for name in sets.iter().filter(|(_, before)| !**before).map(|(name, _)| name) {
            if let Some(set) = self.sets.get(name) {
                lines.add_set(name, set.type_of);
            }
        }
        let (mut added, mut removed) = (Elements::default(), Elements::default());
        for ((name, element), before) in elements {
            // The elements of a set that goes, go with it.
            let Some(set) = self.sets.get(&name) else { continue };
            match (before, set.elements.contains_key(&element)) {
                (false, true) => added.0.entry(name).or_default().push(element),
                (true, false) => removed.0.entry(name).or_default().push(element),
                _ => {}
            }
        }
        let changed = chains.iter().filter(|(name, before)| self.chains.get(*name) != before.as_ref());
        let (mut filled, mut deleted) = (Vec::new(), Vec::new());
        for (name, before) in changed {
            match (before, self.chains.get(name)) {
                (None, Some(rules)) => {
                    lines.push(format!("add chain {TABLE} {name}"));
                    filled.push((name, rules));
                }
                (Some(_), Some(rules)) => {
                    lines.push(format!("flush chain {TABLE} {name}"));
                    filled.push((name, rules));
                }
                (Some(_), None) => {
                    lines.push(format!("flush chain {TABLE} {name}"));
                    deleted.push(name);
                }
                (None, None) => {}
            }
        }
        lines.elements("delete", &removed);
        lines.elements("add", &added);
        for (name, rules) in filled {
            lines.rules(name, rules);
        }
        for (verdict, before) in &verdicts {
            let now = self.verdict(verdict);
            if now == before.as_ref() {
                continue;
            }
            if before.is_some() {
                lines.verdict("delete", verdict, None);
            }
            if now.is_some() {
                lines.verdict("add", verdict, now);
            }
        }
        lines.0.extend(deleted.iter().map(|name| format!("delete chain {TABLE} {name}")));
        let gone = sets.iter().filter(|(name, before)| **before && !self.sets.contains_key(*name));
        lines.0.extend(gone.map(|(name, _)| format!("delete set {TABLE} {name}")));
        lines.text()
    }

    /// The script that makes everything anew.
    pub fn full(&mut self) -> String {
        self.touched_sets.clear();
        self.touched_elements.clear();
        self.touched_chains.clear();
        self.touched_verdicts.clear();
        let mut lines = Lines::default();
        let own: BTreeSet<String> = self_sets().collect();
        for (name, set) in self.sets.iter().filter(|(name, _)| !own.contains(*name)) {
            lines.add_set(name, set.type_of);
        }
        let of_set = |(name, set): (&String, &Set)| (name.clone(), set.elements.keys().cloned().collect());
        lines.elements("add", &Elements(self.sets.iter().map(of_set).collect()));
        for name in self.chains.keys() {
            lines.push(format!("add chain {TABLE} {name}"));
        }
        for (name, rules) in &self.chains {
            lines.rules(name, rules);
        }
        for verdict in self.verdicts.keys() {
            lines.verdict("add", verdict, self.verdict(verdict));
        }
        base() + &lines.text()
    }

    /// With the sets that are always there, and nothing to apply.
    pub fn new() -> Ruleset {
        let mut ruleset = Ruleset::default();
        for name in self_sets() {
            ruleset.sets.insert(name, Set { type_of: "", elements: BTreeMap::new() });
        }
        ruleset
    }
}

/// Names of the sets of pods that may not be kept from reaching themselves through a Service.
fn self_sets() -> impl Iterator<Item = String> {
    Direction::ALL.into_iter().flat_map(|direction| FAMILIES.map(|family| self_set(direction, family)))
}

/// The set of one direction and family.
pub fn self_set(direction: Direction, family: &str) -> String {
    format!("{}-self-{family}", direction.name())
}

/// Elements by set.
#[derive(Default)]
struct Elements(BTreeMap<String, Vec<String>>);

/// A script in the making.
#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn push(&mut self, line: String) {
        self.0.push(line);
    }

    fn add_set(&mut self, name: &str, type_of: &str) {
        self.push(format!("add set {TABLE} {name} {{ type {type_of} ; }}"));
    }

    fn elements(&mut self, verb: &str, elements: &Elements) {
        for (set, elements) in &elements.0 {
            for some in elements.chunks(ELEMENTS_PER_LINE_MAX) {
                self.push(format!("{verb} element {TABLE} {set} {{ {} }}", some.join(", ")));
            }
        }
    }

    fn rules(&mut self, chain: &str, rules: &[String]) {
        self.0.extend(rules.iter().map(|rule| format!("add rule {TABLE} {chain} {rule}")));
    }

    fn verdict(&mut self, verb: &str, (direction, address): &Verdict, chain: Option<&String>) {
        let map = map_name(*direction, family(address));
        let to = chain.map(|chain| format!(" : goto {chain}")).unwrap_or_default();
        self.push(format!("{verb} element {TABLE} {map} {{ {address}{to} }}"));
    }

    fn text(self) -> String {
        self.0.into_iter().map(|line| line + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_what_is_different_and_no_more() {
        let mut rules = Ruleset::new();
        assert_eq!(rules.script(), "");
        rules.add_set("s", "ipv4_addr");
        rules.add_element("s", "10.0.0.1".into());
        rules.set_chain("c", vec!["ct original ip saddr @s accept".into()]);
        assert_eq!(rules.script().lines().count(), 4);
        // There and back again.
        rules.remove_element("s", "10.0.0.1");
        rules.add_element("s", "10.0.0.1".into());
        rules.set_chain("c", vec![]);
        rules.set_chain("c", vec!["ct original ip saddr @s accept".into()]);
        assert_eq!(rules.script(), "");
        rules.add_element("s", "10.0.0.2".into());
        assert_eq!(rules.script(), format!("add element {TABLE} s {{ 10.0.0.2 }}\n"));
        // A set that goes takes its elements with it.
        rules.remove_chain("c");
        rules.remove_set("s");
        assert_eq!(rules.script(), format!("flush chain {TABLE} c\ndelete chain {TABLE} c\ndelete set {TABLE} s\n"));
    }

    #[test]
    fn an_address_stays_while_one_of_two_pods_has_it() {
        let mut rules = Ruleset::new();
        rules.add_set("s", "ipv4_addr");
        rules.add_element("s", "10.0.0.1".into());
        rules.add_element("s", "10.0.0.1".into());
        rules.script();
        rules.remove_element("s", "10.0.0.1");
        assert_eq!(rules.script(), "");
        rules.remove_element("s", "10.0.0.1");
        assert_eq!(rules.script(), format!("delete element {TABLE} s {{ 10.0.0.1 }}\n"));
        let (old, new) = (("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned()));
        let address = IpAddr::from([10, 0, 0, 1]);
        rules.set_verdict(Direction::Ingress, address, &old, "x");
        rules.set_verdict(Direction::Ingress, address, &new, "y");
        assert!(rules.script().ends_with("10.0.0.1 : goto y }\n"));
        rules.remove_verdict(Direction::Ingress, address, &old);
        assert_eq!(rules.script(), "");
    }
}
