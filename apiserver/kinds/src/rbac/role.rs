//! Roles and ClusterRoles.

use apimachinery::validation::Cursor;
use apimachinery::validation::selector::label_selector;

use crate::apps::rollout::selector_is_usable;
use registry::printing::{CREATED_AT, NAME, name};
use registry::strategy::{NameRule, Strategy, Table};

const SHARED: Strategy = Strategy {
    name: NameRule::PathSegment,
    create_on_update: true,
    table: Some(Table {
        columns: &[NAME, CREATED_AT],
        cells: |role, _| vec![name(role), role["metadata"]["creationTimestamp"].clone()],
    }),
    ..Strategy::GENERIC
};

pub const ROLE: Strategy =
    Strategy { validate: |role| rules(role, true), validate_update: |new, _| rules(new, true), ..SHARED };

pub const CLUSTER_ROLE: Strategy =
    Strategy { validate: cluster_role, validate_update: |new, _| cluster_role(new), ..SHARED };

fn cluster_role(role: &Cursor<'_>) {
    rules(role, false);
    let aggregation = role.field("aggregationRule");
    if aggregation.exists() {
        let selectors = aggregation.field("clusterRoleSelectors");
        selectors.required_because("at least one clusterRoleSelector required if aggregationRule is non-nil");
        for selector in selectors.items() {
            label_selector(&selector);
            selector_is_usable(&selector);
        }
    }
}

fn rules(role: &Cursor<'_>, namespaced: bool) {
    for rule in role.field("rules").items() {
        rule.field("verbs").required_because("verbs must contain at least one value");
        let urls = rule.field("nonResourceURLs");
        if !urls.is_empty() {
            if namespaced {
                urls.invalid("namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|n| !rule.field(n).is_empty()) {
                urls.invalid("rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        rule.field("apiGroups").required_because("resource rules must supply at least one api group");
        rule.field("resources").required_because("resource rules must supply at least one resource");
    }
}
