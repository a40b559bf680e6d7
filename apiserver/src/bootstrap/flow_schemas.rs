//! Says of each FlowSchema whether the priority level that it names is there: the condition `Dangling`.

use crate::server::Server;
use apimachinery::Value;
use handlers::api::Api;
use handlers::write::update::Preconditions;
use handlers::write::{Write, meta_text, now_text};
use request::User;
use request::status::Result;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use storage::watchers::Scope;
use tokio_util::sync::CancellationToken;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the conditions right until `shutdown`.
pub async fn keep_flow_schemas(server: Arc<Server>, shutdown: CancellationToken) {
    let api = &server.api;
    let watched = ["flowschemas", "prioritylevelconfigurations"].map(|plural| {
        let cache = api.builtin(GROUP, "v1", plural).ok()?.cache().ok()?.clone();
        Some(move || cache.watch_with_state(Scope::All).1)
    });
    let [Some(schemas), Some(levels)] = watched else { return }; // switched off
    let (mut schema_changes, mut level_changes) = (schemas(), levels());
    loop {
        let retry = match look(api).await {
            Ok(()) => Duration::MAX,
            Err(status) => {
                tracing::debug!(error = status.message, "flow schemas not in step; trying again");
                RETRY
            }
        };
        tokio::select! {
            change = schema_changes.next() => if change.is_none() { schema_changes = schemas() },
            change = level_changes.next() => if change.is_none() { level_changes = levels() },
            () = tokio::time::sleep(retry) => {}
            () = shutdown.cancelled() => return,
        }
        while schema_changes.try_next().is_some() || level_changes.try_next().is_some() {}
    }
}

/// Looks at every flow schema once.
pub async fn look(api: &Api) -> Result<()> {
    let schemas = api.builtin(GROUP, "v1", "flowschemas")?;
    let levels = api.builtin(GROUP, "v1", "prioritylevelconfigurations")?.cache()?.snapshot();
    for entry in schemas.cache()?.snapshot().objects.iter() {
        let schema = entry.0.tree();
        let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or("");
        let condition = dangling(level, levels.get(level).is_some());
        if says(&schema, &condition) {
            continue;
        }
        let user = User::apiserver();
        let mut write = Write::internal(api, &schemas, &user, "", meta_text(&schema, "name"));
        write.subresource = "status".into();
        let mut set = |current: &Value| {
            let mut schema = current.clone();
            let mut conditions = schema["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.retain(|c| c["type"] != "Dangling");
            let mut condition = condition.clone();
            condition["lastTransitionTime"] = now_text().into();
            conditions.push(condition);
            schema["status"]["conditions"] = conditions.into();
            Ok(schema)
        };
        match write.update(&Preconditions::default(), &mut Vec::new(), &mut set).await {
            Err(status) if status.reason != "NotFound" => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

fn dangling(level: &str, there: bool) -> Value {
    let (status, reason, end) =
        if there { ("False", "Found", "and it exists") } else { ("True", "NotFound", "but there is no such object") };
    let message = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {end}");
    json!({"type": "Dangling", "status": status, "reason": reason, "message": message})
}

/// Whether the flow schema carries the condition already.
fn says(schema: &Value, wanted: &Value) -> bool {
    let same = |c: &Value| ["type", "status", "reason", "message"].iter().all(|m| c[m] == wanted[m]);
    schema["status"]["conditions"].as_array().is_some_and(|conditions| conditions.iter().any(same))
}
