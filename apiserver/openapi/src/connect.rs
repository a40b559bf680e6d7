//! Operations that connect a client to what runs elsewhere: exec, attach, port forwarding, proxies. What they are asked for stands
//! in the query, and what goes to and fro is no object, so there is no schema of either.

use super::operation::{About, operation_id, path_item, tag};
use super::schemas::gvk_value;
use apimachinery::Value;
use apimachinery::schema::{Schema, Shape};
use registry::resource::{Resource, SubresourceRow};
use serde_json::json;

/// What their options say. Members of the options of several kinds mean the same in each.
const OPTIONS: &[(&str, &str)] = &[
    ("command", "What to run, and its arguments: once for each. No shell is asked."),
    ("container", "The container; may be left out where the pod has one only."),
    ("path", "The path there."),
    ("ports", "Ports to forward to; only where the stream itself does not name them."),
    ("stderr", "Send what it writes to standard error."),
    ("stdin", "Take what it reads from standard input."),
    ("stdout", "Send what it writes to standard output."),
    ("tty", "Give it a terminal."),
];

/// Whether a subresource is one of these.
pub fn connects(sub: &SubresourceRow) -> bool {
    sub.kind.kind.ends_with("Options")
}

/// The paths of a subresource below the path of its object, each with its operations. A proxy goes on into paths of the other
/// server.
pub fn paths(row: &Resource, sub: &SubresourceRow) -> Vec<(String, Value)> {
    let further = sub.name == "proxy";
    let item = |beyond: bool| -> Value {
        let mut item = path_item(row, true);
        if beyond {
            let schema = json!({"type": "string", "uniqueItems": true});
            let text = "The path on the other server.";
            let path = json!({"name": "path", "in": "path", "description": text, "required": true, "schema": schema});
            if let Some(parameters) = item.get_mut("parameters").and_then(Value::as_array_mut) {
                parameters.push(path);
            }
        }
        item.extend(sub.verbs.iter().map(|verb| operation(verb, row, sub, beyond)));
        item.into()
    };
    let mut paths = vec![(sub.name.clone(), item(false))];
    if further {
        paths.push((format!("{}/{{path}}", sub.name), item(true)));
    }
    paths
}

fn operation(verb: &str, row: &Resource, sub: &SubresourceRow, beyond: bool) -> (String, Value) {
    let method = match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    };
    let about = About { kind: &sub.kind, schema: &Value::Null, part: Some(&sub.name), everywhere: false };
    let more = if beyond { "WithPath" } else { "" };
    let operation = json!({
        "description": format!("connect {} to {} of a {}", method.to_uppercase(), sub.name, row.kind.kind),
        "operationId": format!("{}{more}", operation_id(&format!("connect {method}"), row, &about)),
        "tags": [tag(row)],
        "x-kubernetes-action": "connect",
        "x-kubernetes-group-version-kind": gvk_value(&sub.kind),
        "responses": {
            "200": {"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}},
            "401": {"description": "Unauthorized"},
        },
        "parameters": options(sub),
    });
    (method.to_owned(), operation)
}

/// The members of the options, as parameters of the query.
fn options(sub: &SubresourceRow) -> Vec<Value> {
    let schema = Schema::builtin();
    let Some(ty) = schema.kind(&sub.kind.group, &sub.kind.version, &sub.kind.kind) else { return Vec::new() };
    let parameter = |name: &str, shape: &Shape| {
        let form = match shape {
            Shape::Bool => "boolean",
            Shape::List(items) if **items == Shape::Int32 => "integer",
            _ => "string",
        };
        let text = OPTIONS.iter().find(|(option, _)| *option == name).map_or("", |(_, text)| text);
        json!({"name": name, "in": "query", "description": text, "schema": {"type": form, "uniqueItems": true}})
    };
    schema.members(ty).map(|field| parameter(field.name, &field.shape)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinds::rows::builtin;

    #[test]
    fn what_connects_takes_its_options_in_the_query() {
        let rows = builtin();
        let pods = rows.iter().find(|row| row.plural == "pods").unwrap();
        let of = |name: &str| paths(pods, pods.subresource(name).unwrap());
        let exec = of("exec");
        assert_eq!(exec.len(), 1);
        let post = &exec[0].1["post"];
        assert_eq!(post["operationId"], "connectCoreV1PostNamespacedPodExec");
        let parameters = post["parameters"].as_array().unwrap();
        assert!(parameters.iter().all(|p| !p["description"].as_str().unwrap().is_empty()), "{post}");
        assert!(parameters.iter().any(|p| p["name"] == "tty" && p["schema"]["type"] == "boolean"), "{post}");
        let proxy = of("proxy");
        assert_eq!(proxy.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["proxy", "proxy/{path}"]);
        assert_eq!(proxy[1].1["get"]["operationId"], "connectCoreV1GetNamespacedPodProxyWithPath");
    }
}
