//! A new node is tainted as not ready, so that nothing lands on it before it says that it is.

use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use request::status::Result;
use serde_json::json;

pub struct TaintNodesByCondition;

const TAINT: &str = "node.kubernetes.io/not-ready";

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("C", "")
    }

    fn admit<'a>(&'a self, _: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        let applies = attributes.is_resource("", "nodes")
            && attributes.subresource.is_empty()
            && attributes.operation == Operation::Create;
        if let (true, Some(node)) = (applies, attributes.object.as_mut()) {
            let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
            if !taints.iter().any(|t| t["key"] == TAINT && t["effect"] == "NoSchedule") {
                taints.push(json!({"key": TAINT, "effect": "NoSchedule"}));
                node["spec"]["taints"] = taints.into();
            }
        }
        Box::pin(async { Ok(()) })
    }
}
