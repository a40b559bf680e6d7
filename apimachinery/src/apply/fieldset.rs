//! A set of paths.

use std::cmp::Ordering;

use super::PathElement;

/// A set of paths into an object, as a tree: a path is in the set where its last node is a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Sorted by element; each is a member, or has children, or both.
    entries: Vec<Entry>,
}

/// One element of a level of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub element: PathElement,
    /// The path that ends here is in the set.
    pub member: bool,
    pub children: FieldSet,
}

impl FieldSet {
    pub fn new() -> Self {
        Self::default()
    }

    /// The set of some dotted paths: `FieldSet::of_fields(&["spec", "metadata.labels"])`.
    pub fn of_fields(paths: &[&str]) -> Self {
        let mut set = Self::new();
        for path in paths {
            let path: Vec<_> = path.split('.').map(PathElement::field).collect();
            set.insert(&path);
        }
        set
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn insert(&mut self, path: &[PathElement]) {
        if let [first, rest @ ..] = path {
            let mut children = FieldSet::new();
            children.insert(rest);
            self.attach(first.clone(), rest.is_empty(), children);
        }
    }

    /// Adds a subtree under an element; what is neither member nor has children adds nothing.
    pub fn attach(&mut self, element: PathElement, member: bool, children: FieldSet) {
        if !member && children.is_empty() {
            return;
        }
        // Members of objects mostly come sorted.
        if self.entries.last().is_none_or(|last| last.element < element) {
            self.entries.push(Entry { element, member, children });
            return;
        }
        match self.entries.binary_search_by(|e| e.element.cmp(&element)) {
            Ok(i) => {
                let entry = &mut self.entries[i];
                entry.member |= member;
                entry.children = if entry.children.is_empty() { children } else { entry.children.union(&children) };
            }
            Err(i) => self.entries.insert(i, Entry { element, member, children }),
        }
    }

    /// Whether a path goes through an item of a keyed list that lacks one of its keys.
    pub fn has_unkeyed_item(&self) -> bool {
        self.entries.iter().any(|entry| entry.element.is_unkeyed() || entry.children.has_unkeyed_item())
    }

    pub fn get(&self, element: &PathElement) -> Option<&Entry> {
        self.entries.binary_search_by(|e| e.element.cmp(element)).ok().map(|i| &self.entries[i])
    }

    pub fn get_mut(&mut self, element: &PathElement) -> Option<&mut Entry> {
        self.entries.binary_search_by(|e| e.element.cmp(element)).ok().map(|i| &mut self.entries[i])
    }

    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.get(last).is_some_and(|e| e.member),
            [first, rest @ ..] => self.get(first).is_some_and(|e| e.children.has(rest)),
        }
    }

    /// Every path, in order.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Vec<PathElement>, paths: &mut Vec<Vec<PathElement>>) {
        for entry in &self.entries {
            prefix.push(entry.element.clone());
            if entry.member {
                paths.push(prefix.clone());
            }
            entry.children.collect(prefix, paths);
            prefix.pop();
        }
    }

    /// Paths in either.
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        self.zip(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => {
                Some(Entry { member: a.member || b.member, children: a.children.union(&b.children), ..a.clone() })
            }
            (one, None) | (None, one) => one.cloned(),
        })
    }

    /// Adds all paths of another set.
    pub fn absorb(&mut self, other: FieldSet) {
        if self.is_empty() {
            *self = other;
            return;
        }
        for Entry { element, member, children } in other.entries {
            match self.entries.binary_search_by(|e| e.element.cmp(&element)) {
                Ok(i) => {
                    self.entries[i].member |= member;
                    self.entries[i].children.absorb(children);
                }
                Err(i) => self.entries.insert(i, Entry { element, member, children }),
            }
        }
    }

    /// Takes out all paths of another set.
    pub fn subtract(&mut self, other: &FieldSet) {
        self.retain_beside(other, |entry, other| {
            entry.member &= !other.member;
            entry.children.subtract(&other.children);
            entry.member || !entry.children.is_empty()
        });
    }

    /// Takes out one path of members, given with dots.
    pub fn remove_field(&mut self, path: &str) {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let is = |e: &Entry| matches!(&e.element, PathElement::Field(n) if **n == *name);
        let Some(i) = self.entries.iter().position(is) else { return };
        let entry = &mut self.entries[i];
        match rest {
            Some(rest) => entry.children.remove_field(rest),
            None => entry.member = false,
        }
        if !entry.member && entry.children.is_empty() {
            self.entries.remove(i);
        }
    }

    /// Paths in both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.zip(other, |a, b| {
            let (a, b) = (a?, b?);
            Entry::of(a, a.member && b.member, a.children.intersection(&b.children))
        })
    }

    /// Paths of `self` that are not in `other`.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.zip(other, |a, b| {
            let a = a?;
            let Some(b) = b else { return Some(a.clone()) };
            Entry::of(a, a.member && !b.member, a.children.difference(&b.children))
        })
    }

    /// Takes out all paths of another set and all that lies under them.
    pub fn prune(&mut self, other: &FieldSet) {
        self.retain_beside(other, |entry, other| {
            if other.member {
                return false;
            }
            entry.children.prune(&other.children);
            entry.member || !entry.children.is_empty()
        });
    }

    /// Keeps the entries that are not in `other`, and of those in both what `keep` keeps.
    fn retain_beside(&mut self, other: &FieldSet, keep: impl Fn(&mut Entry, &Entry) -> bool) {
        if other.is_empty() {
            return;
        }
        let mut others = other.entries.iter().peekable();
        self.entries.retain_mut(|entry| {
            while others.next_if(|o| o.element < entry.element).is_some() {}
            match others.peek() {
                Some(other) if other.element == entry.element => keep(entry, other),
                _ => true,
            }
        });
    }

    fn zip(&self, other: &FieldSet, combine: impl Fn(Option<&Entry>, Option<&Entry>) -> Option<Entry>) -> FieldSet {
        let (mut a, mut b) = (self.entries.iter().peekable(), other.entries.iter().peekable());
        let mut entries = Vec::new();
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return FieldSet { entries },
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.element.cmp(&b.element),
            };
            entries.extend(match order {
                Ordering::Less => combine(a.next(), None),
                Ordering::Equal => combine(a.next(), b.next()),
                Ordering::Greater => combine(None, b.next()),
            });
        }
    }
}

impl Entry {
    fn of(model: &Entry, member: bool, children: FieldSet) -> Option<Entry> {
        (member || !children.is_empty()).then(|| Entry { element: model.element.clone(), member, children })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_combine_path_by_path() {
        let set = FieldSet::of_fields;
        let (a, b) = (set(&["x", "x.y", "z.w"]), set(&["x", "z"]));
        assert_eq!(a.union(&b), set(&["x", "x.y", "z", "z.w"]));
        assert_eq!(a.intersection(&b), set(&["x"]));
        assert_eq!(a.difference(&b), set(&["x.y", "z.w"]));
        let (mut sum, mut rest, mut pruned) = (a.clone(), a.clone(), a.clone());
        pruned.prune(&b);
        assert_eq!(pruned, set(&[]));
        sum.absorb(b.clone());
        rest.subtract(&b);
        assert_eq!((sum, rest.clone()), (a.union(&b), a.difference(&b)));
        rest.remove_field("x.y");
        assert_eq!(rest, set(&["z.w"]));
        assert!(a.has(&[PathElement::field("z"), PathElement::field("w")]));
        assert!(!a.has(&[PathElement::field("z")]));
        assert_eq!(a.paths().len(), 3);
    }
}
