//! `pods/eviction`: deletes a pod unless that would break a disruption budget.

use crate::server::Server;
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use apimachinery::selector::LabelSelector;
use handlers::Response;
use handlers::api::Endpoint;
use handlers::render::Renderer;
use handlers::write::update::Preconditions;
use handlers::write::{Write, meta_text};
use http::StatusCode;
use request::RequestInfo;
use request::User;
use request::options::{DeleteOptions, WriteOptions};
use request::status::{Result, Status};
use serde_json::{Map, json};
use std::sync::Arc;

/// Pods that a budget remembers as being evicted; more at once is a sign of trouble.
const DISRUPTED_MAX: usize = 2000;

/// How often a pod that changes meanwhile is looked at anew.
const ROUNDS_MAX: usize = 20;

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
    let body = Some(&eviction["deleteOptions"]).filter(|body| !body.is_null());
    let mut delete =
        body.map_or(Ok(DeleteOptions::default()), |b| DeleteOptions::parse(&http::Uri::default(), Some(b)))?;
    delete.dry_run |= options.dry_run;
    Eviction { server, endpoint, user, namespace: &info.namespace, name: &info.name, options: delete }.run().await?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    let bytes = renderer.encode(&GroupVersionKind::new("", "v1", "Status"), None, success)?;
    Ok(renderer.respond(StatusCode::CREATED, bytes))
}

struct Eviction<'a> {
    server: &'a Server,
    endpoint: &'a Arc<Endpoint>,
    user: &'a User,
    namespace: &'a str,
    name: &'a str,
    /// What the client wants of the deletion.
    options: DeleteOptions,
}

/// Who pays for a disruption.
enum Payment {
    /// Nobody needs to, or a budget has paid.
    Done,
    /// Nobody, as long as the pod stays as it is: it is not ready, so it disrupts nothing.
    WhileUnready { budget: String },
}

impl Eviction<'_> {
    async fn run(&self) -> Result<()> {
        let client_has_version = self.options.resource_version.is_some();
        let mut round = 0;
        loop {
            round += 1;
            let pod = self.server.api.fetch(self.endpoint, self.namespace, self.name).await?.tree();
            let version = meta_text(&pod, "resourceVersion").to_owned();
            if !can_ignore_budgets(&pod) {
                return match self.pay(&pod).await? {
                    Payment::Done => self.delete(self.options.resource_version.clone()).await,
                    Payment::WhileUnready { budget } => match self.delete(Some(version)).await {
                        Err(status) if status.reason == "Conflict" && !client_has_version => Err(unsettled(&budget)),
                        result => result,
                    },
                };
            }
            // A pod that is about to become ready would have to be paid for.
            let may_become_ready =
                pod["status"]["phase"] == "Pending" && pod["metadata"]["deletionTimestamp"].is_null();
            let version = self.options.resource_version.clone().or(may_become_ready.then_some(version));
            match self.delete(version).await {
                Err(status) if status.reason == "Conflict" && !client_has_version && round < ROUNDS_MAX => {}
                result => return result,
            }
        }
    }

    /// Tells in the pod why it goes, and deletes it, if it is still at the version.
    async fn delete(&self, mut version: Option<String>) -> Result<()> {
        let mut write = Write::internal(&self.server.api, self.endpoint, self.user, self.namespace, self.name);
        if !self.options.dry_run {
            write.subresource = "status".into();
            let now = write.now.clone();
            let mut mark = |pod: &Value| {
                let mut pod = pod.clone();
                set_condition(&mut pod, &now);
                Ok(pod)
            };
            let preconditions = Preconditions { uid: self.options.uid.clone(), resource_version: version.clone() };
            let marked = write.update(&preconditions, &mut Vec::new(), &mut mark).await?;
            if version.is_some() {
                version = Some(meta_text(&write.tree(marked.object)?, "resourceVersion").to_owned());
            }
            write.subresource = String::new();
        }
        // The eviction has been admitted, not the deletion that follows from it.
        write.raw = true;
        write.options.dry_run = self.options.dry_run;
        let options = DeleteOptions { resource_version: version, ..self.options.clone() };
        write.delete(&options, &mut Vec::new()).await.map(|_| ())
    }

    /// Takes one disruption from the pod's budget, or says that there is none left.
    async fn pay(&self, pod: &Value) -> Result<Payment> {
        let budgets = self.server.api.builtin("policy", "v1", "poddisruptionbudgets")?;
        let snapshot = budgets.cache()?.snapshot();
        let covering: Vec<(String, Value)> = snapshot
            .range(&format!("{}/", self.namespace), "")
            .map(|o| (o.name().to_owned(), o.tree()))
            .filter(|(_, budget)| {
                let selector = LabelSelector::from_object(Some(&budget["spec"]["selector"]));
                selector.is_ok_and(|s| s.matches_object(Some(&pod["metadata"]["labels"])))
            })
            .collect();
        let (name, budget) = match covering.as_slice() {
            [] => return Ok(Payment::Done),
            [one] => one,
            _ => {
                let why =
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", why));
            }
        };
        let conditions = pod["status"]["conditions"].as_array();
        let ready = conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
        let [healthy, desired] = ["currentHealthy", "desiredHealthy"].map(|of| number(&budget["status"], of));
        let met = healthy >= desired && desired > 0;
        if !ready && (budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || met) {
            return Ok(Payment::WhileUnready { budget: name.clone() });
        }
        let mut write = Write::internal(&self.server.api, &budgets, self.user, self.namespace, name);
        write.subresource = "status".into();
        write.options.dry_run = self.options.dry_run;
        let now = write.now.clone();
        let mut take = |budget: &Value| spent(budget, name, self.name, &now);
        write.update(&Preconditions::default(), &mut Vec::new(), &mut take).await.map(|_| Payment::Done)
    }
}

