//! Pieces of rules, and the script that leads from one state to the next in one transaction.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What one service adds to the rules of one IP family. Names are unique to the service, so pieces never overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Chains and their rules.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Sets of its own and their definitions.
    pub sets: BTreeMap<String, String>,
    /// Elements of shared sets and maps: (set, key) → verdict, empty for sets.
    pub elements: BTreeMap<(&'static str, String), String>,
}

/// A change of some pieces, ordered so that every line only names what exists.
#[derive(Debug, Default)]
pub struct Change {
    create: String,
    fill: String,
    remove_elements: String,
    add_elements: String,
    delete: String,
}

impl Change {
    /// Adds the way from `old` to `new`.
    pub fn replace(&mut self, table: &str, old: &Piece, new: &Piece) {
        // Writing to a String cannot fail.
        for (name, definition) in &new.sets {
            if old.sets.get(name) != Some(definition) {
                let _ = writeln!(self.create, "add set {table} {name} {{ {definition} }}");
            }
        }
        for (name, rules) in &new.chains {
            match old.chains.get(name) {
                Some(same) if same == rules => continue,
                Some(_) => {
                    let _ = writeln!(self.fill, "flush chain {table} {name}");
                }
                None => {
                    let _ = writeln!(self.create, "add chain {table} {name}");
                }
            }
            for rule in rules {
                let _ = writeln!(self.fill, "add rule {table} {name} {rule}");
            }
        }
        let element = |out: &mut String, verb: &str, (set, key): &(&'static str, String), verdict: &str| {
            let separator = if verdict.is_empty() { "" } else { " : " };
            let _ = writeln!(out, "{verb} element {table} {set} {{ {key}{separator}{verdict} }}");
        };
        for (key, verdict) in &old.elements {
            if new.elements.get(key) != Some(verdict) {
                element(&mut self.remove_elements, "delete", key, "");
            }
        }
        for (key, verdict) in &new.elements {
            if old.elements.get(key) != Some(verdict) {
                element(&mut self.add_elements, "add", key, verdict);
            }
        }
        // Emptied first: chains may still name each other.
        let gone: Vec<&String> = old.chains.keys().filter(|name| !new.chains.contains_key(*name)).collect();
        for name in &gone {
            let _ = writeln!(self.fill, "flush chain {table} {name}");
        }
        for name in gone {
            let _ = writeln!(self.delete, "delete chain {table} {name}");
        }
        for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
            let _ = writeln!(self.delete, "delete set {table} {name}");
        }
    }

    /// The script. Elements that lead to a chain go before the chain does.
    pub fn script(&self) -> String {
        // A chain that goes may only be emptied once nothing leads to it, hence elements first.
        format!("{}{}{}{}{}", self.create, self.remove_elements, self.fill, self.add_elements, self.delete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(chain: &str, rule: &str, element: &str) -> Piece {
        let mut piece = Piece::default();
        piece.chains.insert(chain.into(), vec![rule.into()]);
        piece.elements.insert(("service-ips", element.into()), format!("goto {chain}"));
        piece
    }

    #[test]
    fn nothing_changed_is_no_script() {
        let mut change = Change::default();
        change.replace("ip t", &piece("a", "accept", "1"), &piece("a", "accept", "1"));
        assert_eq!(change.script(), "");
    }

    #[test]
    fn a_changed_rule_refills_its_chain_only() {
        let mut change = Change::default();
        change.replace("ip t", &piece("a", "accept", "1"), &piece("a", "drop", "1"));
        assert_eq!(change.script(), "flush chain ip t a\nadd rule ip t a drop\n");
    }

    #[test]
    fn what_leads_to_a_chain_goes_before_the_chain() {
        let mut change = Change::default();
        change.replace("ip t", &piece("a", "accept", "1"), &Piece::default());
        assert_eq!(change.script(), "delete element ip t service-ips { 1 }\nflush chain ip t a\ndelete chain ip t a\n");
    }
}
