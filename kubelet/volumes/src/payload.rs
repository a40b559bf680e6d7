//! What configMap, secret, downwardAPI and projected volumes hold: a set of small files, gathered from the API server.

use k8s_openapi::api::core::v1::{Container, DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection};
use node_context::Context;
use node_context::objects::{ObjectError, Objects};
use pod_state::field::{self, NodeFacts};
use pod_state::spec;

use super::VolumeError;
use super::atomic_writer::{File, Payload};
use crate::tokens::Tokens;

const DEFAULT_MODE: i32 = 0o644;

/// The plugin of a volume made of files, and whether it belongs in memory.
pub fn plugin(volume: &Volume) -> Option<(&'static str, bool)> {
    match volume {
        Volume { config_map: Some(_), .. } => Some(("kubernetes.io/configmap", false)),
        Volume { secret: Some(_), .. } => Some(("kubernetes.io/secret", true)),
        Volume { downward_api: Some(_), .. } => Some(("kubernetes.io/downward-api", false)),
        Volume { projected: Some(_), .. } => Some(("kubernetes.io/projected", true)),
        _ => None,
    }
}

/// Gathers the files.
pub async fn collect(
    context: &Context,
    tokens: &Tokens,
    pod: &Pod,
    volume: &Volume,
    facts: &NodeFacts,
) -> Result<Payload, VolumeError> {
    let mut collector =
        Collector { objects: &context.objects, tokens, pod, facts, mode: DEFAULT_MODE, payload: Payload::new() };
    if let Some(source) = &volume.config_map {
        collector.mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        collector.config_map(&source.name, source.items.as_deref(), source.optional).await?;
    } else if let Some(source) = &volume.secret {
        collector.mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        collector.secret(name, source.items.as_deref(), source.optional).await?;
    } else if let Some(source) = &volume.downward_api {
        collector.mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        collector.downward(source.items.as_deref().unwrap_or_default())?;
    } else if let Some(source) = &volume.projected {
        collector.mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        for source in source.sources.iter().flatten() {
            collector.projection(source).await?;
        }
    }
    Ok(collector.payload)
}

struct Collector<'a> {
    objects: &'a Objects,
    tokens: &'a Tokens,
    pod: &'a Pod,
    facts: &'a NodeFacts,
    mode: i32,
    payload: Payload,
}

