//! Rules of the reviews that ask what a user may do (SubjectAccessReview and its kin).

use apimachinery::Value;
use apimachinery::selector::LabelSelector;
use apimachinery::validation::{Cursor, names};

/// Checks a review of the resource `plural`.
pub fn validate(review: &Cursor<'_>, plural: &str) {
    let spec = review.field("spec");
    let (resource, other) = (spec.field("resourceAttributes"), spec.field("nonResourceAttributes"));
    match (resource.exists(), other.exists()) {
        (true, true) => other.invalid("cannot be specified in combination with resourceAttributes"),
        (false, false) => {
            resource.invalid("exactly one of nonResourceAttributes or resourceAttributes must be specified");
        }
        _ => {}
    }
    if plural != "selfsubjectaccessreviews" && spec.field("user").is_empty() && spec.field("groups").is_empty() {
        spec.field("user").invalid_value("", "at least one of user or group must be specified");
    }
    selector(&resource.field("fieldSelector"), false);
    selector(&resource.field("labelSelector"), true);
    let local = plural == "localsubjectaccessreviews";
    let allowed = |name: &str| name == "managedFields" || local && name == "namespace";
    let is_set = |(name, value): (&str, Cursor<'_>)| !allowed(name) && value.exists() && !value.str().is_empty();
    if review.field("metadata").members().any(is_set) {
        review.field("metadata").invalid("must be empty, but for the namespace of a local review");
    }
    if local {
        let namespace = resource.field("namespace");
        if resource.exists() && namespace.str() != review.dig("metadata.namespace").str() {
            namespace.invalid_value(namespace.str(), "must match metadata.namespace");
        }
        if other.exists() {
            other.invalid("disallowed on this kind of request");
        }
    }
}

/// A selector is given as text or as requirements. Operators that are not known are let through: a newer client may know them.
fn selector(selector: &Cursor<'_>, labels: bool) {
    if !selector.exists() {
        return;
    }
    let (raw, requirements) = (selector.field("rawSelector"), selector.field("requirements"));
    if !raw.is_empty() && !requirements.is_empty() {
        raw.invalid("may not specified at the same time as requirements");
    } else if raw.is_empty() && requirements.is_empty() {
        requirements.missing("requirements or rawSelector is required");
    }
    for requirement in requirements.items() {
        let (key, values) = (requirement.field("key"), requirement.field("values"));
        match requirement.field("operator").str() {
            "In" | "NotIn" => {
                values.required_because("must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.forbid("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            _ => {}
        }
        if labels {
            key.shape(names::qualified_name);
            for value in values.items() {
                value.shape(names::label_value);
            }
        } else {
            key.required();
        }
    }
}

/// Selectors that an authorizer can't use: it decides without them, as if all objects were asked for.
pub fn ignored_selectors(attributes: &Value) -> Vec<String> {
    let mut ignored = Vec::new();
    for (name, labels) in [("fieldSelector", false), ("labelSelector", true)] {
        let Some(selector) = attributes.get(name).filter(|selector| selector.is_object()) else { continue };
        let raw = selector["rawSelector"].as_str().unwrap_or_default();
        let requirements = selector["requirements"].as_array().map_or(&[][..], Vec::as_slice);
        let usable = |requirement: &&Value| {
            let values = requirement["values"].as_array().map_or(0, Vec::len);
            match requirement["operator"].as_str().unwrap_or_default() {
                // Fields are compared with one value only.
                "In" | "NotIn" => labels || values == 1,
                "Exists" | "DoesNotExist" => labels,
                _ => false,
            }
        };
        let parsed = match labels {
            true => LabelSelector::parse(raw).is_ok(),
            false => raw.split(',').all(|part| part.contains('=')),
        };
        let good = requirements.iter().filter(usable).count();
        if !raw.is_empty() && !parsed || raw.is_empty() && good < requirements.len() {
            let how = if good > 0 { "partially ignored" } else { "ignored" };
            ignored.push(format!("spec.resourceAttributes.{name} {how} due to parse error"));
        }
    }
    ignored
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_that_cannot_be_used_are_named() {
        let requirement =
            |operator: &str| json!({"requirements": [{"key": "k", "operator": operator, "values": ["v"]}]});
        for (attributes, ignored) in [
            (json!({"fieldSelector": requirement("In"), "labelSelector": {"rawSelector": "a=b"}}), 0),
            (json!({"fieldSelector": requirement("Near")}), 1),
            (json!({"labelSelector": {"rawSelector": "../x"}}), 1),
            (json!({"labelSelector": requirement("Exists")}), 0),
        ] {
            assert_eq!(ignored_selectors(&attributes).len(), ignored, "{attributes}");
        }
    }
}
