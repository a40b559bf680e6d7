//! StorageVersions: in which version the API servers of a cluster write a resource.

use apimachinery::Value;
use apimachinery::validation::{Cursor, names};

use registry::edit::{items, text};
use registry::printing::{AGE, NAME, column, created, name};
use registry::strategy::{Strategy, Subresource, Table};

pub const STRATEGY: Strategy = Strategy {
    unconditional_update: false,
    subresources: &[Subresource {
        name: "status",
        prepare: |version, old, _| registry::edit::copy(version, old, "spec"),
        validate: |new, _| status(&new.field("status")),
        reset_fields: &["metadata", "spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("CommonEncodingVersion", "The version that all servers write, if they agree."),
            column("StorageVersions", "What each server writes."),
            AGE,
        ],
        cells: |version, now| {
            let common = match text(version, "status.commonEncodingVersion") {
                "" => "<unset>",
                common => common,
            };
            vec![name(version), common.into(), servers(version).into(), created(version, now)]
        },
    }),
    ..Strategy::GENERIC
};

/// `server=version` of the first three servers, and how many more there are.
fn servers(version: &Value) -> String {
    const SHOWN_MAX: usize = 3;
    let servers = items(version, "status.storageVersions");
    if servers.is_empty() {
        return "<unset>".into();
    }
    let mut words: Vec<String> = servers
        .iter()
        .take(SHOWN_MAX)
        .map(|s| format!("{}={}", text(s, "apiServerID"), text(s, "encodingVersion")))
        .collect();
    if servers.len() > SHOWN_MAX {
        words.push(format!("+{} more...", servers.len() - SHOWN_MAX));
    }
    words.join(",")
}

fn status(status: &Cursor<'_>) {
    let mut agreed: Option<&str> = None;
    let mut differ = false;
    for server in status.field("storageVersions").items() {
        server.field("apiServerID").shape(names::path_segment);
        let encoding = server.field("encodingVersion");
        encoding.required();
        let decodable = server.field("decodableVersions");
        if !decodable.array().iter().any(|v| v == encoding.str()) {
            decodable.invalid(format!("decodableVersions must include encodingVersion {}", encoding.str()));
        }
        for served in server.field("servedVersions").items() {
            if !decodable.array().iter().any(|v| v == served.str()) {
                served.invalid("individual served version must be in decodableVersions");
            }
        }
        differ |= agreed.is_some_and(|a| a != encoding.str());
        agreed = Some(encoding.str());
    }
    let common = status.field("commonEncodingVersion");
    let expected = agreed.filter(|_| !differ);
    match (expected, common.opt_str()) {
        (Some(want), got) if got != Some(want) => {
            common.invalid(format!("should be {want:?}, what every server writes"));
        }
        (None, Some(_)) => common.invalid("should be nil if servers do not agree on the same encodingVersion"),
        _ => {}
    }
}
