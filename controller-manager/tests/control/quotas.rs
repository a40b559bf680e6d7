//! ResourceQuotas: what a namespace uses is told, kept to, and given back.

use crate::{Stand, cluster, namespace, pod};
use serde_json::{Value, json};

async fn quota(stand: &Stand, namespace: &str, name: &str, spec: Value) -> String {
    stand.create(&format!("{namespace}/resourcequotas"), json!({"metadata": {"name": name}, "spec": spec})).await;
    let path = format!("{namespace}/resourcequotas/{name}");
    stand.until(&path, |_, quota| quota["status"]["hard"] == quota["spec"]["hard"]).await;
    path
}

/// Waits until a quota tells at least this use.
async fn used(stand: &Stand, quota: &str, want: Value) {
    let tells = |_, quota: &Value| {
        want.as_object().unwrap().iter().all(|(name, amount)| quota["status"]["used"][name] == *amount)
    };
    stand.until(quota, tells).await;
}

#[tokio::test]
async fn the_life_of_objects_is_captured() {
    let stand = cluster().await;
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    stand.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    let core = namespace(&stand, "captured").await;
    // Every namespace gets a ConfigMap from another controller.
    stand.until(&format!("{core}/configmaps/kube-root-ca.crt"), |code, _| code == 200).await;
    let names = json!({"configmaps": "2", "count/configmaps": "2", "secrets": "1", "services": "2", "services.nodeports": "1",
        "services.loadbalancers": "1", "replicationcontrollers": "1", "persistentvolumeclaims": "1",
        "requests.storage": "1Gi", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi", "resourcequotas": "1",
        "count/replicasets.apps": "1", "count/widgets.example.com": "1"});
    let quota = quota(&stand, &core, "q", json!({"hard": names})).await;
    used(&stand, &quota, json!({"configmaps": "1", "secrets": "0", "resourcequotas": "1", "requests.storage": "0"}))
        .await;
    // The definition may have come after the first count of its objects.
    used(&stand, &quota, json!({"count/widgets.example.com": "0", "count/replicasets.apps": "0"})).await;

    let apps = core.replace("/api/v1", "/apis/apps/v1");
    let custom = core.replace("/api/v1", "/apis/example.com/v1");
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let port = json!([{"port": 80}]);
    for (path, object, while_there, after) in [
        (
            format!("{core}/configmaps"),
            json!({}),
            json!({"configmaps": "2", "count/configmaps": "2"}),
            json!({"configmaps": "1"}),
        ),
        (format!("{core}/secrets"), json!({}), json!({"secrets": "1"}), json!({"secrets": "0"})),
        (
            format!("{core}/services"),
            json!({"spec": {"type": "NodePort", "ports": port}}),
            json!({"services": "1", "services.nodeports": "1"}),
            json!({"services": "0", "services.nodeports": "0"}),
        ),
        (
            format!("{core}/services"),
            json!({"spec": {"type": "LoadBalancer", "ports": port, "allocateLoadBalancerNodePorts": false}}),
            json!({"services": "1", "services.loadbalancers": "1"}),
            json!({"services": "0", "services.loadbalancers": "0"}),
        ),
        (
            format!("{core}/replicationcontrollers"),
            json!({"spec": {"replicas": 0, "selector": {"a": "b"}, "template": template}}),
            json!({"replicationcontrollers": "1"}),
            json!({"replicationcontrollers": "0"}),
        ),
        (
            format!("{core}/persistentvolumeclaims"),
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "gold",
                "resources": {"requests": {"storage": "1Gi"}}}}),
            json!({"persistentvolumeclaims": "1", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}),
            json!({"persistentvolumeclaims": "0", "requests.storage": "0"}),
        ),
        (
            format!("{apps}/replicasets"),
            json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}}),
            json!({"count/replicasets.apps": "1"}),
            json!({"count/replicasets.apps": "0"}),
        ),
        (
            format!("{custom}/widgets"),
            json!({"apiVersion": "example.com/v1", "kind": "Widget"}),
            json!({"count/widgets.example.com": "1"}),
            json!({"count/widgets.example.com": "0"}),
        ),
    ] {
        let mut object = object;
        object["metadata"] = json!({"name": "one"});
        stand.create(&path, object.clone()).await;
        used(&stand, &quota, while_there).await;
        if !path.ends_with("services") {
            object["metadata"]["name"] = "two".into();
            let (code, refused) = stand.call("POST", &path, "application/json", "", &object).await;
            assert_eq!(code, 403, "{path}: {refused}");
            assert!(refused["message"].as_str().unwrap().contains("exceeded quota: q, requested: "), "{refused}");
        }
        stand.delete(&format!("{path}/one"), Value::Null).await;
        used(&stand, &quota, after).await;
    }
}

