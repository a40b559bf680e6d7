//! The status of a CustomResourceDefinition: which of its names are accepted (those that no other definition of the group has), whether
//! it is served, and how far its deletion is.

use apimachinery::Value;
use serde_json::json;

/// Whether objects of the definition may be served.
pub fn is_established(status: &Value) -> bool {
    condition(status, "Established").is_some_and(|c| c["status"] == "True")
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

/// The status of `definition` among `all`: accepted names and conditions. What is right already keeps its time.
pub fn status(definition: &Value, all: &[Value], now: &str) -> Value {
    let mut status = definition["status"].clone();
    let wanted = &definition["spec"]["names"];
    let conflict = conflict(definition, all);
    let set = |status: &mut Value, kind: &str, value: &str, reason: &str, message: &str| {
        set(status, kind, value, reason, message, now);
    };
    match conflict {
        None => {
            status["acceptedNames"] = wanted.clone();
            set(&mut status, "NamesAccepted", "True", "NoConflicts", "no conflicts found");
            set(&mut status, "Established", "True", "InitialNamesAccepted", "the initial names have been accepted");
        }
        Some((reason, name)) => {
            let told = format!("{name:?} is already in use");
            set(&mut status, "NamesAccepted", "False", reason, &told);
            if !is_established(&status) {
                set(&mut status, "Established", "False", "NotAccepted", "not all names are accepted");
            }
        }
    }
    status
}

/// Holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Marks a definition as deleted, and keeps it until its objects are gone. Nothing else of it changes.
pub fn hold(definition: &mut Value, now: &str) {
    let mut finalizers = definition["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    definition["metadata"]["finalizers"] = finalizers.into();
    definition["metadata"]["deletionTimestamp"] = now.into();
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set(&mut definition["status"], "Terminating", "True", "InstanceDeletionPending", message, now);
}

/// The status of a definition whose objects are being deleted.
pub fn terminating(status: &Value, now: &str) -> Value {
    let mut status = status.clone();
    let message = "CustomResource deletion is in progress";
    set(&mut status, "Terminating", "True", "InstanceDeletionInProgress", message, now);
    status
}

/// Sets a condition; one that says the same already keeps its time.
fn set(status: &mut Value, kind: &str, value: &str, reason: &str, message: &str, now: &str) {
    let mut list = status["conditions"].as_array().cloned().unwrap_or_default();
    let new = json!({"type": kind, "status": value, "lastTransitionTime": now, "reason": reason, "message": message});
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(there) if there["status"] == value && there["reason"] == reason => return,
        Some(there) => *there = new,
        None => list.push(new),
    }
    status["conditions"] = list.into();
}

/// Names of a resource: the first two and short names are one space, the kinds another.
const NAMES: [(&str, &str, bool); 4] = [
    ("plural", "PluralConflict", false),
    ("singular", "SingularConflict", false),
    ("kind", "KindConflict", true),
    ("listKind", "ListKindConflict", true),
];

fn conflict(definition: &Value, all: &[Value]) -> Option<(&'static str, String)> {
    let own = &definition["metadata"]["name"];
    let group = &definition["spec"]["group"];
    let others = || all.iter().filter(|d| d["spec"]["group"] == *group && d["metadata"]["name"] != *own);
    let taken = |name: &str, of_kind: bool| {
        others().any(|other| {
            let names = &other["status"]["acceptedNames"];
            let short = names["shortNames"].as_array().is_some_and(|s| s.iter().any(|s| s == name));
            NAMES.iter().any(|(member, _, kind)| *kind == of_kind && names[*member] == name) || !of_kind && short
        })
    };
    let wanted = &definition["spec"]["names"];
    for (member, reason, of_kind) in NAMES {
        if let Some(name) = wanted[member].as_str().filter(|name| !name.is_empty() && taken(name, of_kind)) {
            return Some((reason, name.to_owned()));
        }
    }
    let short = wanted["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    short.into_iter().find(|name| taken(name, false)).map(|name| ("ShortNamesConflict", name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, kind: &str, accepted: bool) -> Value {
        let names =
            json!({"plural": name, "kind": kind, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")});
        let status = if accepted { json!({"acceptedNames": names}) } else { json!({"storedVersions": ["v1"]}) };
        json!({"metadata": {"name": format!("{name}.g")}, "spec": {"group": "g", "names": names}, "status": status})
    }

    #[test]
    fn the_first_to_have_a_name_keeps_it() {
        let (first, second) = (definition("as", "A", true), definition("bs", "A", false));
        let refused = status(&second, &[first.clone(), second.clone()], "now");
        assert!(!is_established(&refused));
        assert_eq!(refused["conditions"][0]["reason"], "SingularConflict");
        let accepted = status(&first, &[first.clone(), second], "now");
        assert!(is_established(&accepted));
        let mut again = first;
        again["status"] = accepted.clone();
        assert_eq!(status(&again, &[again.clone()], "later"), accepted);
    }
}
