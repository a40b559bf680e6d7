//! The objects that hold a policy's settings.

use apimachinery::Value as Json;
use apimachinery::schema::GroupVersionKind;
use apimachinery::selector::LabelSelector;
use handlers::api::{Api, Endpoint};
use registry::conversion::convert;
use std::sync::Arc;

/// Objects that one binding may be evaluated with.
const PARAMS_MAX: usize = 1000;

/// The objects that a binding names, whole; one `null` where there is nothing to name.
///
/// # Errors
/// Why the binding can't be evaluated, in upstream's words.
pub fn collect(api: &Api, kind: &Json, reference: &Json, namespace: &str) -> Result<Vec<Json>, String> {
    if kind.is_null() || reference.is_null() {
        return Ok(vec![Json::Null]);
    }
    let text = |value: &Json| value.as_str().unwrap_or("").to_owned();
    let (api_version, kind) = (text(&kind["apiVersion"]), text(&kind["kind"]));
    let endpoint = find(api, &api_version, &kind)
        .ok_or_else(|| format!("failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"))?;
    let mut at = String::new();
    if endpoint.row.namespaced {
        let own = text(&reference["namespace"]);
        at = if own.is_empty() { namespace.to_owned() } else { own };
        if at.is_empty() {
            return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into());
        }
    }
    let cache = endpoint.cache().map_err(|status| status.message)?;
    let name = text(&reference["name"]);
    let whole = |object: &Arc<storage::object::Object>| {
        let mut tree = object.tree();
        if let Some(storage) = &endpoint.row.storage {
            convert(&storage.kind, &endpoint.row.kind, &mut tree);
        }
        tree["apiVersion"] = api_version.as_str().into();
        tree["kind"] = kind.as_str().into();
        tree
    };
    let found: Vec<Json> = if name.is_empty() {
        let selector = LabelSelector::from_object(Some(&reference["selector"])).map_err(|e| e.to_string())?;
        let prefix = if at.is_empty() { String::new() } else { format!("{at}/") };
        let snapshot = cache.snapshot();
        let selected = snapshot.range(&prefix, "").filter(|object| selector.matches(|key| object.label(key)));
        let found: Vec<Json> = selected.take(PARAMS_MAX + 1).map(whole).collect();
        if found.len() > PARAMS_MAX {
            return Err(format!("more than {PARAMS_MAX} params match the selector"));
        }
        found
    } else {
        cache.get(&endpoint.row.key(&at, &name)).iter().map(whole).collect()
    };
    if found.is_empty() && reference["parameterNotFoundAction"] == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found)
}

fn find(api: &Api, api_version: &str, kind: &str) -> Option<Arc<Endpoint>> {
    let (group, version) = GroupVersionKind::split_api_version(api_version);
    let served = api.served.load();
    served.version(group, version)?.values().find(|endpoint| endpoint.row.kind.kind == kind).cloned()
}
