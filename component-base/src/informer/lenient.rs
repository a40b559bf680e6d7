//! Objects as Go's clients read them.
//!
//! A condition's `lastTransitionTime` is required, but a client written in Go that leaves it unset sends `null`, the API server
//! stores that, and every other client in Go reads it as the zero time. The types of k8s-openapi refuse it; and since one object that
//! cannot be read ends a list or watch, a single such Service would blind kube-proxy and DNS to all of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Go's `time.Time{}`, as JSON would have it.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// An object that is read again, with the zero time where conditions have none, if it cannot be read as it is.
#[derive(Clone, Debug)]
pub struct Lenient<K>(pub K);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let refused = match serde_json::from_str(text) {
            Ok(object) => return Ok(Lenient(object)),
            Err(refused) => refused,
        };
        let mut tree: Value = serde_json::from_str(text).map_err(D::Error::custom)?;
        if !fill_in_times(&mut tree) {
            return Err(D::Error::custom(refused));
        }
        serde_json::from_value(tree).map(Lenient).map_err(D::Error::custom)
    }
}

/// Gives conditions without a time the zero time. False if there are none.
fn fill_in_times(tree: &mut Value) -> bool {
    match tree {
        Value::Object(members) => {
            let mut filled = false;
            for (name, value) in members {
                if let (true, Value::Array(conditions)) = (name == "conditions", &mut *value) {
                    for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
                        if condition.get("lastTransitionTime").is_none_or(Value::is_null) {
                            condition.insert("lastTransitionTime".into(), ZERO_TIME.into());
                            filled = true;
                        }
                    }
                }
                filled |= fill_in_times(value);
            }
            filled
        }
        // All of them, not only up to the first that needs it.
        Value::Array(items) => items.iter_mut().filter_map(|item| fill_in_times(item).then_some(())).count() > 0,
        _ => false,
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;
    use kube::core::{ObjectList, WatchEvent};

    #[test]
    fn a_condition_without_a_time_is_read_with_the_zero_time() {
        let service = |condition: &str| {
            format!(
                r#"{{"metadata": {{"name": "x"}}, "status": {{"conditions": [{{"type": "A", "status": "True", "reason": "r", "message": ""{condition}}}]}}}}"#
            )
        };
        let time = |service: &Service| {
            service.status.as_ref().unwrap().conditions.as_ref().unwrap()[0].last_transition_time.0.to_string()
        };
        for (condition, want) in [
            ("", ZERO_TIME),
            (r#", "lastTransitionTime": null"#, ZERO_TIME),
            (r#", "lastTransitionTime": "2026-01-02T03:04:05Z""#, "2026-01-02T03:04:05Z"),
        ] {
            let line = format!(r#"{{"type": "ADDED", "object": {}}}"#, service(condition));
            let WatchEvent::Added(Lenient(added)) =
                serde_json::from_str::<WatchEvent<Lenient<Service>>>(&line).unwrap()
            else {
                panic!("{line}")
            };
            assert_eq!(time(&added), want);
            let list = format!(
                r#"{{"kind": "ServiceList", "apiVersion": "v1", "metadata": {{}}, "items": [{}]}}"#,
                service(condition)
            );
            let list: ObjectList<Lenient<Service>> = serde_json::from_str(&list).unwrap();
            assert_eq!(time(&list.items[0].0), want);
        }
    }

    #[test]
    fn what_is_wrong_otherwise_is_refused_for_that() {
        let refused = serde_json::from_str::<Lenient<Service>>(r#"{"metadata": {"name": 1}}"#).unwrap_err();
        assert!(refused.to_string().contains("expected a string"), "{refused}");
    }
}
