//! Which requests a webhook or a policy is asked about: rules over operations and resources, exclusions, names and selectors.
//!
//! Pure: what must be looked up (labels of the namespace, the other versions of a resource) comes in with the question.

use apimachinery::Value;
use apimachinery::selector::{LabelSelector, SelectorError};

/// A request as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: &'a str,
    pub resource: Gvr<'a>,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for objects outside of namespaces. A Namespace is one of them, whatever stands here.
    pub namespace: &'a str,
    /// Empty for a create whose name is still to be generated.
    pub name: &'a str,
}

/// A resource in one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gvr<'a> {
    pub group: &'a str,
    pub version: &'a str,
    /// The plural.
    pub resource: &'a str,
}

impl Gvr<'_> {
    fn is_namespaces(&self) -> bool {
        (self.group, self.resource) == ("", "namespaces")
    }
}

/// One rule: all of its lists must name the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// `pods`, `pods/status`, `pods/*`, `*/scale`, `*`, `*/*`.
    resources: Vec<String>,
    scope: Scope,
    /// Empty names all.
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Scope {
    #[default]
    All,
    Cluster,
    Namespaced,
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// `*` or the thing itself is in the list.
fn names(list: &[String], thing: &str) -> bool {
    list.iter().any(|item| item == "*" || item == thing)
}

impl Rule {
    /// Reads a `RuleWithOperations` or a `NamedRuleWithOperations`.
    pub fn read(rule: &Value) -> Rule {
        Rule {
            operations: texts(&rule["operations"]),
            groups: texts(&rule["apiGroups"]),
            versions: texts(&rule["apiVersions"]),
            resources: texts(&rule["resources"]),
            scope: match rule["scope"].as_str() {
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                _ => Scope::All,
            },
            names: texts(&rule["resourceNames"]),
        }
    }

    /// Reads a list of rules; absent is empty.
    pub fn read_list(rules: &Value) -> Vec<Rule> {
        rules.as_array().into_iter().flatten().map(Rule::read).collect()
    }

    /// Whether the request is one that the rule names.
    pub fn matches(&self, target: &Target<'_>) -> bool {
        self.matches_as(target, target.resource)
    }

    /// The same with the resource of the request taken to be another.
    fn matches_as(&self, target: &Target<'_>, resource: Gvr<'_>) -> bool {
        let namespaced = !target.namespace.is_empty() && !resource.is_namespaces();
        names(&self.operations, target.operation)
            && names(&self.groups, resource.group)
            && names(&self.versions, resource.version)
            && self.resources.iter().any(|r| names_resource(r, resource.resource, target.subresource))
            && match self.scope {
                Scope::All => true,
                Scope::Cluster => !namespaced,
                Scope::Namespaced => namespaced,
            }
            && (self.names.is_empty() || self.names.iter().any(|n| n == target.name))
    }
}

/// Whether `pattern` names the resource or subresource. Without a slash it names no subresource.
fn names_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    let (of_resource, of_subresource) = pattern.split_once('/').unwrap_or((pattern, ""));
    (of_resource == "*" || of_resource == resource) && (of_subresource == "*" || of_subresource == subresource)
}

/// The first version of a resource that one of the rules names: the request's own if it is named, else (where `equivalent` is asked
/// for) the first of its other versions that is. What is called is called with the object in that version.
pub fn find<'a>(
    rules: &[Rule],
    target: &Target<'a>,
    equivalent: bool,
    others: impl IntoIterator<Item = Gvr<'a>>,
) -> Option<Gvr<'a>> {
    if rules.iter().any(|rule| rule.matches(target)) {
        return Some(target.resource);
    }
    let mut others = others.into_iter().filter(|other| equivalent && *other != target.resource);
    others.find(|other| rules.iter().any(|rule| rule.matches_as(target, *other)))
}

/// A `MatchResources`: selectors, exclusions, rules.
#[derive(Clone, Debug)]
pub struct MatchResources {
    pub rules: Vec<Rule>,
    pub excludes: Vec<Rule>,
    /// `matchPolicy: Equivalent`
    pub equivalent: bool,
    pub namespace_selector: LabelSelector,
    pub object_selector: LabelSelector,
}

