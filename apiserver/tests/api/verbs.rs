//! Every verb, and who may use it.

use crate::stand::Stand;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, Error, ResourceExt};
use serde_json::json;

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"value": value}}, "data": {"key": value}}))
        .unwrap()
}

async fn namespace(client: &Client, name: &str) -> Api<ConfigMap> {
    let object: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
    Api::namespaced(client.clone(), name)
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> u16 {
    match result {
        Err(Error::Api(status)) => status.code,
        other => panic!("want a Status, got {other:?}"),
    }
}

#[tokio::test]
async fn objects_are_written_read_and_deleted() {
    let stand = Stand::start().await;
    let maps = namespace(&stand.admin().await, "verbs").await;
    let post = PostParams::default();

    let made = maps.create(&post, &config_map("a", "1")).await.unwrap();
    assert_eq!(maps.get("a").await.unwrap(), made);
    assert_eq!(code(maps.create(&post, &config_map("a", "1")).await), 409);
    assert_eq!(code(maps.get("b").await), 404);

    let mut stale = made.clone();
    let merge = Patch::Merge(json!({"data": {"key": "2", "more": "x"}}));
    let patched = maps.patch("a", &PatchParams::default(), &merge).await.unwrap();
    assert_eq!(patched.data.as_ref().unwrap().len(), 2);
    stale.data = None;
    assert_eq!(code(maps.replace("a", &post, &stale).await), 409);

    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"key": "3"}});
    let apply = PatchParams::apply("one");
    assert_eq!(code(maps.patch("a", &apply, &Patch::Apply(&config)).await), 409);
    let applied = maps.patch("a", &apply.clone().force(), &Patch::Apply(&config)).await.unwrap();
    assert_eq!(applied.data.unwrap()["key"], "3");
    assert!(applied.metadata.managed_fields.unwrap().iter().any(|m| m.manager.as_deref() == Some("one")));

    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(maps.get("a").await), 404);
}

#[tokio::test]
async fn lists_come_in_pages_of_one_version() {
    let stand = Stand::start().await;
    let maps = namespace(&stand.admin().await, "pages").await;
    for n in 0..7 {
        maps.create(&PostParams::default(), &config_map(&format!("m{n}"), "v")).await.unwrap();
    }
    let mut names = Vec::new();
    let mut params = ListParams::default().limit(3);
    let mut versions = Vec::new();
    loop {
        let page = maps.list(&params).await.unwrap();
        names.extend(page.items.iter().map(ResourceExt::name_any));
        versions.extend(page.metadata.resource_version.clone());
        // What comes after the first page was read is on no later page.
        maps.create(&PostParams::default(), &config_map(&format!("z{}", names.len()), "v")).await.unwrap();
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(token) => params = ListParams::default().limit(3).continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    versions.dedup();
    assert_eq!(versions.len(), 1);
    assert_eq!(maps.list(&ListParams::default().labels("value=v,!x")).await.unwrap().items.len(), 10);
    assert_eq!(maps.list(&ListParams::default().fields("metadata.name=m3")).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_watch_resumes_where_it_was() {
    let stand = Stand::start().await;
    let maps = namespace(&stand.admin().await, "watch").await;
    let first = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let merge = Patch::Merge(json!({"data": {"key": "2"}}));
    maps.patch("a", &PatchParams::default(), &merge).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();

    let params = WatchParams::default().timeout(20);
    let stream = maps.watch(&params, &first.resource_version().unwrap()).await.unwrap();
    let seen: Vec<_> = stream.take(2).try_collect().await.unwrap();
    assert!(matches!(&seen[0], WatchEvent::Modified(m) if m.data.as_ref().unwrap()["key"] == "2"), "{seen:?}");
    assert!(matches!(&seen[1], WatchEvent::Deleted(_)), "{seen:?}");

    // A short watch with nothing to tell still ends with a bookmark, from which the next goes on.
    let WatchEvent::Deleted(last) = &seen[1] else { unreachable!() };
    let params = WatchParams::default().timeout(1);
    let stream = maps.watch(&params, &last.resource_version().unwrap()).await.unwrap();
    let rest: Vec<_> = stream.try_collect().await.unwrap();
    assert!(rest.iter().all(|e| matches!(e, WatchEvent::Bookmark(_))), "{rest:?}");
}

#[tokio::test]
async fn nobody_may_what_no_role_allows() {
    let stand = Stand::start().await;
    let (admin, alice) = (stand.admin().await, stand.alice().await);
    namespace(&admin, "rbac").await;
    let pods: Api<Pod> = Api::namespaced(alice.clone(), "rbac");
    let refused = pods.list(&ListParams::default()).await.unwrap_err();
    assert!(refused.to_string().contains("User \"alice\" cannot list resource \"pods\""), "{refused}");

    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> = Api::namespaced(admin, "rbac");
    let binding = serde_json::from_value(json!({
        "metadata": {"name": "alice"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregate-to-view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    }));
    bindings.create(&PostParams::default(), &binding.unwrap()).await.unwrap();
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
    assert_eq!(code(pods.delete("x", &DeleteParams::default()).await), 403);
}
