//! Pod Security as a user of namespaces and pods meets it.

use crate::stand::Stand;
use serde_json::{Value, json};

const CONFIGURATION: &str = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline, enforce-version: latest}
    exemptions: {namespaces: [kube-system], runtimeClasses: [], usernames: []}
"#;

/// Sends an object; the code, the answer and what was warned of.
async fn send(stand: &Stand, method: &str, path: &str, object: Value) -> (u16, Value, Vec<String>) {
    let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder().method(method).uri(path).header("content-type", content);
    let answer = stand.send(request.body(object.to_string().into()).unwrap()).await;
    let warnings = answer.headers().get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect();
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap(), warnings)
}

fn pod(name: &str, host_network: bool) -> Value {
    json!({"metadata": {"name": name}, "spec": {"hostNetwork": host_network, "containers": [{"name": "c", "image": "i"}]}})
}

fn labels(level: &str) -> Value {
    json!({"metadata": {"name": "team", "labels": {"pod-security.kubernetes.io/enforce": level}}})
}

#[tokio::test]
async fn labels_of_namespaces_are_checked_and_pods_that_miss_them_told_of() {
    let stand = Stand::start().await;
    let (namespaces, team) = ("/api/v1/namespaces", "/api/v1/namespaces/team");
    let (code, status, _) = send(&stand, "POST", namespaces, labels("strict")).await;
    assert_eq!((code, status["reason"].as_str()), (422, Some("Invalid")), "{status}");
    assert_eq!(
        status["message"],
        "namespaces \"team\" is forbidden: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted"
    );
    stand.create(namespaces, json!({"metadata": {"name": "team"}})).await;
    for (name, host_network) in [("b", false), ("a", false), ("host", true)] {
        stand.create(&format!("{team}/pods"), pod(name, host_network)).await;
    }
    // Pods are looked up in the watch cache. A list that may not be stale waits until they are all in there.
    send(&stand, "GET", &format!("{team}/pods"), Value::Null).await;
    let told = [
        "299 - \"existing pods in namespace \\\"team\\\" violate the new PodSecurity enforce level \\\"restricted:latest\\\"\"",
        "299 - \"a (and 1 other pod): allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile\"",
        "299 - \"host: host namespaces, allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile\"",
    ];
    let (code, _, warnings) = send(&stand, "PATCH", &format!("{team}?dryRun=All"), labels("restricted")).await;
    assert_eq!((code, warnings), (200, told.map(str::to_owned).to_vec()));
    // Nothing changed yet, so the pod may be.
    stand.create(&format!("{team}/pods"), pod("c", false)).await;
    send(&stand, "PATCH", team, labels("restricted")).await;
    let (code, status, _) = send(&stand, "POST", &format!("{team}/pods"), pod("d", false)).await;
    assert_eq!(code, 403);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("pods \"d\" is forbidden: violates PodSecurity \"restricted:latest\": ")
    );
    // A template is let through, and warned of though nothing is said of warnings.
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("", false)["spec"]});
    let set =
        json!({"metadata": {"name": "s"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let (code, _, warnings) = send(&stand, "POST", "/apis/apps/v1/namespaces/team/replicasets", set).await;
    assert_eq!(code, 201);
    assert!(warnings[0].starts_with("299 - \"would violate PodSecurity \\\"restricted:latest\\\": "), "{warnings:?}");
    // Asking for less warns of nothing.
    let (code, _, warnings) = send(&stand, "PATCH", team, labels("baseline")).await;
    assert_eq!((code, warnings), (200, Vec::new()));
}

#[tokio::test]
async fn defaults_hold_where_no_label_is_but_not_for_the_exempt() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, CONFIGURATION).unwrap();
    let flag = format!("--admission-control-config-file={}", file.path().display());
    let stand = Stand::start_with(&[&flag]).await;
    for (namespace, host_network, want) in [("default", false, 201), ("default", true, 403), ("kube-system", true, 201)]
    {
        let name = if host_network { "host" } else { "plain" };
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let (code, answer, _) = send(&stand, "POST", &path, pod(name, host_network)).await;
        assert_eq!(code, want, "{namespace} {name}: {answer}");
    }
    // A label stands before the defaults.
    stand.create("/api/v1/namespaces", labels("privileged")).await;
    stand.create("/api/v1/namespaces/team/pods", pod("host", true)).await;
}