impl MatchResources {
    /// Reads a `matchConstraints` or `matchResources`.
    ///
    /// # Errors
    /// A selector that no label can meet because it is malformed.
    pub fn read(matches: &Value) -> Result<MatchResources, SelectorError> {
        Ok(MatchResources {
            rules: Rule::read_list(&matches["resourceRules"]),
            excludes: Rule::read_list(&matches["excludeResourceRules"]),
            equivalent: matches["matchPolicy"] == "Equivalent",
            namespace_selector: selector(&matches["namespaceSelector"])?,
            object_selector: selector(&matches["objectSelector"])?,
        })
    }

    /// The version of the resource in which the request is matched by the rules; without rules all requests are. Selectors are not
    /// asked.
    pub fn resource<'a>(&self, target: &Target<'a>, others: &[Gvr<'a>]) -> Option<Gvr<'a>> {
        let of = |rules: &[Rule]| find(rules, target, self.equivalent, others.iter().copied());
        match of(&self.excludes) {
            Some(_) => None,
            None if self.rules.is_empty() => Some(target.resource),
            None => of(&self.rules),
        }
    }

    /// Whether the object selector takes the new or the old object.
    pub fn selects_object(&self, new: Option<&Value>, old: Option<&Value>) -> bool {
        selects_object(&self.object_selector, new, old)
    }
}

/// Reads the selector of a matcher: absent selects everything, unlike in the specs of workloads.
pub fn selector(value: &Value) -> Result<LabelSelector, SelectorError> {
    if value.is_null() { Ok(LabelSelector::everything()) } else { LabelSelector::from_object(Some(value)) }
}

/// Whether a selector takes the object as it will be or as it was.
pub fn selects_object(selector: &LabelSelector, new: Option<&Value>, old: Option<&Value>) -> bool {
    let takes = |object: &Value| selector.matches_object(object.get("metadata").and_then(|m| m.get("labels")));
    selector.is_everything() || new.is_some_and(takes) || old.is_some_and(takes)
}

/// Where the labels come from that a namespace selector is held against.
#[derive(Debug, PartialEq)]
pub enum NamespaceLabels<'a> {
    /// The request has no namespace: every selector takes it.
    None,
    /// The request creates or changes a namespace: the labels it will have.
    Own,
    /// The labels of this namespace, which must be looked up.
    Of(&'a str),
}

/// Whose labels a namespace selector is held against for a request.
pub fn namespace_labels<'a>(target: &Target<'a>) -> NamespaceLabels<'a> {
    if target.resource.is_namespaces() {
        let written = target.subresource.is_empty() && matches!(target.operation, "CREATE" | "UPDATE");
        return if written { NamespaceLabels::Own } else { NamespaceLabels::Of(target.name) };
    }
    if target.namespace.is_empty() { NamespaceLabels::None } else { NamespaceLabels::Of(target.namespace) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PODS: Gvr<'_> = Gvr { group: "", version: "v1", resource: "pods" };
    const NAMESPACES: Gvr<'_> = Gvr { group: "", version: "v1", resource: "namespaces" };
    const DEPLOYMENTS: Gvr<'_> = Gvr { group: "apps", version: "v1", resource: "deployments" };

    fn target<'a>(operation: &'a str, resource: Gvr<'a>, subresource: &'a str, namespace: &'a str) -> Target<'a> {
        Target { operation, resource, subresource, namespace, name: "x" }
    }

    fn rule(operations: &str, group: &str, version: &str, resource: &str, scope: &str) -> Value {
        json!({"operations": [operations], "apiGroups": [group], "apiVersions": [version], "resources": [resource], "scope": scope})
    }

    #[test]
    fn a_rule_names_requests() {
        let pod = target("CREATE", PODS, "", "default");
        let status = target("UPDATE", PODS, "status", "default");
        let namespace = target("CREATE", NAMESPACES, "", "x");
        for (given, asked, want) in [
            (rule("CREATE", "", "v1", "pods", "*"), pod, true),
            (rule("UPDATE", "", "v1", "pods", "*"), pod, false),
            (rule("*", "*", "*", "*", "*"), pod, true),
            (rule("*", "apps", "*", "*", "*"), pod, false),
            (rule("*", "", "v2", "*", "*"), pod, false),
            (rule("*", "", "v1", "services", "*"), pod, false),
            (rule("*", "", "v1", "pods", "*"), status, false),
            (rule("*", "", "v1", "*", "*"), status, false),
            (rule("*", "", "v1", "*/*", "*"), status, true),
            (rule("*", "", "v1", "pods/*", "*"), status, true),
            (rule("*", "", "v1", "pods/*", "*"), pod, true),
            (rule("*", "", "v1", "*/status", "*"), status, true),
            (rule("*", "", "v1", "pods/status", "*"), pod, false),
            (rule("*", "", "v1", "pods", "Namespaced"), pod, true),
            (rule("*", "", "v1", "pods", "Cluster"), pod, false),
            (rule("*", "", "v1", "namespaces", "Namespaced"), namespace, false),
            (rule("*", "", "v1", "namespaces", "Cluster"), namespace, true),
            (json!({}), pod, false),
        ] {
            assert_eq!(Rule::read(&given).matches(&asked), want, "{given} {asked:?}");
        }
        let mut named = rule("*", "", "v1", "pods", "*");
        for (name, want) in [("x", true), ("y", false)] {
            named["resourceNames"] = json!([name]);
            assert_eq!(Rule::read(&named).matches(&pod), want);
        }
    }

    #[test]
    fn equivalent_versions_match_where_asked_for() {
        let beta = Gvr { version: "v1beta1", ..DEPLOYMENTS };
        let rules = [Rule::read(&rule("*", "apps", "v1beta1", "deployments", "*"))];
        let asked = target("CREATE", DEPLOYMENTS, "", "default");
        assert_eq!(find(&rules, &asked, true, [DEPLOYMENTS, beta]), Some(beta));
        assert_eq!(find(&rules, &asked, false, [DEPLOYMENTS, beta]), None);
        assert_eq!(find(&rules, &target("CREATE", beta, "", "default"), false, []), Some(beta));
    }

    #[test]
    fn exclusions_go_before_rules() {
        let matches = |value: Value| MatchResources::read(&value).unwrap();
        let (all, pods) = (rule("*", "*", "*", "*", "*"), rule("*", "", "v1", "pods", "*"));
        let asked = target("CREATE", PODS, "", "default");
        for (value, want) in [
            (json!({}), Some(PODS)),
            (json!({"resourceRules": [all]}), Some(PODS)),
            (json!({"resourceRules": [all], "excludeResourceRules": [pods]}), None),
            (json!({"excludeResourceRules": [pods]}), None),
            (json!({"resourceRules": [rule("*", "apps", "*", "*", "*")]}), None),
        ] {
            assert_eq!(matches(value.clone()).resource(&asked, &[]), want, "{value}");
        }
        assert!(MatchResources::read(&json!({"objectSelector": {"matchLabels": {"-": "-"}}})).is_err());
    }

    #[test]
    fn selectors_look_at_either_object_and_at_the_right_namespace() {
        let matches = MatchResources::read(&json!({"objectSelector": {"matchLabels": {"a": "b"}}})).unwrap();
        let (with, without) = (json!({"metadata": {"labels": {"a": "b"}}}), json!({"metadata": {}}));
        for (new, old, want) in [
            (Some(&with), None, true),
            (Some(&without), Some(&with), true),
            (Some(&without), None, false),
            (None, Some(&with), true),
            (None, None, false),
        ] {
            assert_eq!(matches.selects_object(new, old), want);
        }
        for (asked, want) in [
            (target("CREATE", PODS, "", "n"), NamespaceLabels::Of("n")),
            (target("CREATE", NAMESPACES, "", ""), NamespaceLabels::Own),
            (target("DELETE", NAMESPACES, "", ""), NamespaceLabels::Of("x")),
            (target("UPDATE", NAMESPACES, "status", ""), NamespaceLabels::Of("x")),
            (target("UPDATE", DEPLOYMENTS, "", ""), NamespaceLabels::None),
        ] {
            assert_eq!(namespace_labels(&asked), want);
        }
    }
}
