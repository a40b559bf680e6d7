//! Custom resources: from a CustomResourceDefinition to rows that are served like any other, and back when it goes away.
//!
//! [`rows`] reads a definition; [`columns`] prints its objects. Here is the controller that keeps what is served in step with
//! the definitions there are. Requests never come here: to the generic verbs a custom resource is one more row.

mod api_services;
mod conversion;
mod rows;

use apimachinery::Value;
use handlers::api::Api;
use handlers::write::Write;
use handlers::write::update::Preconditions;
use registry::definition::{self as definition_status, FINALIZER};
use request::User;
use request::options::{DeleteOptions, ListOptions};
use request::status::Result;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use storage::watchers::Scope;
use tokio_util::sync::CancellationToken;

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// How long until what failed, or waits for finalizers of objects, is looked at again.
const RETRY: Duration = Duration::from_secs(1);

/// The definition that is served under a name: its uid and generation.
type Known = HashMap<String, (String, i64)>;

/// Keeps what is served in step with the definitions, until `shutdown`.
pub async fn run(api: Arc<Api>, shutdown: CancellationToken) {
    let mut known = Known::new();
    while !shutdown.is_cancelled() {
        let Ok(definitions) = api.builtin(GROUP, "v1", PLURAL) else { return };
        let Ok(cache) = definitions.cache() else { return };
        let (mut snapshot, mut changes) = cache.watch_with_state(Scope::All);
        loop {
            let list: Vec<Value> = snapshot.objects.iter().map(|e| e.0.tree()).collect();
            let again = step(&api, &list, &mut known).await;
            let retry = async { if again { tokio::time::sleep(RETRY).await } else { std::future::pending().await } };
            tokio::select! {
                change = changes.next() => if change.is_none() { break },
                () = retry => {}
                () = shutdown.cancelled() => return,
            }
            while changes.try_next().is_some() {}
            snapshot = cache.snapshot();
        }
    }
}

/// One look at all definitions. True if something must be looked at again without a change.
async fn step(api: &Api, list: &[Value], known: &mut Known) -> bool {
    let mut again = false;
    for definition in list {
        let name = definition["metadata"]["name"].as_str().unwrap_or("");
        let result = if definition["metadata"]["deletionTimestamp"].is_null() {
            establish(api, definition, list, known).await.map(|()| true)
        } else {
            finalize(api, definition, known).await
        };
        match result {
            Ok(done) => again |= !done,
            Err(status) => {
                tracing::warn!(definition = name, error = status.message, "custom resource not in step; trying again");
                again = true;
            }
        }
    }
    // Definitions that went without the finalizer.
    let gone: Vec<String> =
        known.keys().filter(|name| !list.iter().any(|d| d["metadata"]["name"] == name.as_str())).cloned().collect();
    for name in gone {
        known.remove(&name);
        if let Some((plural, group)) = name.split_once('.') {
            api.retire_custom(group, plural);
        }
    }
    if !again && let Err(status) = api_services::reconcile(api).await {
        tracing::warn!(error = status.message, "APIServices are not in step with custom resources; trying again");
        again = true;
    }
    again
}

/// Accepts the names of a definition and serves its versions.
async fn establish(api: &Api, definition: &Value, all: &[Value], known: &mut Known) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let meta = &definition["metadata"];
    let status = definition_status::status(definition, all, &handlers::write::now_text());
    let now = (text(&meta["uid"]), meta["generation"].as_i64().unwrap_or(0));
    let name = text(&meta["name"]);
    // Served first and said so after: who waits for `Established` finds the kind there.
    if definition_status::is_established(&status) && known.get(&name) != Some(&now) {
        let spec = &definition["spec"];
        let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
        api.serve_custom(&group, &plural, rows::of(definition, &api.callout)).await?;
        known.insert(name, now);
    }
    if status != definition["status"] {
        let mut set = |current: &Value| {
            let mut new = current.clone();
            new["status"] = status.clone();
            Ok(new)
        };
        change(api, definition, "status", &mut set).await?;
    }
    Ok(())
}

/// Deletes the objects of a definition that is to go, then lets it. True when that is done.
async fn finalize(api: &Api, definition: &Value, known: &mut Known) -> Result<bool> {
    let held = definition["metadata"]["finalizers"].as_array().is_some_and(|f| f.iter().any(|f| f == FINALIZER));
    if !held {
        return Ok(true);
    }
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let user = User::apiserver();
    let served = api.served.load_full();
    let of_group = served.versions.iter().filter(|((g, _), _)| *g == group);
    let endpoints: Vec<_> = of_group.filter_map(|(_, table)| table.get(&plural).cloned()).collect();
    // In the stored version, if it is served: what converts may be gone already.
    let stored = endpoints.iter().find(|e| e.row.storage.as_ref().is_some_and(|s| s.kind == e.row.kind));
    let endpoint = stored.or(endpoints.first()).cloned();
    if let Some(endpoint) = endpoint {
        if !endpoint.row.terminating {
            // No new objects from here on, and whoever looks is told why.
            let status = definition_status::terminating(&definition["status"], &handlers::write::now_text());
            let mut set = |current: &Value| {
                let mut new = current.clone();
                new["status"] = status.clone();
                Ok(new)
            };
            change(api, definition, "status", &mut set).await?;
            api.serve_custom(&group, &plural, rows::of(definition, &api.callout)).await?;
        }
        let mut write = Write::internal(api, &endpoint, &user, "", "");
        write.raw = true; // nobody is asked: the definition's own deletion was admitted
        let (list, options) = (ListOptions::default(), DeleteOptions::default());
        write.delete_collection(&list, &options, &mut Vec::new()).await?;
        if !api.page(&endpoint, "", &list).await?.objects.is_empty() {
            return Ok(false);
        }
    }
    let mut release = |current: &Value| {
        let mut new = current.clone();
        if let Some(finalizers) = new["metadata"]["finalizers"].as_array_mut() {
            finalizers.retain(|f| f != FINALIZER);
        }
        Ok(new)
    };
    change(api, definition, "", &mut release).await?;
    api.retire_custom(&group, &plural);
    known.remove(definition["metadata"]["name"].as_str().unwrap_or(""));
    Ok(true)
}

async fn change(
    api: &Api,
    definition: &Value,
    subresource: &str,
    set: &mut handlers::write::update::Change<'_>,
) -> Result<()> {
    let definitions = api.builtin(GROUP, "v1", PLURAL)?;
    let user = User::apiserver();
    let name = definition["metadata"]["name"].as_str().unwrap_or("");
    let mut write = Write::internal(api, &definitions, &user, "", name);
    write.subresource = subresource.into();
    write.update(&Preconditions::default(), &mut Vec::new(), set).await.map(|_| ())
}
