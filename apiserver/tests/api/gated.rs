//! What is there only where a feature gate is on: kinds, who may write them, and rules of other kinds.

use crate::stand::Stand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const BUNDLES: &str = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1beta1/namespaces/default/podcertificaterequests";

/// A request of somebody else than the administrator: user, group.
async fn by(stand: &Stand, who: (&str, &str), method: &str, path: &str, body: &Value) -> (u16, Value) {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("impersonate-user", who.0)
        .header("impersonate-group", who.1)
        .header("content-type", "application/json");
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let response = stand.send(request.body(bytes).unwrap()).await;
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or_default())
}

async fn allow(stand: &Stand, name: &str, user: &str, rules: Value) {
    stand
        .create("/apis/rbac.authorization.k8s.io/v1/clusterroles", json!({"metadata": {"name": name}, "rules": rules}))
        .await;
    let binding = json!({"metadata": {"name": name}, "subjects": [{"kind": "User", "name": user}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}});
    stand.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
}

/// Asks until the rights that were just given are known.
async fn until(stand: &Stand, code: u16, who: (&str, &str), method: &str, path: &str, body: &Value) -> Value {
    let mut last = (0, Value::Null);
    for _ in 0..200 {
        last = by(stand, who, method, path, body).await;
        if last.0 == code {
            return last.1;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{method} {path}: {last:?}");
}

fn anchor() -> String {
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

#[tokio::test]
async fn trust_bundles_of_a_signer_are_for_those_who_attest_for_it() {
    let stand = Stand::start_with(&[
        "--feature-gates=ClusterTrustBundle=true",
        "--runtime-config=certificates.k8s.io/v1beta1=true,certificates.k8s.io/v1alpha1=true",
    ])
    .await;
    let bob = ("bob", "people");
    let bundle = json!({"metadata": {"name": "example.com:s:a"},
        "spec": {"signerName": "example.com/s", "trustBundle": anchor()}});
    let writes = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["clustertrustbundles"],
        "verbs": ["create", "update", "get"]}]);
    allow(&stand, "writes", "bob", writes).await;
    let plain = json!({"metadata": {"name": "plain"}, "spec": {"trustBundle": anchor()}});
    until(&stand, 201, bob, "POST", BUNDLES, &plain).await;
    let (code, status) = by(&stand, bob, "POST", BUNDLES, &bundle).await;
    assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")), "{status}");
    let attests = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["signers"],
        "resourceNames": ["example.com/*"], "verbs": ["attest"]}]);
    allow(&stand, "attests", "bob", attests).await;
    let made = until(&stand, 201, bob, "POST", BUNDLES, &bundle).await;
    let mut changed = made.clone();
    changed["spec"]["signerName"] = json!("example.com/t");
    let (code, status) = by(&stand, bob, "PUT", &format!("{BUNDLES}/example.com:s:a"), &changed).await;
    assert_eq!(code, 422, "{status}");
    let old = stand
        .get("/apis/certificates.k8s.io/v1alpha1/clustertrustbundles?fieldSelector=spec.signerName=example.com/s")
        .await;
    assert_eq!(old["items"].as_array().map(Vec::len), Some(1), "{old}");
    let service = ("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.certificates.k8s.io", 200);
    assert_eq!(stand.call("GET", service.0, "", "", &Value::Null).await.0, service.1);
    stand.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/system:cluster-trust-bundle-discovery").await;
}

