//! Pods stay some minutes on a node that is not ready or not reachable, unless they say otherwise.

use apimachinery::Value;
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use request::status::Result;
use serde_json::json;

/// How long, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct DefaultTolerationSeconds {
    pub not_ready: i64,
    pub unreachable: i64,
}

impl Default for DefaultTolerationSeconds {
    fn default() -> Self {
        Self { not_ready: 300, unreachable: 300 }
    }
}

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("CU", "")
    }

    fn admit<'a>(&'a self, _: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        let applies = attributes.is_resource("", "pods")
            && attributes.subresource.is_empty()
            && matches!(attributes.operation, Operation::Create | Operation::Update);
        if let (true, Some(pod)) = (applies, attributes.object.as_mut()) {
            self.add(pod);
        }
        Box::pin(async { Ok(()) })
    }
}

impl DefaultTolerationSeconds {
    fn add(&self, pod: &mut Value) {
        let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        for (taint, seconds) in [(NOT_READY, self.not_ready), (UNREACHABLE, self.unreachable)] {
            let tolerated = tolerations.iter().any(|t| {
                let key = t["key"].as_str().unwrap_or("");
                (key == taint || key.is_empty()) && matches!(t["effect"].as_str().unwrap_or(""), "" | "NoExecute")
            });
            if !tolerated {
                tolerations.push(
                    json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}),
                );
            }
        }
        pod["spec"]["tolerations"] = tolerations.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_tolerated_already_is_added() {
        let mut pod =
            json!({"spec": {"tolerations": [{"key": NOT_READY, "operator": "Exists", "effect": "NoExecute"}]}});
        let plugin = DefaultTolerationSeconds { unreachable: 7, ..Default::default() };
        plugin.add(&mut pod);
        let tolerations = pod["spec"]["tolerations"].as_array().unwrap().clone();
        assert_eq!(tolerations.len(), 2);
        assert_eq!((&tolerations[1]["key"], &tolerations[1]["tolerationSeconds"]), (&json!(UNREACHABLE), &json!(7)));
        let mut all = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        plugin.add(&mut all);
        assert_eq!(all["spec"]["tolerations"].as_array().unwrap().len(), 1);
    }
}
