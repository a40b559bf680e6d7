//! APIServices, read.

use apimachinery::Value;
use std::collections::HashMap;
use webhook::Destination;

/// A group and version that another server serves.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Of the APIService: `v1.example.com`.
    pub name: String,
    pub group: String,
    pub version: String,
    pub destination: Destination,
    pub version_priority: i64,
    /// Its condition says so.
    pub available: bool,
}

/// All APIServices.
#[derive(Default)]
pub struct Table {
    /// In the order in which clients prefer the versions of a group.
    pub remotes: Vec<Remote>,
    /// APIServices of what is served here whose condition does not say so yet.
    pub untold: Vec<String>,
    /// `groupPriorityMinimum` of each group, the highest of its versions: groups with more come first.
    pub priorities: HashMap<String, i64>,
}

impl Table {
    pub fn read(services: impl Iterator<Item = Value>) -> Table {
        let mut table = Table::default();
        for service in services {
            let spec = &service["spec"];
            let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
            let group = text(&spec["group"]);
            let priority = table.priorities.entry(group.clone()).or_default();
            *priority = (*priority).max(spec["groupPriorityMinimum"].as_i64().unwrap_or(0));
            let conditions = service["status"]["conditions"].as_array();
            let condition = conditions.and_then(|c| c.iter().find(|c| c["type"] == "Available"));
            let available = condition.is_some_and(|c| c["status"] == "True");
            if !spec["service"].is_object() {
                if !available || condition.is_some_and(|c| c["reason"] != "Local") {
                    table.untold.push(text(&service["metadata"]["name"]));
                }
                continue;
            }
            table.remotes.push(Remote {
                name: text(&service["metadata"]["name"]),
                group,
                version: text(&spec["version"]),
                destination: Destination::api_service(spec),
                version_priority: spec["versionPriority"].as_i64().unwrap_or(0),
                available,
            });
        }
        table.remotes.sort_by(|a, b| {
            let rank = |r: &Remote| std::cmp::Reverse((r.version_priority, handlers::api::version_rank(&r.version)));
            (&a.group, rank(a)).cmp(&(&b.group, rank(b)))
        });
        table
    }

    /// The server of a group and version, if it is another.
    pub fn find(&self, group: &str, version: &str) -> Option<&Remote> {
        self.remotes.iter().find(|r| r.group == group && r.version == version)
    }

    /// The server that a path leads to: `/apis/<group>/<version>` and what is below.
    pub fn of_path(&self, path: &str) -> Option<&Remote> {
        if self.remotes.is_empty() {
            return None;
        }
        let mut parts = path.strip_prefix("/openapi/v3").unwrap_or(path).strip_prefix("/apis/")?.split('/');
        self.find(parts.next()?, parts.next()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_the_server_of_their_group_and_version() {
        let service = |version: &str, priority: i64, remote: bool| {
            let mut spec =
                json!({"group": "g.io", "version": version, "groupPriorityMinimum": priority, "versionPriority": 10});
            if remote {
                spec["service"] = json!({"namespace": "n", "name": "s"});
            }
            json!({"metadata": {"name": format!("{version}.g.io")}, "spec": spec,
                "status": {"conditions": [{"type": "Available", "status": "True"}]}})
        };
        let table =
            Table::read([service("v1beta1", 5, true), service("v1", 9, true), service("v2", 1, false)].into_iter());
        for (path, want) in [
            ("/apis/g.io/v1", Some("v1.g.io")),
            ("/apis/g.io/v1/namespaces/n/things", Some("v1.g.io")),
            ("/openapi/v3/apis/g.io/v1", Some("v1.g.io")),
            ("/apis/g.io/v2/things", None),
            ("/apis/g.io", None),
            ("/apis/other.io/v1", None),
            ("/api/v1", None),
        ] {
            assert_eq!(table.of_path(path).map(|r| &*r.name), want, "{path}");
        }
        assert_eq!(table.remotes.iter().map(|r| &*r.version).collect::<Vec<_>>(), ["v1", "v1beta1"]);
        assert_eq!(table.priorities["g.io"], 9);
        assert!(table.remotes[0].available);
        assert_eq!(table.untold, ["v2.g.io"], "its condition is that of another server's");
    }
}