#[tokio::test]
async fn kubelets_ask_for_certificates_of_their_own_pods_and_signers_answer() {
    use rcgen::{PublicKeyData, SigningKey};
    let stand = Stand::start_with(&[
        "--feature-gates=PodCertificateRequest=true",
        "--runtime-config=certificates.k8s.io/v1beta1=true",
        "--enable-admission-plugins=NodeRestriction",
    ])
    .await;
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    let node = stand.create("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let account = stand.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "sa"}})).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "serviceAccountName": "sa",
        "containers": [{"name": "c", "image": "i"}]}});
    let pod = stand.create("/api/v1/namespaces/default/pods", pod).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let request = |pod_uid: &str| {
        json!({"metadata": {"generateName": "r-"}, "spec": {"signerName": "example.com/s", "podName": "p",
            "podUID": pod_uid, "serviceAccountName": "sa", "serviceAccountUID": uid(&account), "nodeName": "n1",
            "nodeUID": uid(&node), "pkixPublicKey": STANDARD.encode(key.subject_public_key_info()),
            "proofOfPossession": STANDARD.encode(key.sign(pod_uid.as_bytes()).unwrap())}})
    };
    let own = ("system:node:n1", "system:nodes");
    let other = ("system:node:n2", "system:nodes");
    let (code, status) = by(&stand, other, "POST", REQUESTS, &request(&uid(&pod))).await;
    assert_eq!(code, 403, "{status}");
    let (code, status) = by(&stand, own, "POST", REQUESTS, &request("another")).await;
    assert_eq!(code, 403, "{status}");
    let (code, made) = by(&stand, own, "POST", REQUESTS, &request(&uid(&pod))).await;
    assert_eq!((code, &made["spec"]["maxExpirationSeconds"]), (201, &json!(86400)), "{made}");
    let path = format!("{REQUESTS}/{}", made["metadata"]["name"].as_str().unwrap());
    let selected = format!("{REQUESTS}?fieldSelector=spec.nodeName%3Dn1");
    for (who, path, code) in [
        (own, path.as_str(), 200),
        (other, path.as_str(), 403),
        (own, selected.as_str(), 200),
        (other, selected.as_str(), 403),
        (own, REQUESTS, 403),
    ] {
        until(&stand, code, who, "GET", path, &Value::Null).await;
    }
    let signer = ("signer", "people");
    let updates = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["podcertificaterequests/status"], "verbs": ["update"]}]);
    allow(&stand, "updates", "signer", updates).await;
    let mut denied = made.clone();
    denied["status"] = json!({"conditions": [{"type": "Denied", "status": "True", "reason": "No", "message": "",
        "lastTransitionTime": made["metadata"]["creationTimestamp"]}]});
    let status_path = format!("{path}/status");
    let refused = until(&stand, 422, signer, "PUT", &status_path, &denied).await;
    assert_eq!(refused["details"]["causes"][0]["field"], "spec.signerName", "{refused}");
    let signs = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.com/s"],
        "verbs": ["sign"]}]);
    allow(&stand, "signs", "signer", signs).await;
    let mut ended = until(&stand, 200, signer, "PUT", &status_path, &denied).await;
    ended["status"]["conditions"][0]["reason"] = json!("Other");
    let (code, status) = by(&stand, signer, "PUT", &status_path, &ended).await;
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!("status")), "{status}");
}

#[tokio::test]
async fn rules_and_fields_follow_their_gates() {
    let scaler = json!({"metadata": {"name": "h"}, "spec": {"minReplicas": 0, "maxReplicas": 3,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "metrics": [{"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}}]}});
    let mut by_pods = scaler.clone();
    by_pods["spec"]["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 50}}}]);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"workloadRef": {"name": "w", "podGroup": "g"},
        "containers": [{"name": "c", "image": "i"}]}});
    let scalers = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers?dryRun=All";
    let pods = "/api/v1/namespaces/default/pods?dryRun=All";
    for (gates, scales, kept) in
        [("AllAlpha=false", 422, false), ("HPAScaleToZero=true,GenericWorkload=true", 201, true)]
    {
        let stand = Stand::start_with(&[&format!("--feature-gates={gates}")]).await;
        let (code, status) = stand.call("POST", scalers, "application/json", "", &scaler).await;
        assert_eq!(code, scales, "{status}");
        let (code, status) = stand.call("POST", scalers, "application/json", "", &by_pods).await;
        let field = if kept { "spec.metrics" } else { "spec.minReplicas" };
        assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!(field)), "{status}");
        let made = stand.create(pods, pod.clone()).await;
        assert_eq!(made["spec"]["workloadRef"].is_object(), kept, "{made}");
    }
}