impl Collector<'_> {
    fn add(&mut self, path: &str, data: Vec<u8>, mode: Option<i32>) {
        let mode = (mode.unwrap_or(self.mode) & 0o777).unsigned_abs();
        self.payload.insert(path.to_owned(), File { data, mode, uid: None });
    }

    async fn projection(&mut self, source: &VolumeProjection) -> Result<(), VolumeError> {
        if let Some(source) = &source.config_map {
            self.config_map(&source.name, source.items.as_deref(), source.optional).await?;
        }
        if let Some(source) = &source.secret {
            self.secret(&source.name, source.items.as_deref(), source.optional).await?;
        }
        if let Some(source) = &source.downward_api {
            self.downward(source.items.as_deref().unwrap_or_default())?;
        }
        if let Some(projection) = &source.service_account_token {
            let token = self.tokens.get(self.pod, projection).await?;
            let (mode, uid) = token_access(self.pod, self.mode);
            let mode = mode.unsigned_abs() & 0o777;
            self.payload.insert(projection.path.clone(), File { data: token.into_bytes(), mode, uid });
        }
        if source.cluster_trust_bundle.is_some() || source.pod_certificate.is_some() {
            return Err(VolumeError::Invalid(
                "projected clusterTrustBundle and podCertificate sources are not enabled on this node".into(),
            ));
        }
        Ok(())
    }

    async fn config_map(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), VolumeError> {
        let found = self.objects.config_map(spec::namespace(self.pod), name).await;
        let Some(map) = unless_optional(found, optional)? else { return Ok(()) };
        let data = |key: &str| {
            let text = map.data.as_ref().and_then(|data| data.get(key)).map(|text| text.clone().into_bytes());
            text.or_else(|| map.binary_data.as_ref()?.get(key).map(|bytes| bytes.0.clone()))
        };
        let keys =
            map.data.iter().flat_map(|data| data.keys()).chain(map.binary_data.iter().flat_map(|data| data.keys()));
        self.items("configmap", name, keys.map(String::as_str), &data, items, optional)
    }

    async fn secret(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), VolumeError> {
        let found = self.objects.secret(spec::namespace(self.pod), name).await;
        let Some(secret) = unless_optional(found, optional)? else { return Ok(()) };
        let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone());
        let keys = secret.data.iter().flat_map(|data| data.keys()).map(String::as_str);
        self.items("secret", name, keys, &data, items, optional)
    }

    /// All keys under their own names, or the listed ones under the paths given.
    fn items<'k>(
        &mut self,
        kind: &str,
        name: &str,
        keys: impl Iterator<Item = &'k str>,
        data: &dyn Fn(&str) -> Option<Vec<u8>>,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), VolumeError> {
        match items.filter(|items| !items.is_empty()) {
            None => {
                for key in keys {
                    self.add(key, data(key).unwrap_or_default(), None);
                }
            }
            Some(items) => {
                for item in items {
                    match data(&item.key) {
                        Some(data) => self.add(&item.path, data, item.mode),
                        None if optional == Some(true) => {}
                        None => {
                            let message = format!("{kind} {name:?} references non-existent {kind} key: {}", item.key);
                            return Err(VolumeError::Invalid(message));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn downward(&mut self, files: &[DownwardAPIVolumeFile]) -> Result<(), VolumeError> {
        for file in files {
            let value = match (&file.field_ref, &file.resource_field_ref) {
                (Some(reference), _) => field::field(self.pod, &reference.field_path, self.facts),
                (_, Some(selector)) => field::resource(self.pod, "", selector, self.facts),
                _ => None,
            };
            let Some(value) = value else {
                return Err(VolumeError::Invalid(format!("downwardAPI item {:?} names no known field", file.path)));
            };
            self.add(&file.path, value.into_bytes(), file.mode);
        }
        Ok(())
    }
}

/// A token is for the pod's own user where all containers share one, and for its fsGroup; else for anyone in the pod.
fn token_access(pod: &Pod, mode: i32) -> (i32, Option<u32>) {
    let spec = spec::spec(pod);
    let outer = spec.security_context.as_ref();
    let ephemeral = spec::ephemeral_containers(pod);
    let own = |container: &Container| {
        container.security_context.as_ref().and_then(|context| context.run_as_user).or(outer?.run_as_user)
    };
    let mut users = spec.containers.iter().chain(spec::init_containers(pod)).chain(&ephemeral).map(own);
    let shared = users.next().flatten().filter(|first| users.all(|user| user == Some(*first)));
    let uid = shared.and_then(|uid| u32::try_from(uid).ok());
    let grouped = outer.is_some_and(|outer| outer.fs_group.is_some());
    (if uid.is_some() || grouped { 0o600 } else { mode }, uid)
}

fn unless_optional<T>(found: Result<T, ObjectError>, optional: Option<bool>) -> Result<Option<T>, VolumeError> {
    match found {
        Err(error) if error.is_not_found() && optional == Some(true) => Ok(None),
        other => Ok(Some(other?)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_belongs_to_the_user_that_all_containers_share_and_to_the_fs_group() {
        let user = |uid: i64| json!({"name": "c", "securityContext": {"runAsUser": uid}});
        let none = json!({"name": "c"});
        for (context, containers, expected) in [
            (json!({}), json!([none]), (0o644, None)),
            (json!({"runAsUser": 1000}), json!([none]), (0o600, Some(1000))),
            (json!({}), json!([user(7), user(7)]), (0o600, Some(7))),
            (json!({}), json!([user(7), user(8)]), (0o644, None)),
            (json!({}), json!([user(7), none]), (0o644, None)),
            (json!({"runAsUser": 1000}), json!([none, user(8)]), (0o644, None)),
            (json!({"fsGroup": 5}), json!([none]), (0o600, None)),
            (json!({"fsGroup": 5, "runAsUser": 1000}), json!([none]), (0o600, Some(1000))),
        ] {
            let pod = json!({"spec": {"securityContext": context, "containers": containers}});
            let parsed: Pod = serde_json::from_value(pod.clone()).expect("a pod");
            assert_eq!(token_access(&parsed, 0o644), expected, "{pod}");
        }
    }
}