fn number(of: &Value, name: &str) -> i64 {
    of[name].as_i64().unwrap_or(0)
}

/// Pods that do not count as available anyway.
fn can_ignore_budgets(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or("");
    matches!(phase, "Succeeded" | "Failed" | "Pending") || !pod["metadata"]["deletionTimestamp"].is_null()
}

/// `DisruptionTarget`, which tells a pod's owner that it was not the pod's fault (KEP-3329).
fn set_condition(pod: &mut Value, now: &str) {
    let mut condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now});
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    match conditions.iter_mut().find(|have| have["type"] == "DisruptionTarget") {
        Some(have) => {
            if have["status"] == "True" {
                condition["lastTransitionTime"] = have["lastTransitionTime"].take();
            }
            *have = condition;
        }
        None => conditions.push(condition),
    }
}

/// The budget after one more disruption, which is this pod's.
fn spent(budget: &Value, name: &str, pod: &str, now: &str) -> Result<Value> {
    let status = &budget["status"];
    let forbidden = |why: &str| {
        let message = format!("poddisruptionbudget.policy {name:?} is forbidden: {why}");
        let mut status = Status::new(StatusCode::FORBIDDEN, "Forbidden", message);
        status.details = json!({"group": "policy", "kind": "poddisruptionbudget", "name": name}).as_object().cloned();
        Err(status)
    };
    if number(status, "observedGeneration") < number(&budget["metadata"], "generation") {
        return Err(unsettled(name));
    }
    let allowed = number(status, "disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    let mut disrupted = status["disruptedPods"].as_object().cloned().unwrap_or_default();
    if disrupted.len() > DISRUPTED_MAX {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        return Err(too_many(&why_none(name, status), 0));
    }
    disrupted.insert(pod.to_owned(), now.into());
    let mut budget = budget.clone();
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    budget["status"]["disruptedPods"] = disrupted.into();
    if allowed == 1 {
        let generation = number(&budget["status"], "observedGeneration");
        let conditions = budget["status"]["conditions"].as_array_mut();
        if let Some(condition) = conditions.and_then(|all| all.iter_mut().find(|c| c["type"] == "DisruptionAllowed")) {
            if condition["status"] != "False" {
                condition["lastTransitionTime"] = now.into();
            }
            condition["status"] = "False".into();
            condition["reason"] = "InsufficientPods".into();
            condition["message"] = "".into();
            condition["observedGeneration"] = generation.into();
        }
    }
    Ok(budget)
}

/// Why a budget has no disruption left.
fn why_none(name: &str, status: &Value) -> String {
    let conditions = status["conditions"].as_array();
    let refusal = conditions
        .and_then(|all| all.iter().find(|c| c["type"] == "DisruptionAllowed" && c["status"] == "False"))
        .map(|c| ["reason", "message"].map(|of| c[of].as_str().unwrap_or("")))
        .filter(|[_, message]| !message.is_empty());
    let [healthy, desired] = ["currentHealthy", "desiredHealthy"].map(|of| number(status, of));
    match refusal {
        // After a sync that failed the numbers cannot be trusted.
        Some(["SyncFailed", why]) => {
            format!("The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}")
        }
        _ if healthy <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
        Some([reason, why]) => {
            format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {why}")
        }
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// The budget is not known yet: try again.
fn unsettled(budget: &str) -> Status {
    too_many(&format!("The disruption budget {budget} is still being processed by the server."), 10)
}

fn too_many(why: &str, retry_seconds: i64) -> Status {
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
    status.with_cause("DisruptionBudget", why, "")
}
