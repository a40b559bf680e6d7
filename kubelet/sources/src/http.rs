//! Static pods from a URL (`staticPodURL`), asked for again and again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Pod;
use node_context::Context;
use tokio::sync::watch;

use super::decode;

const BODY_BYTES_MAX: usize = 10 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Follows `staticPodURL` (http only: the file holds no credentials worth a TLS set-up of its own).
pub async fn follow(context: &Arc<Context>, pods: watch::Sender<Option<Vec<Arc<Pod>>>>) {
    let url = context.config.static_pod_url.clone();
    if url.is_empty() {
        pods.send_replace(Some(Vec::new()));
        return std::future::pending().await;
    }
    loop {
        match fetch(context, &url).await {
            Ok(found) => {
                pods.send_replace(Some(found.into_iter().map(Arc::new).collect()));
            }
            Err(error) => {
                tracing::warn!(url, %error, "Can't read static pods from staticPodURL");
                // A URL that does not answer must not hold up the other sources.
                pods.send_if_modified(|pods| pods.is_none().then(|| *pods = Some(Vec::new())).is_some());
            }
        }
        tokio::time::sleep(context.config.http_check_frequency.get()).await;
    }
}

async fn fetch(context: &Context, url: &str) -> anyhow::Result<Vec<Pod>> {
    let mut request = Request::get(url.parse::<Uri>()?);
    for (name, values) in &context.config.static_pod_url_header {
        for value in values {
            request = request.header(name, value);
        }
    }
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let exchange = async {
        let response = client.request(request.body(Empty::new())?).await?;
        anyhow::ensure!(response.status().is_success(), "the server answered {}", response.status());
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("reading the body: {error}"))?.to_bytes();
        Ok(decode::pods(std::str::from_utf8(&body)?, "http", url, &context.node_name)?)
    };
    tokio::time::timeout(TIMEOUT, exchange).await?
}
