//! `additionalPrinterColumns`: cells found by a path, in the part of JSONPath that definitions use.

use crate::handlers::table::age;
use apimachinery::Value;
use serde_json::json;

/// A column of a custom resource.
#[derive(Clone, Debug)]
pub struct PrinterColumn {
    name: String,
    kind: String,
    format: String,
    /// None: the age that every object has, with the description that it has everywhere.
    description: Option<String>,
    priority: i64,
    path: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Index(usize),
    All,
    /// `[?(@.type=="Ready")]`: the items whose member is that text.
    Where(String, String),
}

impl PrinterColumn {
    /// The columns of a version; without any of its own, the age.
    pub fn read(given: &Value) -> Vec<PrinterColumn> {
        match given.as_array().map_or(&[][..], Vec::as_slice) {
            [] => {
                let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
                vec![PrinterColumn { description: None, ..PrinterColumn::column(&age) }]
            }
            columns => columns.iter().map(PrinterColumn::column).collect(),
        }
    }

    fn column(given: &Value) -> PrinterColumn {
        let text = |name: &str| given[name].as_str().unwrap_or("").to_owned();
        let path = text("jsonPath");
        let described = text("description");
        let description = if described.is_empty() { format!("What {path} leads to.") } else { described };
        PrinterColumn {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description: Some(description),
            priority: given["priority"].as_i64().unwrap_or(0),
            path: parse(&path),
        }
    }

    /// The definition of the column in a table; `age` describes the age.
    pub fn definition(&self, age: &str) -> Value {
        let description = self.description.as_deref().unwrap_or(age);
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": description, "priority": self.priority})
    }

    /// The cell of an object; null where there is nothing.
    pub fn cell(&self, object: &Value, now: i64) -> Value {
        let mut found = vec![object];
        for step in &self.path {
            found = found.into_iter().flat_map(|value| take(step, value)).filter(|v| !v.is_null()).collect();
        }
        let Some(first) = found.first() else { return Value::Null };
        match (self.kind.as_str(), *first) {
            ("date", time) => age(time, now).into(),
            ("string", Value::String(text)) if found.len() == 1 => text.as_str().into(),
            ("string", _) => {
                let shown = found.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
                shown.collect::<Vec<_>>().join(",").into()
            }
            (_, value) => value.clone(),
        }
    }
}

fn take<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Member(name) => value.get(name).into_iter().collect(),
        Step::Index(i) => value.get(i).into_iter().collect(),
        Step::All => value.as_array().into_iter().flatten().collect(),
        Step::Where(name, text) => {
            value.as_array().into_iter().flatten().filter(|v| v[name.as_str()] == text.as_str()).collect()
        }
    }
}

/// `.a.b[0].c[?(@.d=="e")]['f']`; what cannot be read ends the path.
fn parse(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path.trim_start_matches('$');
    while !rest.is_empty() {
        let (step, after) = if let Some(inside) = rest.strip_prefix('[') {
            let Some(end) = inside.find(']') else { return steps };
            (bracket(&inside[..end]), &inside[end + 1..])
        } else {
            let (name, after) = member(rest.strip_prefix('.').unwrap_or(rest));
            (Some(Step::Member(name)), after)
        };
        match step {
            Some(step) => steps.push(step),
            None => return steps,
        }
        rest = after;
    }
    steps
}

/// A name up to the next dot or bracket that no backslash precedes.
fn member(text: &str) -> (String, &str) {
    let (mut name, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '.' | '[' if !escaped => return (name, &text[at..]),
            c => {
                name.push(c);
                escaped = false;
            }
        }
    }
    (name, "")
}

fn bracket(inside: &str) -> Option<Step> {
    let unquoted = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    if let Some(filter) = inside.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
        let (name, text) = filter.split_once("==")?;
        return Some(Step::Where(name.trim().strip_prefix("@.")?.to_owned(), unquoted(text)));
    }
    match inside {
        "*" => Some(Step::All),
        quoted if quoted.starts_with(['\'', '"']) => Some(Step::Member(unquoted(quoted))),
        number => number.parse().ok().map(Step::Index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_by_the_paths_that_definitions_use() {
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "x"}},
            "spec": {"names": ["m", "n"], "size": 3},
            "status": {"conditions": [{"type": "Other"}, {"type": "Ready", "status": "True"}]},
        });
        let cell = |kind: &str, path: &str| {
            let columns = PrinterColumn::read(&json!([{"name": "n", "type": kind, "jsonPath": path}]));
            columns[0].cell(&object, 0)
        };
        for (kind, path, wanted) in [
            ("integer", ".spec.size", json!(3)),
            ("string", ".spec.names[1]", json!("n")),
            ("string", ".spec.names[*]", json!("m,n")),
            ("string", ".status.conditions[?(@.type == \"Ready\")].status", json!("True")),
            ("string", ".status.conditions[?(@.type=='Gone')].status", Value::Null),
            ("string", ".metadata.annotations.a\\.b/c", json!("x")),
            ("string", ".metadata.annotations['a.b/c']", json!("x")),
            ("string", ".status.none", Value::Null),
        ] {
            assert_eq!(cell(kind, path), wanted, "{path}");
        }
    }
}
