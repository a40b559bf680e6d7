//! Role based access control: roles hold rules, bindings give roles to subjects.
//!
//! The index follows the caches of the four kinds by their watches, drained when somebody asks: a change costs its own size, and
//! a question costs the bindings of the user and its groups, not those of the cluster.

use handlers::api::Api;
use handlers::api::authorization::{Attributes, Authorizer, Decision};
use parking_lot::Mutex;
use request::User;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use storage::cache::Cache;
use storage::object::{EventType, Object};
use storage::watchers::{Scope, Subscription};

/// A PolicyRule.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    pub fn allows(&self, attributes: &Attributes) -> bool {
        if !has(&self.verbs, attributes.verb) {
            return false;
        }
        match &attributes.resource {
            Some(r) => {
                has(&self.api_groups, r.group)
                    && self.allows_resource(r.resource, r.subresource)
                    && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == r.name))
            }
            None => self.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => attributes.path.starts_with(prefix),
                None => url == attributes.path,
            }),
        }
    }

    fn allows_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|rule| match rule.split_once('/') {
            _ if rule == "*" => true,
            None => subresource.is_empty() && rule == resource,
            // `*/scale` is that subresource of everything.
            Some((of, sub)) => sub == subresource && !subresource.is_empty() && (of == "*" || of == resource),
        })
    }
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|v| v == "*" || v == value)
}

/// Roles and bindings have the same few members; what is absent stays empty.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Parsed {
    rules: Option<Vec<Rule>>,
    role_ref: RoleRef,
    subjects: Option<Vec<Subject>>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

impl Subject {
    /// The user or group that a subject stands for; groups are marked, since a user may have the same name.
    fn key(&self, binding_namespace: &str) -> String {
        match self.kind.as_str() {
            "Group" => group_key(&self.name),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                format!("system:serviceaccount:{namespace}:{}", self.name)
            }
            _ => self.name.clone(),
        }
    }
}

fn group_key(group: &str) -> String {
    format!("\0{group}")
}

/// A binding's key and the role it refers to.
type Bound = (Box<str>, RoleRef);

#[derive(Default)]
struct Index {
    /// By key: `name` of a ClusterRole, `namespace/name` of a Role.
    roles: HashMap<Box<str>, Arc<[Rule]>>,
    /// By namespace (empty: the cluster) and subject: the bindings' keys and what they refer to.
    bindings: HashMap<Box<str>, HashMap<String, Vec<Bound>>>,
    /// By binding's key: the subjects it was put under.
    subjects: HashMap<Box<str>, Vec<String>>,
}

impl Index {
    fn put_role(&mut self, object: &Object) {
        let parsed: Parsed = serde_json::from_slice(&object.json).unwrap_or_default();
        self.roles.insert(object.key.clone(), parsed.rules.unwrap_or_default().into());
    }

    fn put_binding(&mut self, object: &Object) {
        self.remove_binding(object);
        let parsed: Parsed = serde_json::from_slice(&object.json).unwrap_or_default();
        let namespace = object.namespace();
        let keys: Vec<String> = parsed.subjects.unwrap_or_default().iter().map(|s| s.key(namespace)).collect();
        let by_subject = self.bindings.entry(namespace.into()).or_default();
        for key in &keys {
            by_subject.entry(key.clone()).or_default().push((object.key.clone(), parsed.role_ref.clone()));
        }
        self.subjects.insert(object.key.clone(), keys);
    }

    fn remove_binding(&mut self, object: &Object) {
        let Some(keys) = self.subjects.remove(&object.key) else { return };
        let Some(by_subject) = self.bindings.get_mut(object.namespace()) else { return };
        for key in keys {
            if let Some(list) = by_subject.get_mut(&key) {
                list.retain(|(binding, _)| *binding != object.key);
                if list.is_empty() {
                    by_subject.remove(&key);
                }
            }
        }
        if by_subject.is_empty() {
            self.bindings.remove(object.namespace());
        }
    }

