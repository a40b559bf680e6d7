//! Conversions by webhook in the middle of a write.

use apimachinery::Value;
use parking_lot::Mutex;

/// Conversions that one write's field manager needs and cannot wait for: it says which, they are made, and it starts over.
#[derive(Default)]
pub struct PendingConversions(Mutex<State>);

#[derive(Default)]
struct State {
    /// Version, object, the object in that version.
    made: Vec<(String, Value, Value)>,
    pending: Vec<(String, Value)>,
}

impl PendingConversions {
    /// The object in another version, if that was made already; else it is noted as pending.
    pub fn get(&self, version: &str, object: &Value) -> Option<Value> {
        let mut state = self.0.lock();
        let made = state.made.iter().find(|(v, o, _)| v == version && o == object).map(|(.., made)| made.clone());
        if made.is_none() {
            state.pending.push((version.to_owned(), object.clone()));
        }
        made
    }

    /// What is pending.
    pub fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.0.lock().pending)
    }

    pub fn put(&self, version: String, object: Value, made: Value) {
        self.0.lock().made.push((version, object, made));
    }
}
