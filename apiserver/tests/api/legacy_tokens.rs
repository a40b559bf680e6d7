//! Tokens of Secrets, which have no end.

use crate::stand::Stand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// Who the server thinks the bearer of a token is.
async fn review(stand: &Stand, token: &str) -> Value {
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    stand.create(path, json!({"spec": {"token": token}})).await["status"].take()
}

#[tokio::test]
async fn the_token_of_a_secret_is_good_while_the_secret_holds_it() {
    let stand = Stand::start().await;
    let account =
        stand.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "robot"}})).await;
    let key = std::fs::read(stand.path("sa.key")).unwrap();
    let sign = |claims: Value| {
        let key = EncodingKey::from_ec_pem(&key).unwrap();
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()
    };
    let claims = |secret: &str| {
        json!({"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:default:robot",
            "kubernetes.io/serviceaccount/namespace": "default", "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": "robot",
            "kubernetes.io/serviceaccount/service-account.uid": account["metadata"]["uid"]})
    };
    let token = sign(claims("t"));
    assert_eq!(review(&stand, &token).await["authenticated"], Value::Null, "there is no Secret");
    let secret = json!({"metadata": {"name": "t", "annotations": {"kubernetes.io/service-account.name": "robot"}},
        "type": "kubernetes.io/service-account-token", "data": {"token": BASE64.encode(&token)}});
    stand.create(SECRETS, secret).await;
    let status = review(&stand, &token).await;
    assert_eq!(
        (&status["authenticated"], &status["user"]["username"]),
        (&json!(true), &json!("system:serviceaccount:default:robot"))
    );

    // The Secret knows that it was used, and can be marked.
    let secret = stand.get(&format!("{SECRETS}/t")).await;
    let day = secret["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"].as_str().unwrap().to_owned();
    assert_eq!((day.len(), day.matches('-').count()), (10, 2), "{day}");
    let mark = |day: Value| json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": day}}});
    stand.merge(&format!("{SECRETS}/t"), mark(json!("2026-01-01"))).await;
    stand
        .until(&format!("{SECRETS}/t?resourceVersion=0"), |_, secret| {
            secret["metadata"]["labels"]["kubernetes.io/legacy-token-invalid-since"] == "2026-01-01"
        })
        .await;
    assert_eq!(review(&stand, &token).await["authenticated"], Value::Null);
    stand.merge(&format!("{SECRETS}/t"), mark(Value::Null)).await;
    stand
        .until(&format!("{SECRETS}/t?resourceVersion=0"), |_, secret| {
            secret["metadata"]["labels"]["kubernetes.io/legacy-token-invalid-since"].is_null()
        })
        .await;
    assert_eq!(review(&stand, &token).await["authenticated"], true);

    // Neither what another Secret would hold nor what says it has no end under another name.
    assert_eq!(review(&stand, &sign(claims("other"))).await["authenticated"], Value::Null);
    let mut endless = claims("t");
    endless["iss"] = "https://kubernetes.default.svc.cluster.local".into();
    assert_eq!(review(&stand, &sign(endless)).await["authenticated"], Value::Null);

    stand.delete(&format!("{SECRETS}/t"), json!({})).await;
    stand.until(&format!("{SECRETS}/t?resourceVersion=0"), |code, _| code == 404).await;
    assert_eq!(review(&stand, &token).await["authenticated"], Value::Null);
}
