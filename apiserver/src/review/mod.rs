//! Kinds that are only answered: who am I, may I, whose token is this; and the old way to bind a pod.

mod access_review;

use crate::server::Server;
use crate::subresource::binding;
use apimachinery::Value;
use apimachinery::validation::{Cursor, Errors};
use handlers::Response;
use handlers::api::Endpoint;
use handlers::api::admission::{Operation, RequestOptions};
use handlers::api::authorization::{Attributes, Decision, ResourceAttributes};
use handlers::negotiate::View;
use handlers::render::Renderer;
use handlers::write::now_text;
use http::StatusCode;
use registry::edit::typed;
use request::RequestInfo;
use request::User;
use request::options::WriteOptions;
use request::status::{Result, Status};
use serde_json::json;
use std::sync::Arc;

pub async fn create(
    server: &Arc<Server>,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    user: &User,
    options: &WriteOptions,
    review: Value,
    renderer: &Renderer,
) -> Result<Response> {
    let row = &endpoint.row;
    let mut attributes = handlers::api::admission::Attributes {
        options: RequestOptions::Write(options),
        object: Some(review),
        dry_run: options.dry_run,
        ..handlers::api::admission::Attributes::new(endpoint, Operation::Create, "", (&info.namespace, ""), user)
    };
    server.api.admission.pass(&server.api, &mut attributes).await?;
    let mut review = attributes.object.unwrap_or_default();
    match row.plural.as_str() {
        "selfsubjectreviews" => {
            review["metadata"]["creationTimestamp"] = now_text().into();
            review["status"] = json!({"userInfo": user.info()});
        }
        "tokenreviews" => review["status"] = token_review(server, &review).await?,
        "selfsubjectaccessreviews" | "subjectaccessreviews" | "localsubjectaccessreviews" => {
            if row.namespaced && review["metadata"]["namespace"].is_null() {
                review["metadata"]["namespace"] = info.namespace.as_str().into();
            }
            let errors = Errors::new();
            access_review::validate(&Cursor::root(&review, &errors), &row.plural);
            if !errors.is_empty() {
                return Err(Status::invalid(&row.kind.group, &row.kind.kind, "", &errors.into_vec()));
            }
            let own = row.plural == "selfsubjectaccessreviews";
            let subject = if own { user.clone() } else { subject(&review["spec"]) };
            let mut status = access(server, &subject, &review["spec"]).await?;
            let ignored = access_review::ignored_selectors(&review["spec"]["resourceAttributes"]);
            if !ignored.is_empty() {
                status["evaluationError"] = ignored.join(", ").into();
            }
            review["status"] = status;
        }
        "selfsubjectrulesreviews" => {
            review["status"] = rules(server, user, review["spec"]["namespace"].as_str().unwrap_or(""))
        }
        "bindings" => {
            let name = review["metadata"]["name"].as_str().unwrap_or("").to_owned();
            return binding::bind(server, user, &info.namespace, &name, &review, renderer).await;
        }
        _ => return Err(Status::method_not_allowed()),
    }
    if renderer.accepted.view != View::Whole {
        return Err(Status::not_acceptable("application/json, application/yaml, application/vnd.kubernetes.protobuf"));
    }
    let bytes = renderer.value(typed(review, &row.kind), &json!({}))?;
    Ok(renderer.respond(StatusCode::CREATED, bytes))
}

async fn token_review(server: &Server, review: &Value) -> Result<Value> {
    let token = review["spec"]["token"].as_str().unwrap_or("");
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let wanted: Vec<String> = review["spec"]["audiences"]
        .as_array()
        .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    let refused = |why: &str| json!({"user": {}, "error": why});
    Ok(match server.authn.token(&server.api, token).await? {
        None => refused("invalid bearer token"),
        Some((user, audiences)) => {
            let good: Vec<&String> =
                if wanted.is_empty() { Vec::new() } else { audiences.iter().filter(|a| wanted.contains(a)).collect() };
            if !wanted.is_empty() && good.is_empty() {
                return Ok(refused("token audiences do not match the audiences asked for"));
            }
            let mut status = json!({"authenticated": true, "user": user.info()});
            if !good.is_empty() {
                status["audiences"] = json!(good);
            }
            status
        }
    })
}

fn subject(spec: &Value) -> User {
    let text = |name: &str| spec[name].as_str().unwrap_or("").to_owned();
    let list = |value: &Value| {
        value
            .as_array()
            .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let extra =
        spec["extra"].as_object().map(|e| e.iter().map(|(k, v)| (k.clone(), list(v))).collect()).unwrap_or_default();
    User { name: text("user"), uid: text("uid"), groups: list(&spec["groups"]), extra }
}

async fn access(server: &Server, user: &User, spec: &Value) -> Result<Value> {
    let text = |value: &'_ Value| value.as_str().unwrap_or("").to_owned();
    let r = &spec["resourceAttributes"];
    let (verb, group, resource, subresource, namespace, name, path);
    let attributes = if r.is_object() {
        (verb, group) = (text(&r["verb"]), text(&r["group"]));
        (resource, subresource, namespace, name) =
            (text(&r["resource"]), text(&r["subresource"]), text(&r["namespace"]), text(&r["name"]));
        let resource = ResourceAttributes {
            group: &group,
            resource: &resource,
            subresource: &subresource,
            namespace: &namespace,
            name: &name,
            ..Default::default()
        };
        Attributes { user, verb: &verb, resource: Some(resource), path: "" }
    } else {
        (verb, path) = (text(&spec["nonResourceAttributes"]["verb"]), text(&spec["nonResourceAttributes"]["path"]));
        Attributes { user, verb: &verb, resource: None, path: &path }
    };
    Ok(match server.authz.authorize(&server.api, &attributes).await? {
        Decision::Allow(reason) => with_reason(json!({"allowed": true}), reason),
        Decision::NoOpinion(reason) => with_reason(json!({"allowed": false}), reason),
    })
}

fn with_reason(mut status: Value, reason: String) -> Value {
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

fn rules(server: &Server, user: &User, namespace: &str) -> Value {
    let rules = server.rbac.as_ref().map(|r| r.rules(user, namespace)).unwrap_or_default();
    let (mut resource, mut other) = (Vec::new(), Vec::new());
    if user.is_in(request::user::MASTERS) {
        resource.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        other.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    for rule in rules {
        if rule.non_resource_urls.is_empty() {
            let mut value = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                value["resourceNames"] = rule.resource_names.into();
            }
            resource.push(value);
        } else {
            other.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    json!({"resourceRules": resource, "nonResourceRules": other, "incomplete": false})
}
