//! Every built-in kind in every version: written, read in all versions, changed by every kind of patch, listed, watched, printed
//! and deleted.

use crate::stand::Stand;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const JSON: &str = "application/json";
const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// Kinds and subresources that are served only with these.
const GATES: &str = "--feature-gates=ClusterTrustBundle=true,PodCertificateRequest=true,GenericWorkload=true,\
                     StorageVersionMigrator=true,DRADeviceTaints=true,DRADeviceTaintRules=true";
const NAMESPACE: &str = "kinds";

/// A resource in one version.
#[derive(Clone, Debug)]
struct Served {
    api_version: String,
    kind: String,
    /// Of one object, without its name.
    path: String,
}

impl Served {
    fn root(api_version: &str) -> String {
        if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") }
    }
}

/// Every resource that is kept and can be written, by group and kind, with its versions in order.
async fn served(stand: &Stand) -> BTreeMap<(String, String), Vec<Served>> {
    let mut all: BTreeMap<(String, String), Vec<Served>> = BTreeMap::new();
    for part in ["/api", "/apis"] {
        let (_, list) = stand.call("GET", part, "", AGGREGATED, &Value::Null).await;
        for group in list["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or("").to_owned();
            for version in group["versions"].as_array().unwrap() {
                for resource in version["resources"].as_array().unwrap() {
                    let verbs: BTreeSet<&str> =
                        resource["verbs"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                    if !verbs.contains("create") || !verbs.contains("watch") {
                        continue;
                    }
                    let text = |v: &Value| v.as_str().unwrap().to_owned();
                    let version = text(&version["version"]);
                    let api_version = if name.is_empty() { version } else { format!("{name}/{version}") };
                    let root = Served::root(&api_version);
                    let namespace = if resource["scope"] == "Namespaced" {
                        format!("/namespaces/{NAMESPACE}")
                    } else {
                        String::new()
                    };
                    let kind = text(&resource["responseKind"]["kind"]);
                    let path = format!("{root}{namespace}/{}", text(&resource["resource"]));
                    all.entry((name.clone(), kind.clone())).or_default().push(Served { api_version, kind, path });
                }
            }
        }
    }
    all
}

fn samples() -> Vec<Value> {
    let text = include_str!("kinds.yaml").replace("{ns}", NAMESPACE);
    serde_yaml_ng::Deserializer::from_str(&text).map(|d| Value::deserialize(d).unwrap()).collect()
}

/// What a reader of any version agrees on.
fn labels(object: &Value) -> &Value {
    &object["metadata"]["labels"]
}

#[tokio::test]
async fn every_kind_takes_every_verb_in_every_version() {
    let stand = Stand::start_with(&["--runtime-config=api/all=true", GATES]).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    assert_eq!(stand.call("POST", "/api/v1/namespaces", JSON, "", &namespace).await.0, 201);
    let mut left = served(&stand).await;
    let mut wrong = Vec::new();
    for sample in samples() {
        let api_version = sample["apiVersion"].as_str().unwrap();
        let group = api_version.split_once('/').map_or("", |(g, _)| g);
        let kind = sample["kind"].as_str().unwrap();
        let versions = left
            .remove(&(group.to_owned(), kind.to_owned()))
            .unwrap_or_else(|| panic!("kinds.yaml has {kind} of {group:?} twice, or it is not served"));
        if let Err(why) = verbs(&stand, &sample, &versions).await {
            wrong.push(format!("{api_version} {kind}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(left.is_empty(), "kinds.yaml lacks {:?}", left.keys());
}

/// One kind through everything. The sample is of the first version in which it can be written; other versions get what that reads.
async fn verbs(stand: &Stand, sample: &Value, versions: &[Served]) -> Result<(), String> {
    let want = |what: &str, code: u16, (got, body): (u16, Value)| -> Result<Value, String> {
        if got == code { Ok(body) } else { Err(format!("{what}: want {code}, got {got}: {body}")) }
    };
    let name = sample["metadata"]["name"].as_str().unwrap();
    let first = versions.iter().find(|v| sample["apiVersion"] == v.api_version.as_str()).ok_or("not served")?;
    let mut bodies = BTreeMap::from([(first.api_version.clone(), sample.clone())]);
    // How other versions write the same: as they read it.
    let made = want("create", 201, stand.call("POST", &first.path, JSON, "", sample).await)?;
    for other in versions {
        let read = want("read", 200, stand.call("GET", &format!("{}/{name}", other.path), "", "", &Value::Null).await)?;
        for (member, expected) in [("apiVersion", other.api_version.as_str()), ("kind", other.kind.as_str())] {
            if read[member] != expected {
                return Err(format!("{}: {member} is {}", other.api_version, read[member]));
            }
        }
        if read["metadata"]["uid"] != made["metadata"]["uid"] {
            return Err(format!("{}: another object", other.api_version));
        }
        let mut body = read;
        for member in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
            body["metadata"].as_object_mut().unwrap().remove(member);
        }
        bodies.entry(other.api_version.clone()).or_insert(body);
    }
    remove(stand, &format!("{}/{name}", first.path)).await?;
    for version in versions {
        let body = &bodies[&version.api_version];
        one_version(stand, body, name, version, versions)
            .await
            .map_err(|why| format!("{}: {why}", version.api_version))?;
    }
    Ok(())
}

async fn one_version(stand: &Stand, body: &Value, name: &str, own: &Served, all: &[Served]) -> Result<(), String> {
    let want = |what: &str, code: u16, (got, body): (u16, Value)| -> Result<Value, String> {
        if got == code { Ok(body) } else { Err(format!("{what}: want {code}, got {got}: {body}")) }
    };
    let nothing = Value::Null;
    let path = format!("{}/{name}", own.path);
    want("dry run", 201, stand.call("POST", &format!("{}?dryRun=All", own.path), JSON, "", body).await)?;
    want("read after a dry run", 404, stand.call("GET", &path, "", "", &nothing).await)?;
    let made = want("create", 201, stand.call("POST", &own.path, JSON, "", body).await)?;
    want("create again", 409, stand.call("POST", &own.path, JSON, "", body).await)?;

    // A writer that changes nothing changes nothing. The server itself writes a definition's status meanwhile.
    let mut answer = (409, nothing.clone());
    for _ in 0..40 {
        let read = want("read", 200, stand.call("GET", &path, "", "", &nothing).await)?;
        let (code, same) = stand.call("PUT", &path, JSON, "", &read).await;
        if code == 409 {
            continue;
        }
        want("update", 200, (code, same.clone()))?;
        if same["metadata"]["resourceVersion"] != read["metadata"]["resourceVersion"] {
            return Err(format!("an update that changes nothing was written: {read} became {same}"));
        }
        let mut changed = read;
        changed["metadata"]["labels"]["put"] = "1".into();
        answer = stand.call("PUT", &path, JSON, "", &changed).await;
        if answer.0 != 409 {
            break;
        }
    }
    want("update", 200, answer)?;
    let apply =
        json!({"apiVersion": own.api_version, "kind": own.kind, "metadata": {"name": name, "labels": {"apply": "1"}}});
    for (content, query, patch) in [
        ("application/merge-patch+json", "", json!({"metadata": {"labels": {"merge": "1"}}})),
        ("application/strategic-merge-patch+json", "", json!({"metadata": {"labels": {"strategic": "1"}}})),
        ("application/json-patch+json", "", json!([{"op": "add", "path": "/metadata/labels/json", "value": "1"}])),
        ("application/apply-patch+yaml", "?fieldManager=m", apply),
    ] {
        want(content, 200, stand.call("PATCH", &format!("{path}{query}"), content, "", &patch).await)?;
    }
    for reader in all {
        let read = want("read", 200, stand.call("GET", &format!("{}/{name}", reader.path), "", "", &nothing).await)?;
        for label in ["put", "merge", "strategic", "json", "apply"] {
            if labels(&read)[label] != "1" {
                return Err(format!("the label {label} is not there in {}", reader.api_version));
            }
        }
        let list = want(
            "list",
            200,
            stand.call("GET", &format!("{}?labelSelector=apply=1", reader.path), "", "", &nothing).await,
        )?;
        if list["items"].as_array().map(Vec::len) != Some(1) || list["kind"] != format!("{}List", reader.kind) {
            return Err(format!("list: {list}"));
        }
        let table = want("table", 200, stand.call("GET", &path, "", TABLE, &nothing).await)?;
        if table["rows"][0]["cells"].as_array().map(Vec::len) != table["columnDefinitions"].as_array().map(Vec::len) {
            return Err(format!("table: {table}"));
        }
        // The proof that it is in the protobuf form too: what is sent comes back whole.
        let proto = http::Request::get(&path).header("accept", "application/vnd.kubernetes.protobuf");
        let proto = stand.send(proto.body(Vec::new()).unwrap()).await;
        if !proto.body().starts_with(b"k8s\0") {
            return Err("no protobuf".into());
        }
        let back = http::Request::put(&path).header("content-type", "application/vnd.kubernetes.protobuf");
        let back = stand.send(back.body(proto.into_body()).unwrap()).await;
        let back: Value = serde_json::from_slice(back.body()).map_err(|e| e.to_string())?;
        if back["metadata"]["resourceVersion"] != read["metadata"]["resourceVersion"] {
            return Err(format!("protobuf changed {read} into {back}"));
        }
        let since = made["metadata"]["resourceVersion"].as_str().unwrap();
        let watch = format!("{}?watch=1&timeoutSeconds=5&labelSelector=apply=1&resourceVersion={since}", reader.path);
        let event = stand.first_event(&watch).await;
        if event["type"] != "ADDED" || event["object"]["apiVersion"] != reader.api_version.as_str() {
            return Err(format!("watch: {event}"));
        }
    }
    want("dry run of a delete", 200, stand.call("DELETE", &format!("{path}?dryRun=All"), "", "", &nothing).await)?;
    remove(stand, &path).await
}

/// Deletes, and where finalizers hold the object, lets it go as their controllers would.
async fn remove(stand: &Stand, path: &str) -> Result<(), String> {
    let (code, body) = stand.call("DELETE", &format!("{path}?gracePeriodSeconds=0"), "", "", &Value::Null).await;
    if code != 200 {
        return Err(format!("delete: {code} {body}"));
    }
    for _ in 0..200 {
        let (code, object) = stand.call("GET", path, "", "", &Value::Null).await;
        if code == 404 {
            return Ok(());
        }
        if object["kind"] == "Namespace" {
            let mut object = object;
            object["spec"]["finalizers"] = json!([]);
            stand.call("PUT", &format!("{path}/finalize"), JSON, "", &object).await;
        } else if object["kind"] != "CustomResourceDefinition" {
            let patch = json!({"metadata": {"finalizers": null}});
            stand.call("PATCH", path, "application/merge-patch+json", "", &patch).await;
        } else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await; // its controller is in the server
        }
    }
    Err("it does not go".into())
}
