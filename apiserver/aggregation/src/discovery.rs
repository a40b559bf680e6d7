//! Groups of other servers among our own, in `/apis`.

use super::Said;
use super::table::Table;
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use serde_json::json;

/// Adds to a list of groups, as plain discovery tells them, those of other servers.
pub fn add_groups(table: &Table, groups: &mut Vec<Value>) {
    for remote in &table.remotes {
        let version =
            json!({"groupVersion": format!("{}/{}", remote.group, remote.version), "version": remote.version});
        let at = groups.iter().position(|g| g["name"] == remote.group.as_str()).unwrap_or_else(|| {
            groups.push(json!({"name": remote.group, "preferredVersion": version, "versions": []}));
            groups.len() - 1
        });
        if let Some(versions) = groups[at]["versions"].as_array_mut()
            && !versions.contains(&version)
        {
            versions.push(version);
        }
    }
    order(table, groups, |group| group["name"].as_str());
}

/// The same for aggregated discovery.
pub fn add_aggregated(said: impl Fn(&str) -> Said, table: &Table, groups: &mut Vec<Value>) {
    for remote in &table.remotes {
        let said = said(&remote.name);
        let freshness = if said.fresh && remote.available { "Current" } else { "Stale" };
        let version = json!({"version": remote.version, "resources": *said.resources, "freshness": freshness});
        let at = groups.iter().position(|g| g["metadata"]["name"] == remote.group.as_str()).unwrap_or_else(|| {
            groups.push(json!({"metadata": {"name": remote.group}, "versions": []}));
            groups.len() - 1
        });
        if let Some(versions) = groups[at]["versions"].as_array_mut() {
            versions.retain(|v| v["version"] != remote.version.as_str());
            versions.push(version);
        }
    }
    order(table, groups, |group| group["metadata"]["name"].as_str());
}

/// Groups with a higher priority come first. Without other servers the order is right already.
fn order(table: &Table, groups: &mut [Value], name: fn(&Value) -> Option<&str>) {
    if !table.remotes.is_empty() {
        let priority = |group: &Value| table.priorities.get(name(group).unwrap_or("")).copied().unwrap_or(i64::MAX);
        groups.sort_by_key(|group| std::cmp::Reverse(priority(group)));
    }
}

/// An `APIResourceList` as aggregated discovery tells resources: subresources are part of theirs.
pub fn resources(list: &Value, group: &str, version: &str) -> Vec<Value> {
    let mut resources: Vec<Value> = Vec::new();
    for entry in list["resources"].as_array().into_iter().flatten() {
        let text = |name: &str| entry[name].as_str().filter(|text| !text.is_empty());
        let kind = GroupVersionKind::new(
            text("group").unwrap_or(group),
            text("version").unwrap_or(version),
            text("kind").unwrap_or(""),
        );
        let kind = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let name = text("name").unwrap_or("");
        if let Some((of, subresource)) = name.split_once('/') {
            let sub = json!({"subresource": subresource, "responseKind": kind, "verbs": entry["verbs"]});
            if let Some(parent) = resources.iter_mut().find(|r| r["resource"] == of) {
                match &mut parent["subresources"] {
                    Value::Array(list) => list.push(sub),
                    none => *none = vec![sub].into(),
                }
            }
            continue;
        }
        let scope = if entry["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let mut resource = json!({"resource": name, "responseKind": kind, "scope": scope,
            "singularResource": entry["singularName"].as_str().unwrap_or(""), "verbs": entry["verbs"]});
        for list in ["shortNames", "categories"] {
            if entry[list].is_array() {
                resource[list] = entry[list].clone();
            }
        }
        resources.push(resource);
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_list_is_told_with_subresources_inside() {
        let list = json!({"resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"], "shortNames": ["fl"]},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["update"]},
            {"name": "fischers", "namespaced": false, "kind": "Fischer", "group": "other", "version": "v9", "verbs": []},
        ]});
        let kind = json!({"group": "g", "version": "v1", "kind": "Flunder"});
        assert_eq!(
            resources(&list, "g", "v1"),
            [
                json!({"resource": "flunders", "responseKind": kind, "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get"],
                "shortNames": ["fl"], "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["update"]}]}),
                json!({"resource": "fischers", "responseKind": {"group": "other", "version": "v9", "kind": "Fischer"}, "scope": "Cluster",
                "singularResource": "", "verbs": []}),
            ]
        );
    }

    #[test]
    fn groups_are_merged_by_priority() {
        let service = |group: &str, priority: i64, remote: bool| {
            let mut spec =
                json!({"group": group, "version": "v1", "groupPriorityMinimum": priority, "versionPriority": 1});
            if remote {
                spec["service"] = json!({"namespace": "n", "name": "s"});
            }
            json!({"metadata": {"name": format!("v1.{group}")}, "spec": spec})
        };
        let table = Table::read(
            [service("apps", 17800, false), service("r.io", 2000, true), service("crd.io", 1000, false)].into_iter(),
        );
        let local = |name: &str| json!({"name": name, "preferredVersion": {}, "versions": [{"groupVersion": format!("{name}/v1"), "version": "v1"}]});
        let mut groups = vec![local("apps"), local("crd.io")];
        add_groups(&table, &mut groups);
        assert_eq!(groups.iter().map(|g| g["name"].as_str().unwrap()).collect::<Vec<_>>(), ["apps", "r.io", "crd.io"]);
        let mut groups = Vec::new();
        add_aggregated(|_| Said::default(), &table, &mut groups);
        assert_eq!(groups[0]["versions"][0]["freshness"], "Stale");
    }
}