    /// Calls `visit` with each rule that applies to `user` in `namespace`, and the binding it comes from, until it says stop.
    fn visit(&self, user: &User, namespace: &str, mut visit: impl FnMut(&str, &RoleRef, &Rule) -> bool) {
        let subjects = || std::iter::once(user.name.clone()).chain(user.groups.iter().map(|g| group_key(g)));
        let scopes = ["", namespace];
        for scope in &scopes[..if namespace.is_empty() { 1 } else { 2 }] {
            let Some(by_subject) = self.bindings.get(*scope) else { continue };
            for (binding, role) in subjects().filter_map(|s| by_subject.get(&s)).flatten() {
                let rules = match role.kind.as_str() {
                    "ClusterRole" => self.roles.get(role.name.as_str()),
                    _ => self.roles.get(format!("{scope}/{}", role.name).as_str()),
                };
                for rule in rules.into_iter().flat_map(|r| r.iter()) {
                    if visit(binding, role, rule) {
                        return;
                    }
                }
            }
        }
    }
}

struct Followed {
    cache: Arc<Cache>,
    bindings: bool,
    changes: Subscription,
}

/// The RBAC authorizer.
pub struct Rbac {
    state: Mutex<(Index, Vec<Followed>)>,
}

const KINDS: [(&str, bool); 4] =
    [("clusterroles", false), ("roles", false), ("clusterrolebindings", true), ("rolebindings", true)];

impl Rbac {
    /// # Errors
    /// When the RBAC group is switched off.
    pub fn new(api: &Api) -> request::status::Result<Rbac> {
        let mut index = Index::default();
        let mut followed = Vec::new();
        for (plural, bindings) in KINDS {
            let cache = api.builtin("rbac.authorization.k8s.io", "v1", plural)?.cache()?.clone();
            let changes = follow(&cache, bindings, &mut index);
            followed.push(Followed { cache, bindings, changes });
        }
        Ok(Rbac { state: Mutex::new((index, followed)) })
    }

    /// The index, up to date with the caches.
    fn with<T>(&self, ask: impl FnOnce(&Index) -> T) -> T {
        let mut state = self.state.lock();
        let (index, followed) = &mut *state;
        for kind in followed.iter_mut() {
            while let Some(event) = kind.changes.try_next() {
                match (kind.bindings, event.kind) {
                    (true, EventType::Deleted) => index.remove_binding(&event.object),
                    (true, _) => index.put_binding(&event.object),
                    (false, EventType::Deleted) => {
                        index.roles.remove(&event.object.key);
                    }
                    (false, _) => index.put_role(&event.object),
                }
            }
        }
        // A subscription that was cut off (too far behind, or the cache was loaded anew) starts over, with all the others.
        if followed.iter().any(|kind| kind.changes.is_closed()) {
            *index = Index::default();
            for kind in followed.iter_mut() {
                kind.changes = follow(&kind.cache, kind.bindings, index);
            }
        }
        ask(index)
    }

    /// Every rule that applies to a user in a namespace: for SelfSubjectRulesReview and the check against escalation.
    pub fn rules(&self, user: &User, namespace: &str) -> Vec<Rule> {
        self.with(|index| {
            let mut rules = Vec::new();
            index.visit(user, namespace, |_, _, rule| {
                rules.push(rule.clone());
                false
            });
            rules
        })
    }

    /// The rules of a role; none if there is no such role.
    pub fn role(&self, key: &str) -> Option<Arc<[Rule]>> {
        self.with(|index| index.roles.get(key).cloned())
    }
}

impl Authorizer for Rbac {
    fn decide(&self, attributes: &Attributes) -> Decision {
        let namespace = attributes.resource.map_or("", |r| r.namespace);
        self.with(|index| {
            let mut decision = Decision::NoOpinion(String::new());
            index.visit(attributes.user, namespace, |binding, role, rule| {
                let allows = rule.allows(attributes);
                if allows {
                    decision = Decision::Allow(format!(
                        "RBAC: allowed by {} of {} \"{}\" to a subject of the user",
                        if binding.contains('/') {
                            format!("RoleBinding \"{binding}\"")
                        } else {
                            format!("ClusterRoleBinding \"{binding}\"")
                        },
                        role.kind,
                        role.name
                    ));
                }
                allows
            });
            decision
        })
    }
}

/// Puts what a cache holds into the index and subscribes to what follows.
fn follow(cache: &Cache, bindings: bool, index: &mut Index) -> Subscription {
    let (snapshot, changes) = cache.watch_with_state(Scope::All);
    for entry in &snapshot.objects {
        if bindings { index.put_binding(&entry.0) } else { index.put_role(&entry.0) }
    }
    changes
}

