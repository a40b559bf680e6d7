//! Where static pods come from: a directory, and a URL. The API server's pods come by the shared store. What is done with
//! the pods, and whether they are let in, is the pod manager's business.

mod decode;
mod file;
mod http;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use node_context::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Follows the sources until shutdown; what they want is in `statics`, once both have been read.
pub async fn run(context: Arc<Context>, statics: watch::Sender<Option<Vec<Arc<Pod>>>>, shutdown: CancellationToken) {
    let (file_sender, mut files) = watch::channel(None::<Vec<Arc<Pod>>>);
    let (http_sender, mut https) = watch::channel(None::<Vec<Arc<Pod>>>);
    let merge = async {
        loop {
            let both = (files.borrow_and_update().clone(), https.borrow_and_update().clone());
            if let (Some(mut pods), Some(more)) = both {
                pods.extend(more);
                statics.send_replace(Some(pods));
            }
            tokio::select! {
                Ok(()) = files.changed() => {}
                Ok(()) = https.changed() => {}
                else => std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = file::follow(&context, file_sender) => {}
        () = http::follow(&context, http_sender) => {}
        () = merge => {}
    }
}