#[tokio::test]
async fn the_life_of_pods_is_captured() {
    let stand = cluster().await;
    let core = namespace(&stand, "pods").await;
    let hard = json!({"pods": "2", "count/pods": "4", "cpu": "1", "memory": "500Mi", "limits.cpu": "2",
        "ephemeral-storage": "50Gi", "requests.example.com/dongle": "3"});
    let quota = quota(&stand, &core, "q", json!({"hard": hard})).await;
    let none = json!({"pods": "0", "count/pods": "0", "cpu": "0", "memory": "0", "limits.cpu": "0",
        "ephemeral-storage": "0", "requests.example.com/dongle": "0"});
    used(&stand, &quota, none.clone()).await;

    let pods = format!("{core}/pods");
    let asks = |cpu: &str, dongles: &str| {
        json!({"resources": {"requests": {"cpu": cpu, "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": dongles},
            "limits": {"cpu": "1", "example.com/dongle": dongles}}})
    };
    stand.create(&pods, pod("fits", asks("500m", "2"))).await;
    used(
        &stand,
        &quota,
        json!({"pods": "1", "count/pods": "1", "cpu": "500m", "memory": "252Mi", "limits.cpu": "1",
            "ephemeral-storage": "30Gi", "requests.example.com/dongle": "2"}),
    )
    .await;

    for (body, told) in [
        (
            pod("large", asks("600m", "1")),
            "exceeded quota: q, requested: cpu=600m,ephemeral-storage=30Gi,memory=252Mi, used: ",
        ),
        (pod("dongles", asks("500m", "2")), "requests.example.com/dongle=2"),
        (pod("silent", json!({})), "failed quota: q: must specify cpu for: c; limits.cpu for: c; memory for: c"),
    ] {
        let (code, refused) = stand.call("POST", &pods, "application/json", "", &body).await;
        assert_eq!(code, 403, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(told), "{refused}");
    }
    let bigger =
        json!({"spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "600m"}}}]}});
    let (code, refused) =
        stand.call("PATCH", &format!("{pods}/fits"), "application/merge-patch+json", "", &bigger).await;
    assert_eq!(code, 422, "{refused}");

    // A pod that has ended keeps its place in etcd only.
    stand.merge(&format!("{pods}/fits/status"), json!({"status": {"phase": "Succeeded"}})).await;
    used(&stand, &quota, json!({"pods": "0", "count/pods": "1", "cpu": "0", "requests.example.com/dongle": "0"})).await;
    stand.delete(&format!("{pods}/fits"), Value::Null).await;
    used(&stand, &quota, none).await;
}

#[tokio::test]
async fn scopes_choose_the_pods_that_count() {
    let stand = cluster().await;
    let core = namespace(&stand, "scopes").await;
    let class = json!({"metadata": {"name": "high"}, "value": 1000});
    stand.create("/apis/scheduling.k8s.io/v1/priorityclasses", class).await;
    let pods = format!("{core}/pods");
    let cpu = json!({"resources": {"requests": {"cpu": "100m", "memory": "10Mi"}, "limits": {"cpu": "200m", "memory": "10Mi"}}});
    let with = |field: &str, value: Value| {
        let mut spec = cpu.clone();
        spec[field] = value;
        spec
    };
    let affinity = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "namespaces": ["other"], "labelSelector": {}}]}});
    let plain = |scope: &str| json!({"hard": {"pods": "5"}, "scopes": [scope]});
    let of_class = json!({"hard": {"pods": "5"}, "scopeSelector": {"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}});
    for (name, inside, outside, spec_in, spec_out) in [
        ("best-effort", plain("BestEffort"), plain("NotBestEffort"), json!({}), cpu.clone()),
        (
            "terminating",
            plain("Terminating"),
            plain("NotTerminating"),
            with("activeDeadlineSeconds", json!(3600)),
            cpu.clone(),
        ),
        (
            "priority",
            of_class,
            plain("CrossNamespacePodAffinity"),
            with("priorityClassName", json!("high")),
            with("affinity", affinity),
        ),
    ] {
        let (first, second) = (format!("{name}-in"), format!("{name}-out"));
        let inside = quota(&stand, &core, &first, inside).await;
        let outside = quota(&stand, &core, &second, outside).await;
        for (spec, want) in [(spec_in, ["1", "0"]), (spec_out, ["0", "1"])] {
            stand.create(&pods, pod("p", spec)).await;
            used(&stand, &inside, json!({"pods": want[0]})).await;
            used(&stand, &outside, json!({"pods": want[1]})).await;
            stand.delete(&format!("{pods}/p"), Value::Null).await;
            for quota in [&inside, &outside] {
                used(&stand, quota, json!({"pods": "0"})).await;
            }
        }
    }
}

#[tokio::test]
async fn quotas_are_counted_changed_and_deleted() {
    let stand = cluster().await;
    let core = namespace(&stand, "lifecycle").await;
    let label = json!({"metadata": {"name": "q", "labels": {"kind": "test"}}, "spec": {"hard": {"cpu": "1", "resourcequotas": "1"}}});
    stand.create(&format!("{core}/resourcequotas"), label).await;
    let path = format!("{core}/resourcequotas/q");
    used(&stand, &path, json!({"cpu": "0", "resourcequotas": "1"})).await;

    let mut quota = stand.get(&path).await;
    quota["spec"]["hard"] = json!({"cpu": "2", "memory": "1Gi"});
    stand.update(&path, quota).await;
    let told = stand.until(&path, |_, quota| quota["status"]["hard"] == json!({"cpu": "2", "memory": "1Gi"})).await;
    assert_eq!(told["status"]["used"], json!({"cpu": "0", "memory": "0"}));

    let everywhere = stand.get("/api/v1/resourcequotas?labelSelector=kind%3Dtest").await;
    assert_eq!(everywhere["items"].as_array().unwrap().len(), 1);
    let patched = stand
        .merge(&path, json!({"metadata": {"labels": {"q": "patched"}}, "spec": {"hard": {"memory": "750Mi"}}}))
        .await;
    assert_eq!(
        (&patched["metadata"]["labels"]["q"], &patched["spec"]["hard"]["memory"]),
        (&json!("patched"), &json!("750Mi"))
    );
    stand.delete(&format!("{core}/resourcequotas?labelSelector=q%3Dpatched"), Value::Null).await;
    stand.until_gone(&path).await;
}

#[tokio::test]
async fn claims_count_for_the_attributes_they_have_and_those_they_get() {
    let stand = cluster().await;
    let core = namespace(&stand, "attributes").await;
    let of = |class: &str| {
        json!({"hard": {"persistentvolumeclaims": "5", "requests.storage": "10Gi"}, "scopeSelector": {"matchExpressions": [
            {"scopeName": "VolumeAttributesClass", "operator": "In", "values": [class]}]}})
    };
    let gold = quota(&stand, &core, "gold", of("gold")).await;
    let silver = quota(&stand, &core, "silver", of("silver")).await;
    let claims = format!("{core}/persistentvolumeclaims");
    let spec = json!({"accessModes": ["ReadWriteOnce"], "volumeAttributesClassName": "gold", "storageClassName": "s",
        "resources": {"requests": {"storage": "1Gi"}}});
    stand.create(&claims, json!({"metadata": {"name": "c"}, "spec": spec})).await;
    used(&stand, &gold, json!({"persistentvolumeclaims": "1", "requests.storage": "1Gi"})).await;
    used(&stand, &silver, json!({"persistentvolumeclaims": "0"})).await;
    // It has silver still.
    let status = json!({"status": {"phase": "Bound", "currentVolumeAttributesClassName": "silver"}});
    stand.merge(&format!("{claims}/c/status"), status).await;
    used(&stand, &silver, json!({"persistentvolumeclaims": "1", "requests.storage": "1Gi"})).await;
    stand.merge(&format!("{claims}/c/status"), json!({"status": {"currentVolumeAttributesClassName": "gold"}})).await;
    used(&stand, &silver, json!({"persistentvolumeclaims": "0", "requests.storage": "0"})).await;
    used(&stand, &gold, json!({"persistentvolumeclaims": "1"})).await;
}
