//! Registry credentials: from a pod's imagePullSecrets, its service account's by way of admission, and the node's own
//! Docker config files.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use k8s_openapi::api::core::v1::Pod;
use node_context::Context;
use pod_state::spec;
use proto::cri::AuthConfig;
use serde::Deserialize;

/// Docker Hub's name in Docker's config files.
const DOCKER_HUB: &str = "index.docker.io";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

/// Credentials by the registry pattern they are for. Cloning copies secrets, so it is shared by reference where it can be.
#[derive(Clone, Default)]
pub struct Keyring(Vec<(String, AuthConfig)>);

impl Keyring {
    /// Adds the credentials of a `config.json` (or, `legacy`, a `.dockercfg`). What can't be read is left out: pulling
    /// without it gives the better error.
    fn add(&mut self, json: &[u8], legacy: bool) {
        let parsed = if legacy {
            serde_json::from_slice(json).map(|auths| DockerConfig { auths })
        } else {
            serde_json::from_slice(json)
        };
        let Ok(config) = parsed else {
            tracing::warn!("Image pull credentials are not in Docker's JSON format; ignoring them");
            return;
        };
        for (server, entry) in config.auths {
            let (mut username, mut password) = (entry.username, entry.password);
            if username.is_empty() {
                let decoded = base64::engine::general_purpose::STANDARD.decode(&entry.auth).unwrap_or_default();
                if let Some((user, pass)) = String::from_utf8_lossy(&decoded).split_once(':') {
                    (username, password) = (user.to_owned(), pass.trim_end_matches('\0').to_owned());
                }
            }
            let auth = AuthConfig {
                username,
                password,
                server_address: server.clone(),
                identity_token: entry.identitytoken,
                registry_token: entry.registrytoken,
                ..Default::default()
            };
            self.0.push((normalize(&server), auth));
        }
    }

    /// Reads the node's own files, where they exist.
    pub fn of_node(root_dir: &Path) -> Self {
        let mut keyring = Self::default();
        for path in [root_dir.join("config.json"), "/root/.docker/config.json".into()] {
            if let Ok(json) = std::fs::read(&path) {
                keyring.add(&json, false);
            }
        }
        keyring
    }
    /// Adds the credentials of another; of two that are as specific, the earlier is tried first.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    /// Credentials that may be for `image`, the most specific first.
    pub fn lookup(&self, image: &str) -> Vec<AuthConfig> {
        let image = full_name(image);
        let mut found: Vec<&(String, AuthConfig)> =
            self.0.iter().filter(|(pattern, _)| matches(pattern, &image)).collect();
        found.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.len()));
        found.into_iter().map(|(_, auth)| auth.clone()).collect()
    }
}

/// "https://host/v1/" and such → "host/path".
fn normalize(server: &str) -> String {
    let server = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    server.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2").to_owned()
}

/// "nginx" → "index.docker.io/library/nginx".
fn full_name(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => {
            image.strip_prefix("docker.io/").map_or_else(|| image.to_owned(), |rest| format!("{DOCKER_HUB}/{rest}"))
        }
        Some(_) => format!("{DOCKER_HUB}/{image}"),
        None => format!("{DOCKER_HUB}/library/{image}"),
    }
}

/// Host parts may hold "*" for one label or part of it; the path is a prefix.
fn matches(pattern: &str, image: &str) -> bool {
    let split = |text: &str| {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        (host.to_owned(), path.to_owned())
    };
    let ((want_host, want_path), (host, path)) = (split(pattern), split(image));
    let (want_labels, labels): (Vec<&str>, Vec<&str>) = (want_host.split('.').collect(), host.split('.').collect());
    want_labels.len() == labels.len()
        && want_labels.iter().zip(labels).all(|(want, have)| glob(want, have))
        && path.starts_with(&want_path)
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text
            .strip_prefix(start)
            .is_some_and(|tail| (0..=tail.len()).any(|at| tail.is_char_boundary(at) && glob(rest, &tail[at..]))),
    }
}

/// The credentials that a pod brings. Missing secrets are skipped, as upstream does: the image may be public.
pub async fn of_pod(context: &Context, pod: &Pod) -> Keyring {
    let mut keyring = Keyring::default();
    for reference in spec::spec(pod).image_pull_secrets.iter().flatten() {
        match context.objects.secret(spec::namespace(pod), &reference.name).await {
            Ok(secret) => {
                let data = secret.data.as_ref();
                if let Some(json) = data.and_then(|data| data.get(".dockerconfigjson")) {
                    keyring.add(&json.0, false);
                } else if let Some(json) = data.and_then(|data| data.get(".dockercfg")) {
                    keyring.add(&json.0, true);
                }
            }
            Err(error) => {
                let message = format!(
                    "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                    reference.name
                );
                tracing::warn!(pod = spec::key(pod), %error, "{message}");
                context.event(pod, None, "Warning", "FailedToRetrieveImagePullSecret", &message);
            }
        }
    }
    keyring
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_match_by_host_pattern_and_path_prefix() {
        for (pattern, image, expected) in [
            ("https://index.docker.io/v1/", "nginx", true),
            ("registry.example:5000", "registry.example:5000/team/app:1", true),
            ("registry.example/team", "registry.example/team/app", true),
            ("registry.example/other", "registry.example/team/app", false),
            ("*.example.com", "eu.example.com/app", true),
            ("*.example.com", "example.com/app", false),
            ("r*.example.com", "reg.example.com/app", true),
        ] {
            assert_eq!(matches(&normalize(pattern), &full_name(image)), expected, "{pattern} {image}");
        }
    }

    #[test]
    fn a_docker_config_gives_user_and_password() {
        let mut keyring = Keyring::default();
        keyring.add(br#"{"auths": {"r.example": {"auth": "dXNlcjpwYXNz"}}}"#, false);
        let found = keyring.lookup("r.example/a:1");
        assert_eq!((found[0].username.as_str(), found[0].password.as_str()), ("user", "pass"));
        assert!(keyring.lookup("other.example/a").is_empty());
    }
}
