//! Which kinds a policy is about, as far as it names them: rules with wildcards could mean anything, and say nothing about types.

use std::fmt;

use k8s_openapi::api::admissionregistration::v1::{NamedRuleWithOperations, ParamKind};
use kube::discovery::Discovery;

/// Types that one policy is checked against; more would make a status that nobody reads.
const KINDS_MAX: usize = 10;

/// Shown as upstream shows it: `apps/v1, Kind=Deployment`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.group.is_empty() { "" } else { "/" };
        write!(f, "{}{slash}{}, Kind={}", self.group, self.version, self.kind)
    }
}

/// Group, version, plural.
pub type Resource = (String, String, String);

/// The resources that rules name in full. Subresources have types of their own, which upstream does not look at either.
pub fn resources(rules: &[NamedRuleWithOperations]) -> Vec<Resource> {
    let mut found = Vec::new();
    for rule in rules {
        let [groups, versions, plurals] =
            [&rule.api_groups, &rule.api_versions, &rule.resources].map(|list| list.as_deref().unwrap_or_default());
        if [groups, versions, plurals].into_iter().flatten().any(|word| word == "*") {
            continue;
        }
        for group in groups {
            for version in versions {
                for plural in plurals.iter().filter(|plural| !plural.contains('/')) {
                    let resource = (group.clone(), version.clone(), plural.clone());
                    if !found.contains(&resource) {
                        found.push(resource);
                    }
                }
            }
        }
    }
    found
}

/// The kinds of the resources that are served, in order.
pub fn served(discovery: &Discovery, resources: &[Resource]) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (group, version, plural) in resources {
        let versioned = discovery.get(group).map(|served| served.versioned_resources(version)).unwrap_or_default();
        let Some((resource, _)) = versioned.into_iter().find(|(resource, _)| resource.plural == *plural) else {
            continue;
        };
        let kind = Kind { group: resource.group, version: resource.version, kind: resource.kind };
        if kinds.len() < KINDS_MAX && !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.sort();
    kinds
}

pub fn of_params(kind: &ParamKind) -> Kind {
    let api_version = kind.api_version.as_deref().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Kind { group: group.into(), version: version.into(), kind: kind.kind.clone().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_resources_where_they_have_no_wildcards() {
        let list = |words: &str| Some(words.split(',').map(str::to_owned).collect());
        let rule = |groups: &str, versions: &str, plurals: &str| NamedRuleWithOperations {
            api_groups: list(groups),
            api_versions: list(versions),
            resources: list(plurals),
            ..NamedRuleWithOperations::default()
        };
        let resource =
            |group: &str, version: &str, plural: &str| (group.to_owned(), version.to_owned(), plural.to_owned());
        for (rules, want) in [
            (vec![rule("apps", "v1", "deployments,deployments/scale")], vec![resource("apps", "v1", "deployments")]),
            (vec![rule("*", "v1", "pods"), rule("", "*", "pods"), rule("", "v1", "*")], vec![]),
            (
                vec![rule("", "v1", "pods"), rule("", "v1,v2", "pods")],
                vec![resource("", "v1", "pods"), resource("", "v2", "pods")],
            ),
        ] {
            assert_eq!(resources(&rules), want);
        }
        let kind = Kind { group: String::new(), version: "v1".into(), kind: "Pod".into() };
        assert_eq!(kind.to_string(), "v1, Kind=Pod");
        let params = ParamKind { api_version: Some("a.b/v1".into()), kind: Some("C".into()) };
        assert_eq!(of_params(&params).to_string(), "a.b/v1, Kind=C");
    }
}
