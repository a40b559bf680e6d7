//! `pods/eviction`: deletes a pod unless that would break a disruption budget.

use crate::api::Endpoint;
use crate::authn::User;
use crate::handlers::Response;
use crate::handlers::render::Renderer;
use crate::handlers::write::Write;
use crate::handlers::write::update::Preconditions;
use crate::request::RequestInfo;
use crate::request::options::{DeleteOptions, WriteOptions};
use crate::server::Server;
use crate::status::{Result, Status};
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use apimachinery::selector::LabelSelector;
use http::StatusCode;
use serde_json::{Map, json};
use std::sync::Arc;

/// Pods that a budget remembers as being evicted; more at once is a sign of trouble.
const DISRUPTED_MAX: usize = 2000;

pub async fn evict(
    server: &Server,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    user: &User,
    eviction: &Value,
    options: WriteOptions,
    renderer: &Renderer,
) -> Result<Response> {
    let given = eviction["metadata"]["name"].as_str().unwrap_or("");
    if given != info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let pod = server.api.fetch(endpoint, &info.namespace, &info.name).await?.tree();
    let mut write = Write::internal(&server.api, endpoint, user, &info.namespace, &info.name);
    write.options = options;
    let mut delete = match &eviction["deleteOptions"] {
        Value::Null => DeleteOptions::default(),
        body => DeleteOptions::parse(&http::Uri::default(), Some(body))?,
    };
    write.options.dry_run |= delete.dry_run;
    delete.dry_run = write.options.dry_run;
    if !can_ignore_budgets(&pod) {
        spend(server, user, &info.namespace, &info.name, &pod, write.options.dry_run).await?;
    }
    // The eviction has been admitted, not the deletion that follows from it.
    write.raw = true;
    write.delete(&delete, &mut Vec::new()).await?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    let bytes = renderer.encode(&GroupVersionKind::new("", "v1", "Status"), None, success)?;
    Ok(renderer.respond(StatusCode::CREATED, bytes))
}

/// Pods that do not count as available anyway.
fn can_ignore_budgets(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or("");
    matches!(phase, "Succeeded" | "Failed" | "Pending") || !pod["metadata"]["deletionTimestamp"].is_null()
}

/// Takes one disruption from the pod's budget, or says that there is none left.
async fn spend(server: &Server, user: &User, namespace: &str, name: &str, pod: &Value, dry_run: bool) -> Result<()> {
    let budgets = server.api.builtin("policy", "v1", "poddisruptionbudgets")?;
    let snapshot = budgets.cache()?.snapshot();
    let prefix = format!("{namespace}/");
    let covering: Vec<(String, Value)> = snapshot
        .range(&prefix, "")
        .map(|o| (o.name().to_owned(), o.tree()))
        .filter(|(_, budget)| {
            let selector = LabelSelector::from_object(Some(&budget["spec"]["selector"]));
            selector.is_ok_and(|s| s.matches_object(Some(&pod["metadata"]["labels"])))
        })
        .collect();
    let (budget_name, budget) = match covering.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let ready = pod["status"]["conditions"]
        .as_array()
        .is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
    let status = &budget["status"];
    let healthy = status["currentHealthy"].as_i64().unwrap_or(0);
    let desired = status["desiredHealthy"].as_i64().unwrap_or(0);
    // A pod that is not ready takes nothing from a budget that is met, or whose policy says so.
    if !ready && (budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || healthy >= desired && desired > 0) {
        return Ok(());
    }
    let mut write = Write::internal(&server.api, &budgets, user, namespace, budget_name);
    write.subresource = "status".into();
    write.options.dry_run = dry_run;
    let now = write.now.clone();
    let mut take = |budget: &Value| {
        let status = &budget["status"];
        if status["observedGeneration"].as_i64().unwrap_or(0) < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
            return Err(too_many(budget_name, "The disruption budget is still being processed by the server.", 10));
        }
        let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
        if allowed <= 0 {
            let why = format!(
                "The disruption budget {budget_name} needs {} healthy pods and has {} currently",
                status["desiredHealthy"], status["currentHealthy"]
            );
            return Err(too_many(budget_name, &why, 0));
        }
        let mut budget = budget.clone();
        budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
        let mut disrupted = budget["status"]["disruptedPods"].as_object().cloned().unwrap_or_default();
        if disrupted.len() >= DISRUPTED_MAX {
            let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
            return Err(Status::new(StatusCode::FORBIDDEN, "Forbidden", why));
        }
        disrupted.insert(name.to_owned(), now.as_str().into());
        budget["status"]["disruptedPods"] = disrupted.into();
        Ok(budget)
    };
    write.update(&Preconditions::default(), &mut Vec::new(), &mut take).await.map(|_| ())
}

fn too_many(budget: &str, why: &str, retry_seconds: i64) -> Status {
    let mut status = Status::new(
        StatusCode::TOO_MANY_REQUESTS,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
    );
    let mut details = Map::new();
    if retry_seconds > 0 {
        details.insert("retryAfterSeconds".into(), retry_seconds.into());
    }
    status.details = Some(details);
    let _ = budget;
    status.with_cause("DisruptionBudget", why, "")
}
