//! Service account tokens for projected volumes (KEP-1205): asked of the API server, bound to the pod, renewed before
//! they run out.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use pod_state::spec;

use super::VolumeError;

/// Renewed after this part of its life, or this long, whichever is first.
const RENEW_AFTER_PERCENT: i64 = 80;
const RENEW_AFTER_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Pod uid, audience and lifetime: what makes tokens differ within a pod.
type Key = (String, String, i64);

struct Token {
    text: String,
    renew_at: Timestamp,
    expires_at: Timestamp,
}

/// The tokens of all pods on the node. Bounded by their token volumes: `forget` drops a pod's.
pub struct Tokens {
    client: Option<Client>,
    tokens: Mutex<HashMap<Key, Token>>,
}

impl Tokens {
    pub fn new(client: Option<Client>) -> Self {
        Self { client, tokens: Mutex::new(HashMap::new()) }
    }

    /// Drops a pod's tokens.
    pub fn forget(&self, uid: &str) {
        self.tokens.lock().retain(|(of, ..), _| of != uid);
    }

    /// A token for the projection that is good for a while. While the API server is away the present one is used to its
    /// end.
    pub async fn get(&self, pod: &Pod, projection: &ServiceAccountTokenProjection) -> Result<String, VolumeError> {
        let seconds = projection.expiration_seconds.unwrap_or(3600);
        let key = (spec::uid(pod).to_owned(), projection.audience.clone().unwrap_or_default(), seconds);
        let now = Timestamp::now();
        let usable = self.tokens.lock().get(&key).map(|t| (t.text.clone(), t.renew_at > now, t.expires_at > now));
        match usable {
            Some((text, true, _)) => Ok(text),
            Some((text, false, true)) => Ok(self.request(pod, key, now).await.unwrap_or_else(|error| {
                tracing::warn!(pod = spec::key(pod), %error, "Can't renew a service account token yet");
                text
            })),
            _ => self.request(pod, key, now).await,
        }
    }

    async fn request(&self, pod: &Pod, key: Key, now: Timestamp) -> Result<String, VolumeError> {
        let client = self.client.clone().ok_or_else(|| VolumeError::Token("this kubelet has no API server".into()))?;
        let account =
            spec::spec(pod).service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: if key.1.is_empty() { Vec::new() } else { vec![key.1.clone()] },
                expiration_seconds: Some(key.2),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            },
            ..Default::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(client, spec::namespace(pod));
        let answer = api.create_token_request(account, &PostParams::default(), &request).await;
        let answer = answer.map_err(|error| VolumeError::Token(error.to_string()))?;
        let status = answer.status.ok_or_else(|| VolumeError::Token("the API server sent no token".into()))?;
        let expires_at = status.expiration_timestamp.0;
        let life = expires_at.duration_since(now);
        let renew_after = SignedDuration::from_secs(life.as_secs() * RENEW_AFTER_PERCENT / 100).min(RENEW_AFTER_MAX);
        let renew_at = now.checked_add(renew_after).unwrap_or(expires_at);
        let token = Token { text: status.token.clone(), renew_at, expires_at };
        self.tokens.lock().insert(key, token);
        Ok(status.token)
    }
}
