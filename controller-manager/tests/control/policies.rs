//! What policies are told about their expressions.

use crate::cluster;
use serde_json::{Value, json};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";

fn policy(name: &str, plural: &str, expression: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "matchConstraints": {"resourceRules": [
            {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [plural]}]},
        "validations": [{"expression": expression, "messageExpression": "'replicas: ' + string(object.spec.replicas)"}]}})
}

#[tokio::test]
async fn expressions_that_do_not_fit_their_types_are_told_in_the_status() {
    let stand = cluster().await;
    let observed = |policy: &Value| policy["status"]["observedGeneration"] == policy["metadata"]["generation"];
    for (name, plural, expression, fields) in [
        ("good", "deployments", "object.spec.replicas <= 5", vec![]),
        ("typo", "deployments", "object.spec.replicaz <= 5", vec!["spec.validations[0].expression"]),
        ("any", "*", "object.spec.replicaz <= 5", vec![]),
    ] {
        stand.create(POLICIES, policy(name, plural, expression)).await;
        let policy = stand.until(&format!("{POLICIES}/{name}"), |_, policy| observed(policy)).await;
        let warnings = policy["status"]["typeChecking"]["expressionWarnings"].as_array().cloned().unwrap_or_default();
        let got: Vec<&str> = warnings.iter().map(|warning| warning["fieldRef"].as_str().unwrap()).collect();
        assert_eq!(got, fields, "{policy}");
        for warning in &warnings {
            let text = warning["warning"].as_str().unwrap();
            assert!(text.starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:"), "{text}");
            assert!(text.contains("undefined field 'replicaz'"), "{text}");
        }
    }
    // A new generation is checked again.
    stand
        .merge(
            &format!("{POLICIES}/typo"),
            json!({"spec": {"validations": [{"expression": "object.spec.replicas <= 5"}]}}),
        )
        .await;
    let mended =
        |_: u16, policy: &Value| observed(policy) && policy["status"]["typeChecking"]["expressionWarnings"].is_null();
    stand.until(&format!("{POLICIES}/typo"), mended).await;
}
