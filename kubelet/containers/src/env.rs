//! A container's environment, from all its sources: Services, `envFrom`, `env` with references and `$(VAR)`.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};
use node_context::objects::Objects;
use pod_state::{field, spec};

use crate::{ContainerConfigError, expansion};

/// Name and value pairs in the order they were first set.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    order: Vec<String>,
    values: HashMap<String, String>,
}

impl Environment {
    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.order.iter().map(|name| (name.as_str(), self.values[name].as_str()))
    }
}

/// Builds the environment. `services` are the variables of [`crate::service_env`]: what the spec sets wins over them.
pub async fn make(
    objects: &Objects,
    pod: &Pod,
    container: &Container,
    services: BTreeMap<String, String>,
    facts: &field::NodeFacts,
) -> Result<Environment, ContainerConfigError> {
    let mut environment = Environment::default();
    let namespace = spec::namespace(pod);
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let data = match (&source.config_map_ref, &source.secret_ref) {
            (Some(reference), _) => {
                let found = objects.config_map(namespace, &reference.name).await;
                optional(found, reference.optional)?.map(|map| map.data.clone().unwrap_or_default())
            }
            (_, Some(reference)) => {
                let found = objects.secret(namespace, &reference.name).await;
                match optional(found, reference.optional)? {
                    Some(secret) => {
                        let data = secret.data.iter().flatten().filter(|(key, _)| is_name(&format!("{prefix}{key}")));
                        let text =
                            |(key, value)| Ok((String::clone(key), text(namespace, &reference.name, key, value)?));
                        Some(data.map(text).collect::<Result<_, ContainerConfigError>>()?)
                    }
                    None => None,
                }
            }
            _ => None,
        };
        for (key, value) in data.unwrap_or_default() {
            let name = format!("{prefix}{key}");
            // Others are skipped, as a shell could not read them either.
            if is_name(&name) {
                environment.set(&name, value);
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value_from, variable.value.as_deref()) {
            (Some(source), None | Some("")) => match from_source(objects, pod, container, source, facts).await? {
                Some(value) => value,
                None => continue, // an optional reference to what does not exist
            },
            (_, value) => expansion::expand(value.unwrap_or_default(), |name| {
                environment.get(name).or_else(|| services.get(name).map(String::as_str))
            }),
        };
        environment.set(&variable.name, value);
    }
    for (name, value) in services {
        if environment.get(&name).is_none() {
            environment.set(&name, value);
        }
    }
    Ok(environment)
}

async fn from_source(
    objects: &Objects,
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    facts: &field::NodeFacts,
) -> Result<Option<String>, ContainerConfigError> {
    let namespace = spec::namespace(pod);
    let invalid = |message: String| ContainerConfigError::Invalid { container: container.name.clone(), message };
    let missing = |kind, name: &str, key: &str| ContainerConfigError::MissingKey {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
    };
    if let Some(reference) = &source.field_ref {
        return match field::field(pod, &reference.field_path, facts) {
            Some(value) => Ok(Some(value)),
            None => Err(invalid(format!("unsupported fieldPath: {}", reference.field_path))),
        };
    }
    if let Some(selector) = &source.resource_field_ref {
        return match field::resource(pod, &container.name, selector, facts) {
            Some(value) => Ok(Some(value)),
            None => Err(invalid(format!("unsupported container resource: {}", selector.resource))),
        };
    }
    if let Some(reference) = &source.config_map_key_ref {
        let map = optional(objects.config_map(namespace, &reference.name).await, reference.optional)?;
        let value = map.as_ref().and_then(|map| map.data.as_ref()?.get(&reference.key).cloned());
        return match value {
            None if reference.optional != Some(true) => Err(missing("ConfigMap", &reference.name, &reference.key)),
            value => Ok(value),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let secret = optional(objects.secret(namespace, &reference.name).await, reference.optional)?;
        let value = secret.as_ref().and_then(|secret| secret.data.as_ref()?.get(&reference.key));
        return match value {
            None if reference.optional != Some(true) => Err(missing("Secret", &reference.name, &reference.key)),
            value => value.map(|value| text(namespace, &reference.name, &reference.key, value)).transpose(),
        };
    }
    Err(invalid("valueFrom names no source".into()))
}

/// What may be a variable's name: printable ASCII without "=" (KEP-4369).
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

/// A Secret's value as a variable can have it.
fn text(namespace: &str, name: &str, key: &str, value: &ByteString) -> Result<String, ContainerConfigError> {
    String::from_utf8(value.0.clone()).map_err(|_| ContainerConfigError::NotText {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
    })
}

/// Turns "not found" into `None` where the reference allows it.
fn optional<T>(
    found: Result<T, node_context::objects::ObjectError>,
    optional: Option<bool>,
) -> Result<Option<T>, node_context::objects::ObjectError> {
    match found {
        Err(error) if error.is_not_found() && optional == Some(true) => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_refused_and_never_changed() {
        let read = |bytes: &[u8]| text("ns", "s", "k", &ByteString(bytes.to_vec())).map_err(|error| error.to_string());
        assert_eq!(read("naïve".as_bytes()), Ok("naïve".to_owned()));
        assert!(read(b"\xff\xfe").is_err_and(|message| message.starts_with("key k of Secret ns/s is not UTF-8")));
    }

    #[test]
    fn names_are_printable_and_need_not_be_a_shells() {
        for (name, valid) in [("A", true), ("data-1", true), ("a.b", true), ("a=b", false), ("é", false), ("", false)]
        {
            assert_eq!(is_name(name), valid, "{name:?}");
        }
    }

    #[tokio::test]
    async fn later_variables_see_earlier_ones_and_win_over_services() {
        let container: Container = serde_json::from_value(serde_json::json!({"name": "c", "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)-$(SVC)-$(C)"},
            {"name": "SVC2", "value": "mine"},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ]}))
        .expect("a container");
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}})).expect("a pod");
        let services = BTreeMap::from([("SVC".into(), "s".into()), ("SVC2".into(), "theirs".into())]);
        let made = make(&Objects::none(), &pod, &container, services, &Default::default()).await.expect("made");
        for (name, value) in [("B", "1-s-$(C)"), ("SVC2", "mine"), ("SVC", "s"), ("POD", "p")] {
            assert_eq!(made.get(name), Some(value), "{name}");
        }
    }
}