/// Whether `owned` rules together grant everything that `wanted` grants, told by breaking wanted rules into single grants.
pub fn covers(owned: &[Rule], wanted: &Rule) -> bool {
    let covered = |verb: &str, group: &str, resource: &str, name: Option<&str>| {
        owned.iter().any(|rule| {
            let (plural, sub) = resource.split_once('/').unwrap_or((resource, ""));
            has(&rule.verbs, verb)
                && has(&rule.api_groups, group)
                && (rule.resources.iter().any(|r| r == resource)
                    || rule.allows_resource(plural, sub) && resource != "*")
                && (rule.resource_names.is_empty() || name.is_some_and(|n| rule.resource_names.iter().any(|r| r == n)))
        })
    };
    let urls = |verb: &str, url: &str| {
        owned.iter().any(|rule| {
            has(&rule.verbs, verb)
                && rule.non_resource_urls.iter().any(|u| match u.strip_suffix('*') {
                    Some(prefix) => url.starts_with(prefix),
                    None => u == url,
                })
        })
    };
    wanted.verbs.iter().all(|verb| {
        wanted.non_resource_urls.iter().all(|url| urls(verb, url))
            && wanted.api_groups.iter().all(|group| {
                wanted.resources.iter().all(|resource| match wanted.resource_names.as_slice() {
                    [] => covered(verb, group, resource, None),
                    names => names.iter().all(|name| covered(verb, group, resource, Some(name))),
                })
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use handlers::api::authorization::ResourceAttributes;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let list = |l: &[&str]| l.iter().map(|s| s.to_string()).collect();
        Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            ..Rule::default()
        }
    }

    #[test]
    fn rules_allow_by_verb_group_resource_and_name() {
        let user = User::default();
        let asks = |verb, group, resource, subresource, name| Attributes {
            user: &user,
            verb,
            resource: Some(ResourceAttributes {
                group,
                resource,
                subresource,
                namespace: "a",
                name,
                ..Default::default()
            }),
            path: "",
        };
        let cases = [
            (rule(&["get"], &[""], &["pods"], &[]), asks("get", "", "pods", "", "x"), true),
            (rule(&["get"], &[""], &["pods"], &[]), asks("list", "", "pods", "", ""), false),
            (rule(&["get"], &[""], &["pods"], &[]), asks("get", "", "pods", "log", "x"), false),
            (rule(&["get"], &[""], &["pods/log"], &[]), asks("get", "", "pods", "log", "x"), true),
            (rule(&["*"], &["*"], &["*"], &[]), asks("get", "apps", "deployments", "scale", "x"), true),
            (
                rule(&["update"], &["apps"], &["*/scale"], &[]),
                asks("update", "apps", "deployments", "scale", "x"),
                true,
            ),
            (rule(&["get"], &[""], &["secrets"], &["a"]), asks("get", "", "secrets", "", "b"), false),
            (rule(&["get"], &[""], &["secrets"], &["a"]), asks("get", "", "secrets", "", "a"), true),
        ];
        for (rule, attributes, allowed) in cases {
            assert_eq!(rule.allows(&attributes), allowed, "{rule:?} {attributes:?}");
        }
    }

    #[test]
    fn nobody_grants_more_than_they_have() {
        let owned =
            [rule(&["get", "list"], &[""], &["pods", "services"], &[]), rule(&["get"], &[""], &["secrets"], &["a"])];
        let cases = [
            (rule(&["get"], &[""], &["pods"], &[]), true),
            (rule(&["get"], &[""], &["pods", "services"], &["x"]), true),
            (rule(&["*"], &[""], &["pods"], &[]), false),
            (rule(&["get"], &["*"], &["pods"], &[]), false),
            (rule(&["get"], &[""], &["*"], &[]), false),
            (rule(&["get"], &[""], &["secrets"], &[]), false),
            (rule(&["get"], &[""], &["secrets"], &["a"]), true),
        ];
        for (wanted, covered) in cases {
            assert_eq!(covers(&owned, &wanted), covered, "{wanted:?}");
        }
    }
}
