//! `serviceaccounts/token`: a TokenRequest gets a token of the account, bound to a pod, secret or node if it asks.

use crate::server::Server;
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use apimachinery::validation::{FieldError, Path};
use authentication::service_account::{Bound, Claims};
use handlers::Response;
use handlers::api::Endpoint;
use handlers::render::Renderer;
use http::StatusCode;
use registry::edit::typed;
use request::RequestInfo;
use request::status::{Result, Status};
use serde_json::json;
use std::sync::Arc;

const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;
const SECONDS_DEFAULT: i64 = 3600;
/// Asked for by kubelets, which renew early; clients that don't are given a year. (KEP-1205, extended expiration.)
const RENEWED: i64 = 3607;
const EXTENDED: i64 = 365 * 24 * 3600;

pub async fn request(
    server: &Server,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    mut review: Value,
    renderer: &Renderer,
) -> Result<Response> {
    let issuer = server.authn.service_account.as_ref().ok_or_else(Status::no_such_resource)?;
    let account = server.api.fetch(endpoint, &info.namespace, &info.name).await?.tree();
    let spec = review["spec"].clone();
    let mut seconds = spec["expirationSeconds"].as_i64().unwrap_or(SECONDS_DEFAULT);
    let mut errors = Vec::new();
    let field = Path::new("spec.expirationSeconds");
    if seconds < SECONDS_MIN {
        errors.push(FieldError::invalid(&field, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > SECONDS_MAX {
        errors.push(FieldError::invalid(&field, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &errors));
    }
    if let Some(max) = issuer.max_expiration_seconds {
        seconds = seconds.min(max);
    }
    let mut audiences: Vec<String> = spec["audiences"]
        .as_array()
        .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    if audiences.is_empty() {
        audiences = issuer.audiences.clone();
    }
    let reference = &spec["boundObjectRef"];
    let bound = match reference.is_object() {
        false => None,
        true => Some(bound(server, info, reference).await?),
    };
    let node =
        match bound.as_ref().and_then(|(_, object)| object["spec"]["nodeName"].as_str()).filter(|n| !n.is_empty()) {
            Some(name) => {
                let uid =
                    match server.api.builtin("", "v1", "nodes").and_then(|nodes| server.api.cached(&nodes, "", name)) {
                        Ok(node) => node.tree()["metadata"]["uid"].as_str().unwrap_or("").to_owned(),
                        Err(_) => String::new(),
                    };
                Some((name.to_owned(), uid))
            }
            None => None,
        };
    let own_audience = audiences.iter().all(|a| issuer.audiences.contains(a));
    let signed_seconds = if seconds == RENEWED && own_audience && bound.is_some() { EXTENDED } else { seconds };
    let (token, expires) = issuer.sign(&Claims {
        namespace: &info.namespace,
        account: &info.name,
        account_uid: account["metadata"]["uid"].as_str().unwrap_or(""),
        audiences: &audiences,
        seconds: signed_seconds,
        bound: bound.as_ref().map(|(b, _)| b),
        node: node.as_ref().map(|(n, u)| (n.as_str(), u.as_str())),
    })?;
    // The client is told the time it asked for, so that it renews by then.
    let told = jiff::Timestamp::from_second(expires - signed_seconds + seconds).unwrap_or_default();
    review["metadata"]["name"] = info.name.as_str().into();
    review["metadata"]["namespace"] = info.namespace.as_str().into();
    review["metadata"]["creationTimestamp"] = handlers::write::now_text().into();
    review["spec"]["audiences"] = audiences.into();
    review["spec"]["expirationSeconds"] = seconds.into();
    review["status"] = json!({"token": token, "expirationTimestamp": told.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
    let kind = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let bytes = renderer.encode(&kind, None, typed(review, &kind))?;
    Ok(renderer.respond(StatusCode::CREATED, bytes))
}

/// The object a token is to be bound to, which must be there and the one meant.
async fn bound(server: &Server, info: &RequestInfo, reference: &Value) -> Result<(Bound, Value)> {
    let text = |name: &str| reference[name].as_str().unwrap_or("").to_owned();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let (plural, namespace) = match kind.as_str() {
        "Pod" => ("pods", info.namespace.as_str()),
        "Secret" => ("secrets", info.namespace.as_str()),
        "Node" => ("nodes", ""),
        other => {
            return Err(Status::bad_request(format!("cannot bind token for serviceaccount to object of type {other}")));
        }
    };
    let endpoint = server.api.builtin("", "v1", plural)?;
    let object = server.api.fetch(&endpoint, namespace, &name).await?.tree();
    let actual = object["metadata"]["uid"].as_str().unwrap_or("").to_owned();
    let about = request::status::About { group: "", resource: plural, name: &name };
    if !uid.is_empty() && uid != actual {
        return Err(Status::conflict(
            about,
            &format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    if kind == "Pod" && object["spec"]["serviceAccountName"].as_str() != Some(info.name.as_str()) {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            info.name
        )));
    }
    Ok((Bound { kind, name, uid: actual }, object))
}
