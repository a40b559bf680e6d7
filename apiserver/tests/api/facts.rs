//! What a fresh server says of itself, held against what upstream says, where the facts stand beside the repository.

use crate::stand::{Stand, shared};
use serde_json::{Map, Value, json};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";

/// A file of facts; none where the folder is not there.
fn fact(name: &str) -> Option<Value> {
    let file = shared("facts")?.join(name);
    Some(serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
}

/// Where two trees differ, as lines to read.
fn differences(path: &str, want: &Value, got: &Value, out: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let path = format!("{path}/{name}");
                match (a.get(name), b.get(name)) {
                    (Some(x), Some(y)) => differences(&path, x, y, out),
                    (Some(x), None) => out.push(format!("{path}: missing {x}")),
                    (_, y) => out.push(format!("{path}: too much: {}", y.unwrap_or(&Value::Null))),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{i}]"), x, y, out);
            }
        }
        _ if want == got => {}
        _ => out.push(format!("{path}: want {want}, got {got}")),
    }
}

async fn discovery(stand: &Stand, fact: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for part in ["api", "apis"] {
        let (_, got) = stand.call("GET", &format!("/{part}"), "", AGGREGATED, &Value::Null).await;
        differences(part, &fact[part], &got, &mut out);
    }
    out
}

#[tokio::test]
async fn a_fresh_server_serves_and_holds_what_upstream_does() {
    let (Some(served), Some(objects)) = (fact("discovery.json"), fact("bootstrap-objects.json")) else { return };
    let stand = Stand::start_with(&["--advertise-address=192.0.2.2"]).await;
    let mut out = discovery(&stand, &served).await;
    // Served from the first moment, published a moment later.
    for _ in 0..400 {
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
        if stand.call("GET", slices, "", "", &Value::Null).await.0 == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for (path, want) in objects.as_object().unwrap() {
        let (_, list) = stand.call("GET", path, "", "", &Value::Null).await;
        let (want, got) = (by_name(want, path), by_name(&list["items"], path));
        differences(path, &want, &got, &mut out);
    }
    assert_eq!(out, Vec::<String>::new());
}

#[tokio::test]
async fn every_version_is_served_where_flags_say_so_and_every_table_has_its_columns() {
    let (Some(served), Some(tables)) = (fact("discovery-all-versions.json"), fact("table-columns.json")) else {
        return;
    };
    let stand = Stand::start_with(&["--runtime-config=api/all=true"]).await;
    let mut out = discovery(&stand, &served).await;
    for (resource, columns) in tables.as_object().unwrap() {
        let root = if resource.starts_with("v1/") { "api" } else { "apis" };
        let (_, mut table) = stand.call("GET", &format!("/{root}/{resource}"), "", TABLE, &Value::Null).await;
        for column in table["columnDefinitions"].as_array_mut().into_iter().flatten() {
            column.as_object_mut().unwrap().remove("description");
        }
        differences(resource, columns, &table["columnDefinitions"], &mut out);
    }
    assert_eq!(out, Vec::<String>::new());
}

/// Objects by namespace and name, without what differs from start to start.
fn by_name(items: &Value, path: &str) -> Value {
    let mut all = Map::new();
    for item in items.as_array().into_iter().flatten() {
        let mut item = item.clone();
        let meta = item["metadata"].as_object_mut().unwrap();
        for volatile in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
            meta.remove(volatile);
        }
        let mut name = format!("{}/{}", meta["name"].as_str().unwrap(), meta.get("namespace").unwrap_or(&json!("")));
        for condition in item["status"]["conditions"].as_array_mut().into_iter().flatten() {
            condition.as_object_mut().unwrap().remove("lastTransitionTime");
        }
        match path {
            "/apis/coordination.k8s.io/v1/leases" => {
                // Named after the machine.
                name = "lease".into();
                let holder = item["spec"]["holderIdentity"].as_str().unwrap();
                assert!(holder.starts_with(item["metadata"]["name"].as_str().unwrap()));
                item = json!({"kind": item["metadata"]["labels"]["apiserver.kubernetes.io/identity"],
                    "seconds": item["spec"]["leaseDurationSeconds"]});
            }
            "/api/v1/configmaps" => {
                for text in item["data"].as_object_mut().unwrap().values_mut() {
                    *text = json!(text.as_str().unwrap().len() > 4); // a certificate or a date
                }
            }
            "/api/v1/services" | "/api/v1/endpoints" | "/apis/discovery.k8s.io/v1/endpointslices" => ports(&mut item),
            _ => {}
        }
        all.insert(name, item);
    }
    all.into()
}

/// The port of the server is any.
fn ports(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "port" | "targetPort" if *member != json!(443) => *member = json!("port"),
                    _ => ports(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(ports),
        _ => {}
    }
}
