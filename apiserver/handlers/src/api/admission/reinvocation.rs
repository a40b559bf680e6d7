//! Mutating webhooks that are asked a second time, because others changed the object after them. (KEP-1080 for ordering,
//! `reinvocationPolicy: IfNeeded`.)
//!
//! When a webhook has changed the object, all mutating admission runs once more. In that second round only those webhooks are
//! asked again that want it and were asked before a change: by a later webhook, or by a plugin in the second round.

use apimachinery::Value;
use std::collections::BTreeSet;

/// What one request's mutating admission remembers.
#[derive(Debug, Default)]
pub struct Reinvocation {
    /// This is the second round.
    pub again: bool,
    /// A second round is due.
    pub wanted: bool,
    /// Asked since the last change, and willing to be asked again.
    asked: BTreeSet<String>,
    /// Asked before the last change: to be asked again.
    due: BTreeSet<String>,
    /// The object as webhooks left it.
    left: Option<Value>,
}

impl Reinvocation {
    /// At the start of the webhooks' turn.
    pub fn start(&mut self, object: Option<&Value>) {
        if self.again && self.left.as_ref() != object {
            self.make_due();
        }
    }

    pub fn skips(&self, id: &str) -> bool {
        self.again && !self.due.contains(id)
    }

    /// A webhook has answered.
    pub fn asked(&mut self, id: &str, reinvoke: bool, changed: bool) {
        if changed {
            self.make_due();
            self.wanted = true;
        }
        if reinvoke {
            self.asked.insert(id.to_owned());
        }
    }

    /// At the end of the webhooks' turn.
    pub fn end(&mut self, object: Option<&Value>) {
        if !self.again && (self.wanted || !self.asked.is_empty()) {
            self.left = object.cloned();
        }
    }

    fn make_due(&mut self) {
        self.due.append(&mut self.asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn those_who_were_asked_before_a_change_are_asked_again() {
        let mut r = Reinvocation::default();
        let object = json!({"n": 1});
        r.start(Some(&object));
        r.asked("a", true, false);
        r.asked("b", false, false);
        r.asked("c", true, true);
        r.end(Some(&object));
        assert!(r.wanted);
        r.again = true;
        r.start(Some(&object));
        assert_eq!(["a", "b", "c"].map(|id| r.skips(id)), [false, true, true]);
    }

    #[test]
    fn a_plugin_that_changes_the_object_in_the_second_round_makes_all_due() {
        let mut r = Reinvocation::default();
        r.asked("c", true, true);
        r.end(Some(&json!({"n": 1})));
        r.again = true;
        r.start(Some(&json!({"n": 2})));
        assert!(!r.skips("c"));
    }

    #[test]
    fn without_a_change_there_is_no_second_round() {
        let mut r = Reinvocation::default();
        r.asked("a", true, false);
        assert!(!r.wanted);
    }
}
