//! Admission of streams: the operation is CONNECT, the object is what the query says, as `PodExecOptions` and the like.

use super::Backends;
use apimachinery::Value;
use apimachinery::codec::Report;
use handlers::api::Endpoint;
use handlers::api::admission::{Attributes, Operation};
use request::RequestInfo;
use request::User;
use request::status::{Result, Status};
use serde_json::json;
use std::sync::Arc;
use url::form_urlencoded::parse;

/// Asks admission about a stream before it is opened.
pub async fn admit(
    backends: &Backends,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    user: &User,
    query: &str,
) -> Result<()> {
    let mut object = options(&info.subresource, query, &info.rest);
    if let Some(form) = endpoint.row.form_of(&info.subresource) {
        form.normalize(&mut object, &mut Report::default()).map_err(|e| Status::bad_request(e.to_string()))?;
    }
    let of = (&*info.namespace, &*info.name);
    let mut attributes = Attributes {
        object: Some(object),
        ..Attributes::new(endpoint, Operation::Connect, &info.subresource, of, user)
    };
    backends.api.admission.pass(&backends.api, &mut attributes).await
}

/// The options of a stream as an object.
fn options(subresource: &str, query: &str, rest: &str) -> Value {
    let mut object = json!({});
    for (name, value) in parse(query.as_bytes()) {
        let on = matches!(&*value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True");
        match (subresource, &*name) {
            ("exec" | "attach", "stdin" | "stdout" | "stderr" | "tty") => object[&*name] = on.into(),
            ("exec" | "attach", "container") => object["container"] = (*value).into(),
            ("exec", "command") => push(&mut object["command"], (*value).into()),
            ("portforward", "ports") => {
                value
                    .split(',')
                    .filter_map(|p| p.parse::<i64>().ok())
                    .for_each(|p| push(&mut object["ports"], p.into()));
            }
            _ => {}
        }
    }
    if subresource == "proxy" && !rest.is_empty() {
        object["path"] = rest.into();
    }
    object
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        _ => *list = vec![item].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_the_options() {
        for (subresource, query, rest, want) in [
            (
                "exec",
                "stdin=true&tty=false&container=c&command=ls&command=-l",
                "",
                json!({"stdin": true, "tty": false, "container": "c", "command": ["ls", "-l"]}),
            ),
            ("attach", "stdout=1&command=x", "", json!({"stdout": true})),
            ("portforward", "ports=80,443&ports=8080", "", json!({"ports": [80, 443, 8080]})),
            ("proxy", "a=b", "/x/y", json!({"path": "/x/y"})),
        ] {
            assert_eq!(options(subresource, query, rest), want, "{subresource} {query}");
        }
    }
}
