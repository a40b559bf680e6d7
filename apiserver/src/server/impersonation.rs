//! `Impersonate-User` and its kin: acting as somebody else, for those who may.

use super::Server;
use handlers::api::authorization::{Attributes, ResourceAttributes};
use http::HeaderMap;
use request::status::{Result, Status};
use request::user::{AUTHENTICATED, UNAUTHENTICATED, User};
use std::collections::BTreeMap;

/// The user to act as: the one that the headers name, if `user` may; `user` itself without such headers.
pub async fn impersonate(server: &Server, user: User, headers: &HeaderMap) -> Result<User> {
    let all = |name: &str| {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect::<Vec<_>>()
    };
    let name = all("impersonate-user").pop().unwrap_or_default();
    let mut groups = all("impersonate-group");
    let uid = all("impersonate-uid").pop().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let (Some(key), Ok(value)) = (header.as_str().strip_prefix("impersonate-extra-"), value.to_str()) {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    if name.is_empty() {
        return if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            Ok(user)
        } else {
            let message = "requested to impersonate without impersonating a user: Impersonate-User must be set";
            Err(Status::new(http::StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message))
        };
    }
    let demand = async |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let attributes = Attributes {
            user: &user,
            verb: "impersonate",
            resource: Some(ResourceAttributes { group, resource, subresource, namespace, name, ..Default::default() }),
            path: "",
        };
        server.authz.demand(&server.api, &attributes).await
    };
    match name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, account)) => {
            demand("", "serviceaccounts", "", namespace, account).await?;
            if groups.is_empty() {
                groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
            }
        }
        None => demand("", "users", "", "", &name).await?,
    }
    for group in &groups {
        if !group.starts_with("system:serviceaccounts") || !name.starts_with("system:serviceaccount:") {
            demand("", "groups", "", "", group).await?;
        }
    }
    if !uid.is_empty() {
        demand("authentication.k8s.io", "uids", "", "", &uid).await?;
    }
    for (key, values) in &extra {
        for value in values {
            demand("authentication.k8s.io", "userextras", key, "", value).await?;
        }
    }
    let has = |groups: &[String], group: &str| groups.iter().any(|g| g == group);
    if name != request::user::ANONYMOUS && !has(&groups, AUTHENTICATED) && !has(&groups, UNAUTHENTICATED) {
        groups.push(AUTHENTICATED.into());
    } else if name == request::user::ANONYMOUS && !has(&groups, UNAUTHENTICATED) {
        groups.push(UNAUTHENTICATED.into());
    }
    Ok(User { name, uid, groups, extra })
}
