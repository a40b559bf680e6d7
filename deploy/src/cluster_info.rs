//! The ConfigMap `cluster-info` in kube-public: what anybody may read to find the cluster, and how somebody who holds a token or
//! the hash of the CA knows that it is not a stranger's. (kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-join)

use crate::pki::{ders, hashes};
use crate::token::Token;
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, Config};
use ring::hmac;
use serde_json::{Value, json};
use std::time::Duration;

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(10);

/// The ConfigMap, without signatures: the controller manager adds those.
pub fn config_map(ca_pem: &str, server: &str) -> anyhow::Result<Value> {
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(ca_pem)}}],
        "contexts": [],
        "users": [],
        "current-context": "",
        "preferences": {},
    });
    Ok(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": {"kubeconfig": serde_yaml_ng::to_string(&kubeconfig)?},
    }))
}

/// A cluster that was found and is the right one.
#[derive(Debug)]
pub struct Found {
    pub server: String,
    pub ca_pem: String,
}

/// Why a cluster was not found, and whether a later attempt may.
#[derive(Debug)]
pub enum Refusal {
    /// Not there, or not signed yet.
    NotYet(anyhow::Error),
    /// Trying again would not help, or is not safe.
    Never(anyhow::Error),
}

/// Reads `cluster-info` at `endpoint` (address:port) and checks it by the token's signature and, where there are `pins`
/// (`sha256:<hex>`), by the CA's public key. Nothing is believed before that.
pub async fn discover(endpoint: &str, token: &Token, pins: &[String]) -> Result<Found, Refusal> {
    use Refusal::{Never, NotYet};
    let url = format!("https://{endpoint}").parse().map_err(|e| Never(anyhow::anyhow!("{endpoint:?}: {e}")))?;
    let mut config = Config::new(url);
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(REQUEST);
    // Who answers is not known yet: that comes from what is answered.
    config.accept_invalid_certs = true;
    let map = read(config.clone()).await.map_err(NotYet)?;
    let text = verified(&map, token)?;
    let found = parse(&text).map_err(Never)?;
    if !pins.is_empty() {
        let hashes = hashes(&found.ca_pem).map_err(Never)?;
        if !hashes.iter().any(|hash| pins.contains(hash)) {
            return Err(Never(anyhow::anyhow!(
                "the CA of the cluster at {endpoint} has the hash {}, which is none of those given: this is another \
                 cluster, or its CA was replaced. `ferrokube token create --print-join-command` on a control plane node \
                 prints the right one",
                hashes.join(", ")
            )));
        }
    }
    // Once more, now with a server that must show a certificate of that CA.
    config.accept_invalid_certs = false;
    config.root_cert = Some(ders(&found.ca_pem).map_err(Never)?);
    let again = read(config).await.map_err(|e| NotYet(e.context("asking again with the CA that it gave")))?;
    if again.data.as_ref().and_then(|d| d.get("kubeconfig")) != Some(&text) {
        return Err(NotYet(anyhow::anyhow!("cluster-info changed between two requests")));
    }
    Ok(found)
}

async fn read(config: Config) -> anyhow::Result<ConfigMap> {
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config)?;
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    api.get(NAME).await.with_context(|| format!("reading {NAMESPACE}/{NAME} from {server}"))
}

/// The kubeconfig, if the token has signed it.
fn verified(map: &ConfigMap, token: &Token) -> Result<String, Refusal> {
    let data = map.data.as_ref();
    let get = |key: &str| data.and_then(|d| d.get(key)).map(String::as_str);
    let text = get("kubeconfig").ok_or_else(|| Refusal::NotYet(anyhow::anyhow!("cluster-info has no kubeconfig")))?;
    let Some(jws) = get(&format!("jws-kubeconfig-{}", token.id)) else {
        return Err(Refusal::NotYet(anyhow::anyhow!(
            "the cluster knows no token {0:?}: it never existed, or is over. `ferrokube token list` on a control plane node \
             lists those there are, `ferrokube token create` makes one",
            token.id
        )));
    };
    if !is_signed(jws, text, token) {
        return Err(Refusal::Never(anyhow::anyhow!(
            "the second half of the token {:?} is not the one that the cluster signs with: mistyped, or another cluster \
             answers under this address",
            token.id
        )));
    }
    Ok(text.to_owned())
}

/// Whether a detached JWS (RFC 7515, appendix F; HS256) over `text` was made with the token.
fn is_signed(jws: &str, text: &str, token: &Token) -> bool {
    let [header, "", signature] = jws.split('.').collect::<Vec<_>>()[..] else { return false };
    let decoded = URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    let fields: Value = serde_json::from_slice(&decoded).unwrap_or_default();
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret.as_bytes());
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(text));
    fields["alg"] == "HS256" && fields["kid"] == token.id && hmac::verify(&key, signed.as_bytes(), &signature).is_ok()
}

fn parse(text: &str) -> anyhow::Result<Found> {
    let kubeconfig: Value = serde_yaml_ng::from_str(text).context("cluster-info holds no kubeconfig")?;
    let cluster = &kubeconfig["clusters"][0]["cluster"];
    let server = cluster["server"].as_str().context("cluster-info names no server")?.to_owned();
    let encoded = cluster["certificate-authority-data"].as_str().context("cluster-info has no CA certificate")?;
    let ca_pem = String::from_utf8(STANDARD.decode(encoded).context("the CA in cluster-info is no base64")?)?;
    Ok(Found { server, ca_pem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(text: &str, token: &Token, algorithm: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": algorithm, "kid": token.id}).to_string());
        let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret.as_bytes());
        let tag = hmac::sign(&key, format!("{header}.{}", URL_SAFE_NO_PAD.encode(text)).as_bytes());
        format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
    }

    #[test]
    fn a_signature_holds_for_its_text_and_token_only() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let other: Token = "abcdef.0123456789abcdeg".parse().unwrap();
        let stranger: Token = "bbcdef.0123456789abcdef".parse().unwrap();
        let good = signed("text", &token, "HS256");
        for (jws, text, token, holds) in [
            (good.clone(), "text", &token, true),
            (good.clone(), "texts", &token, false),
            (good.clone(), "text", &other, false),
            (good.clone(), "text", &stranger, false),
            (signed("text", &token, "none"), "text", &token, false),
            (good.replace("..", ".dGV4dA."), "text", &token, false),
            (String::new(), "text", &token, false),
        ] {
            assert_eq!(is_signed(&jws, text, token), holds, "{jws} {text} {token}");
        }
    }

    #[test]
    fn who_wrote_the_map_can_read_it() {
        let ca = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap().cert.pem();
        let map = config_map(&ca, "https://192.0.2.1:6443").unwrap();
        let found = parse(map["data"]["kubeconfig"].as_str().unwrap()).unwrap();
        assert_eq!((found.server.as_str(), &found.ca_pem), ("https://192.0.2.1:6443", &ca));
        let hash = &hashes(&ca).unwrap()[0];
        assert!(hash.starts_with("sha256:") && hash.len() == 7 + 64, "{hash}");
    }
}
