//! RoleBindings and ClusterRoleBindings.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};

use super::GROUP;
use registry::edit::{at, default_text, each, items, text};
use registry::printing::{AGE, NAME, column, created, name, wide};
use registry::strategy::{NameRule, Strategy, Table};

const SHARED: Strategy = Strategy {
    name: NameRule::PathSegment,
    create_on_update: true,
    default: defaulted,
    table: Some(Table {
        columns: &[
            NAME,
            column("Role", ".roleRef"),
            AGE,
            wide("Users", "Users who get it."),
            wide("Groups", "Groups that get it."),
            wide("ServiceAccounts", "Service accounts that get it."),
        ],
        cells: |binding, now| {
            let role = format!("{}/{}", text(binding, "roleRef.kind"), text(binding, "roleRef.name"));
            let [users, groups, accounts] =
                ["User", "Group", "ServiceAccount"].map(|kind| subjects(binding, kind).into());
            vec![name(binding), role.into(), created(binding, now), users, groups, accounts]
        },
    }),
    ..Strategy::GENERIC
};

pub const ROLE_BINDING: Strategy = Strategy {
    validate: |binding| validate(binding, &["ClusterRole", "Role"], false),
    validate_update: |new, old| {
        validate(new, &["ClusterRole", "Role"], false);
        new.field("roleRef").immutable_because(&old.field("roleRef"), "cannot change roleRef");
    },
    ..SHARED
};

pub const CLUSTER_ROLE_BINDING: Strategy = Strategy {
    validate: |binding| validate(binding, &["ClusterRole"], true),
    validate_update: |new, old| {
        validate(new, &["ClusterRole"], true);
        new.field("roleRef").immutable_because(&old.field("roleRef"), "cannot change roleRef");
    },
    ..SHARED
};

fn defaulted(binding: &mut Value) {
    if let Some(role) = at(binding, "roleRef") {
        default_text(role, "apiGroup", GROUP);
    }
    each(binding, "subjects", |subject| {
        if matches!(text(subject, "kind"), "User" | "Group") {
            default_text(subject, "apiGroup", GROUP);
        }
    });
}

fn validate(binding: &Cursor<'_>, roles: &[&str], cluster: bool) {
    let role = binding.field("roleRef");
    if role.field("apiGroup").str() != GROUP {
        role.field("apiGroup").not_supported(&[GROUP]);
    }
    if !roles.contains(&role.field("kind").str()) {
        role.field("kind").not_supported(roles);
    }
    role.field("name").required_shape(names::path_segment);
    for item in binding.field("subjects").items() {
        subject(&item, cluster);
    }
}

fn subject(subject: &Cursor<'_>, cluster: bool) {
    let (name, group) = (subject.field("name"), subject.field("apiGroup"));
    name.required();
    match subject.field("kind").str() {
        "ServiceAccount" => {
            name.optional_shape(names::dns1123_subdomain);
            if !group.is_empty() {
                group.not_supported(&[""]);
            }
            if cluster {
                subject.field("namespace").required();
            }
        }
        "User" | "Group" => {
            if group.str() != GROUP {
                group.not_supported(&[GROUP]);
            }
        }
        _ => subject.field("kind").not_supported(&["Group", "ServiceAccount", "User"]),
    }
}

fn subjects(binding: &Value, kind: &str) -> String {
    let of_kind = items(binding, "subjects").iter().filter(|s| s["kind"] == kind);
    let shown = |s: &Value| match kind {
        "ServiceAccount" => format!("{}/{}", text(s, "namespace"), text(s, "name")),
        _ => text(s, "name").to_owned(),
    };
    of_kind.map(shown).collect::<Vec<_>>().join(", ")
}
