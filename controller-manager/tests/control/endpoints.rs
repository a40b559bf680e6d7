//! Endpoints kept by hand are shown as EndpointSlices.

use crate::{Stand, cluster, namespace};
use serde_json::{Value, json};

const MIRRORED: &str =
    "labelSelector=endpointslice.kubernetes.io%2Fmanaged-by%3Dendpointslicemirroring-controller.k8s.io";

fn slices(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

/// Waits until the mirrored slices of a namespace are so.
async fn mirrored(stand: &Stand, core: &str, done: impl Fn(&[Value]) -> bool) -> Value {
    let path = format!("{}/endpointslices?{MIRRORED}", core.replace("/api/v1", "/apis/discovery.k8s.io/v1"));
    stand.until(&path, |_, list| done(slices(list))).await
}

#[tokio::test]
async fn endpoints_kept_by_hand_are_mirrored_as_they_come_change_and_go() {
    let stand = cluster().await;
    let core = namespace(&stand, "mirrored").await;
    let service = json!({"metadata": {"name": "own"}, "spec": {"ports": [{"port": 80}]}});
    stand.create(&format!("{core}/services"), service).await;
    let endpoints = json!({"metadata": {"name": "own", "labels": {"a": "b"}},
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]});
    let made = stand.create(&format!("{core}/endpoints"), endpoints).await;
    let shown = mirrored(&stand, &core, |slices| slices.len() == 1).await;
    let slice = &slices(&shown)[0];
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.1.2.3"]));
    assert_eq!(slice["endpoints"][0]["conditions"]["ready"], true);
    assert_eq!(slice["ports"][0]["port"], 80);
    assert_eq!(slice["addressType"], "IPv4");
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "own");
    assert_eq!(slice["metadata"]["labels"]["a"], "b");
    assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], made["metadata"]["uid"]);
    let name = slice["metadata"]["name"].clone();

    let path = format!("{core}/endpoints/own");
    let mut changed = stand.get(&path).await;
    changed["subsets"] = json!([{"addresses": [{"ip": "10.2.3.4"}], "ports": [{"port": 8080}]}]);
    stand.update(&path, changed).await;
    let shown = mirrored(&stand, &core, |slices| {
        slices.len() == 1 && slices[0]["endpoints"][0]["addresses"] == json!(["10.2.3.4"])
    })
    .await;
    assert_eq!(slices(&shown)[0]["ports"][0]["port"], 8080);
    assert_eq!(slices(&shown)[0]["metadata"]["name"], name, "the slice is used again");

    stand.delete(&path, Value::Null).await;
    mirrored(&stand, &core, <[Value]>::is_empty).await;
}

#[tokio::test]
async fn slices_that_nobody_should_mirror_go() {
    let stand = cluster().await;
    let core = namespace(&stand, "unmirrored").await;
    let endpoints = json!({"metadata": {"name": "own"},
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}, {"ip": "fd00::1"}], "ports": [{"port": 80}]}]});
    let service = json!({"metadata": {"name": "own"}, "spec": {"ports": [{"port": 80}]}});
    stand.create(&format!("{core}/endpoints"), endpoints).await;
    for told in ["skip", "selector", "service"] {
        if told == "skip" {
            stand.create(&format!("{core}/services"), service.clone()).await;
        }
        mirrored(&stand, &core, |slices| slices.len() == 2).await;
        let (path, on, off) = match told {
            "skip" => {
                let label =
                    |value: Value| json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": value}}});
                (format!("{core}/endpoints/own"), label(json!("true")), label(Value::Null))
            }
            "selector" => (
                format!("{core}/services/own"),
                json!({"spec": {"selector": {"app": "a"}}}),
                json!({"spec": {"selector": null}}),
            ),
            _ => {
                stand.delete(&format!("{core}/services/own"), Value::Null).await;
                mirrored(&stand, &core, <[Value]>::is_empty).await;
                continue;
            }
        };
        stand.merge(&path, on).await;
        mirrored(&stand, &core, <[Value]>::is_empty).await;
        if told == "selector" {
            // Now they are the endpoints-controller's, which found no pods.
            stand.until(&format!("{core}/endpoints/own"), |_, own| own["subsets"].is_null()).await;
        }
        stand.merge(&path, off).await;
        if told == "selector" {
            stand
                .merge(
                    &format!("{core}/endpoints/own"),
                    json!({"subsets": [
                {"addresses": [{"ip": "10.1.2.3"}, {"ip": "fd00::1"}], "ports": [{"port": 80}]}]}),
                )
                .await;
        }
    }
}
