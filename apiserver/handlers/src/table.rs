//! The server-side table: what `kubectl get` prints.

use super::descriptions::{OBJECT_META, of_fields};
use apimachinery::Value;
use apimachinery::schema::Schema;
use registry::printing::{CREATED_AT, NAME};
use registry::resource::Resource;
use registry::strategy::{Column, Table};
use serde_json::json;

/// Columns of kinds that have none of their own.
static PLAIN: Table = Table {
    columns: &[NAME, CREATED_AT],
    cells: |object, _| vec![object["metadata"]["name"].clone(), object["metadata"]["creationTimestamp"].clone()],
};

/// What rows carry besides their cells (`?includeObject=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    pub fn parse(query: Option<&str>) -> IncludeObject {
        let value = query.and_then(|q| q.split('&').find_map(|p| p.strip_prefix("includeObject=")));
        match value {
            Some("None") => IncludeObject::None,
            Some("Object") => IncludeObject::Object,
            _ => IncludeObject::Metadata,
        }
    }
}

fn table_of(row: &Resource) -> &'static Table {
    row.strategy.table.as_ref().unwrap_or(&PLAIN)
}

/// The definitions of the columns.
pub fn columns(row: &Resource) -> Value {
    if let Some(columns) = &row.columns {
        let meta = Schema::builtin().by_name(OBJECT_META);
        let texts = meta.map(|ty| of_fields(ty, [".name", ".creationTimestamp"].into_iter())).unwrap_or_default();
        let text = |i: usize| texts.get(i).map_or("", |text| &**text);
        let name = json!({"name": "Name", "type": "string", "format": "name", "priority": 0, "description": text(0)});
        return std::iter::once(name).chain(columns.iter().map(|c| c.definition(text(1)))).collect();
    }
    let columns = table_of(row).columns;
    let kind = row.storage.as_ref().map_or(&row.kind, |storage| &storage.kind);
    let ty = Schema::builtin().kind(&kind.group, &kind.version, &kind.kind);
    let is_path = |column: &&Column| column.description.starts_with('.');
    let paths = columns.iter().filter(is_path).map(|column| column.description);
    let mut texts = ty.map(|ty| of_fields(ty, paths)).unwrap_or_default().into_iter();
    columns
        .iter()
        .map(|c| {
            let text = if is_path(&c) { texts.next().unwrap_or_default() } else { c.description.into() };
            json!({"name": c.name, "type": c.kind, "format": c.format, "description": &*text, "priority": c.priority})
        })
        .collect()
}

/// One row, given the object in the resource's version (with `kind` and `apiVersion`).
pub fn table_row(row: &Resource, object: Value, include: IncludeObject, now: i64) -> Value {
    let cells: Vec<Value> = match &row.columns {
        Some(columns) => {
            let name = object["metadata"]["name"].clone();
            std::iter::once(name).chain(columns.iter().map(|c| c.cell(&object, now))).collect()
        }
        None => (table_of(row).cells)(&object, now),
    };
    let shown = match include {
        IncludeObject::None => return json!({"cells": cells, "object": null}),
        IncludeObject::Metadata => partial(object),
        IncludeObject::Object => object,
    };
    json!({"cells": cells, "object": shown})
}

/// `PartialObjectMetadata` of an object.
pub fn partial(mut object: Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"].take()})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that leads nowhere would leave a column without a text.
    #[test]
    fn every_column_is_described() {
        for row in kinds::rows::builtin() {
            for column in columns(&row).as_array().unwrap() {
                let text = column["description"].as_str().unwrap();
                assert!(text.len() > 10 && !text.starts_with('.'), "{:?}: {column}", row.kind);
            }
        }
        let row = kinds::rows::builtin().into_iter().find(|row| row.plural == "pods").unwrap();
        let told = columns(&row);
        let text = |name: &str| {
            told.as_array().unwrap().iter().find(|c| c["name"] == name).unwrap()["description"].as_str().unwrap()
        };
        assert!(
            text("Name").contains("unique") && text("Age").contains("RFC3339") && text("Node").contains("scheduled")
        );
    }
}
