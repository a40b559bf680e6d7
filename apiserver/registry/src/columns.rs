//! `additionalPrinterColumns`: cells found by a path.

use crate::printing::age;
use apimachinery::Value;
use apimachinery::jsonpath::JsonPath;
use apimachinery::time::canonical_time;
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
    path: JsonPath,
}

impl PrinterColumn {
    /// The columns of a version; without any of its own, the age. A path that is none ends them: those before it are shown, as
    /// upstream shows them, for a definition with such a path is not refused.
    pub fn read(given: &Value) -> Vec<PrinterColumn> {
        match given.as_array().map_or(&[][..], Vec::as_slice) {
            [] => {
                let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
                PrinterColumn::column(&age).map(|age| PrinterColumn { description: None, ..age }).into_iter().collect()
            }
            columns => columns.iter().map_while(PrinterColumn::column).collect(),
        }
    }

    /// None where the path is none.
    fn column(given: &Value) -> Option<PrinterColumn> {
        let text = |name: &str| given[name].as_str().unwrap_or("").to_owned();
        let path = text("jsonPath");
        let described = text("description");
        let description = if described.is_empty() { format!("What {path} leads to.") } else { described };
        Some(PrinterColumn {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description: Some(description),
            priority: given["priority"].as_i64().unwrap_or(0),
            path: JsonPath::parse(&path).ok()?,
        })
    }

    /// The definition of the column in a table; `age` describes the age.
    pub fn definition(&self, age: &str) -> Value {
        let description = self.description.as_deref().unwrap_or(age);
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": description, "priority": self.priority})
    }

    /// The cell of an object: the first that the path finds; null where there is nothing, or nothing of the column's type.
    pub fn cell(&self, object: &Value, now: i64) -> Value {
        let found = self.path.find(object).unwrap_or_default();
        let Some(first) = found.first() else { return Value::Null };
        match (self.kind.as_str(), &**first) {
            (_, Value::Null) => Value::Null,
            ("string", value) => shown(value).into(),
            ("integer", Value::Number(number)) => match number.as_i64() {
                Some(number) => number.into(),
                None => number.as_f64().map_or(Value::Null, |number| (number as i64).into()),
            },
            ("number", Value::Number(number)) => number.clone().into(),
            ("boolean", Value::Bool(on)) => (*on).into(),
            ("date", Value::String(time)) if !time.is_empty() && canonical_time(time).is_none() => "<invalid>".into(),
            ("date", time @ Value::String(_)) => age(time, now).into(),
            _ => Value::Null,
        }
    }
}

/// A value as text: what is made of others, as JSON that is safe in HTML.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(_) | Value::Array(_) => {
            value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
        }
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or(0.0)),
        other => other.to_string(),
    }
}

/// As Go prints it: digits only, unless they were many.
fn float(number: f64) -> String {
    let text = format!("{number:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    match exponent.parse::<i32>() {
        Ok(exponent @ -4..21) => match exponent {
            _ if number.fract() == 0.0 => format!("{number:.0}"),
            _ => number.to_string(),
        },
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        Err(_) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_by_the_paths_that_definitions_use() {
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "x"}, "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"names": ["m", "n"], "size": 3, "ratio": 1.5, "on": true, "html": {"a": "<b>"}, "large": 1e21,
                "million": 1e6, "nothing": null},
            "status": {"conditions": [{"type": "Other"}, {"type": "Ready", "status": "True"}]},
        });
        let cell = |kind: &str, path: &str| {
            let columns = PrinterColumn::read(&json!([{"name": "n", "type": kind, "jsonPath": path}]));
            columns[0].cell(&object, 60)
        };
        for (kind, path, wanted) in [
            ("integer", ".spec.size", json!(3)),
            ("integer", ".spec.ratio", json!(1)),
            ("integer", ".spec.names[0]", Value::Null),
            ("number", ".spec.ratio", json!(1.5)),
            ("number", ".spec.size", json!(3)),
            ("boolean", ".spec.on", json!(true)),
            ("boolean", ".spec.size", Value::Null),
            ("date", ".metadata.creationTimestamp", json!("60s")),
            ("date", ".spec.names[0]", json!("<invalid>")),
            ("date", ".spec.size", Value::Null),
            ("string", ".spec.names[1]", json!("n")),
            ("string", ".spec.names[-1:]", json!("n")),
            // The first of several; a list is one.
            ("string", ".spec.names[*]", json!("m")),
            ("string", ".spec.names", json!("[\"m\",\"n\"]")),
            ("string", ".spec.html", json!("{\"a\":\"\\u003cb\\u003e\"}")),
            ("string", ".spec.size", json!("3")),
            ("string", ".spec.ratio", json!("1.5")),
            ("string", ".spec.large", json!("1e+21")),
            ("string", ".spec.million", json!("1000000")),
            ("string", ".spec.on", json!("true")),
            ("string", ".status.conditions[?(@.type == \"Ready\")].status", json!("True")),
            ("string", ".status.conditions[?(@.type=='Gone')].status", Value::Null),
            (
                "string",
                "..status",
                json!("{\"conditions\":[{\"type\":\"Other\"},{\"status\":\"True\",\"type\":\"Ready\"}]}"),
            ),
            ("string", ".metadata.annotations.a\\.b/c", json!("x")),
            ("string", ".metadata.annotations['a\\.b/c']", json!("x")),
            ("string", ".status.none", Value::Null),
            ("string", ".spec.size[0]", Value::Null),
            ("string", ".spec.nothing", Value::Null),
        ] {
            assert_eq!(cell(kind, path), wanted, "{path}");
        }
    }

    #[test]
    fn columns_end_where_a_path_is_none() {
        let column = |path: &str| json!({"name": path, "type": "string", "jsonPath": path, "priority": 1});
        let columns = PrinterColumn::read(&json!([column(".a"), column(".b["), column(".c")]));
        let definitions: Vec<Value> = columns.iter().map(|column| column.definition("")).collect();
        let description = "What .a leads to.";
        assert_eq!(
            definitions,
            [json!({"name": ".a", "type": "string", "format": "", "description": description, "priority": 1})]
        );
        assert_eq!(PrinterColumn::read(&json!([])).len(), 1);
    }
}
