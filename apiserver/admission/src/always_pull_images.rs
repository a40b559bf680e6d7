//! Pulls every image anew, so that a pod needs the right to an image even where its node has it already.

use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use registry::edit::each;
use request::status::Result;

pub struct AlwaysPullImages;

impl Plugin for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("CU", "CU")
    }

    fn admit<'a>(&'a self, _: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        let applies = writes && attributes.is_resource("", "pods") && attributes.subresource.is_empty();
        if let (true, Some(pod)) = (applies, attributes.object.as_mut()) {
            for list in ["initContainers", "containers"] {
                each(&mut pod["spec"], list, |container| container["imagePullPolicy"] = "Always".into());
            }
        }
        Box::pin(async { Ok(()) })
    }
}
