//! Requests for certificates, and who may change what of them.

use crate::stand::Stand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

#[tokio::test]
async fn an_approval_takes_the_conditions_of_the_request_and_nothing_else() {
    let stand = Stand::start().await;
    let key = KeyPair::generate().unwrap();
    let request =
        CertificateParams::new(vec!["a.example".into()]).unwrap().serialize_request(&key).unwrap().pem().unwrap();
    let spec = json!({"request": BASE64.encode(request), "signerName": "example.com/signer", "usages": ["digital signature", "server auth"]});
    let made = stand.create(REQUESTS, json!({"metadata": {"name": "r"}, "spec": spec})).await;
    let approval = format!("{REQUESTS}/r/approval");
    let conditions = |object: &Value| -> Vec<String> {
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.iter().map(|condition| condition["type"].as_str().unwrap().to_owned()).collect()
    };
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "R", "message": "m"});

    let mut changed = made.clone();
    changed["status"] = json!({"conditions": [condition("Approved"), condition("Checked")], "certificate": "bm8="});
    changed["spec"]["usages"] = json!(["client auth"]);
    changed["metadata"]["labels"] = json!({"a": "b"});
    let got = stand.update(&approval, changed).await;
    assert_eq!(conditions(&got), ["Approved", "Checked"]);
    assert_eq!((&got["spec"], &got["status"]["certificate"]), (&made["spec"], &Value::Null));

    // A patch changes the conditions that it names.
    let got = stand.merge(&approval, json!({"status": {"conditions": [condition("Approved")]}})).await;
    assert_eq!(conditions(&got), ["Approved"]);
}
