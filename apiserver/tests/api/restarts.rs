//! Nothing acknowledged is lost, and everything goes on, when a process dies.

use crate::stand::Stand;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

#[tokio::test]
async fn a_killed_server_finds_its_objects_again() {
    let mut stand = Stand::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(stand.admin().await);
    let made = maps.create(&PostParams::default(), &config_map("kept")).await.unwrap();
    stand.kill_server();
    stand.start_server().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(stand.admin().await);
    assert_eq!(maps.get("kept").await.unwrap(), made);
    // The version from before still resumes a watch, for etcd holds what came since.
    let version = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    maps.create(&PostParams::default(), &config_map("after")).await.unwrap();
    let stream = maps.watch(&WatchParams::default().timeout(20), &version).await.unwrap();
    let seen: Vec<_> = stream.take(1).try_collect().await.unwrap();
    assert!(matches!(&seen[0], WatchEvent::Added(m) if m.name_any() == "after"), "{seen:?}");
}

#[tokio::test]
async fn the_server_goes_on_when_etcd_comes_back() {
    let mut stand = Stand::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(stand.admin().await);
    maps.create(&PostParams::default(), &config_map("before")).await.unwrap();
    stand.kill_etcd();
    assert!(maps.create(&PostParams::default(), &config_map("lost")).await.is_err());
    // What the cache holds is still read by those who allow it.
    let cached = ListParams::default().match_any();
    assert!(maps.list(&cached).await.unwrap().iter().any(|m| m.name_any() == "before"));
    stand.start_etcd();
    stand.until_ready().await;
    maps.create(&PostParams::default(), &config_map("after")).await.unwrap();
    let names: Vec<_> = maps.list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect();
    assert!(names.contains(&"before".into()) && names.contains(&"after".into()), "{names:?}");
}
