//! The three APIs that tell what is used: metrics.k8s.io, custom.metrics.k8s.io, external.metrics.k8s.io.

use std::time::Duration;

use apimachinery::quantity::Quantity;
use component_base::cli::GoDuration;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use kube::{Client, api::ApiResource};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use super::replicas::{Measured, PodMetrics};
use crate::common::{Doing, Result};

/// What a pod is taken to be measured over where the API does not say.
const WINDOW: Duration = Duration::from_secs(60);
/// Versions of the custom metrics API, the better ones first.
const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];

#[derive(Clone)]
pub(super) struct Measurements {
    pub client: Client,
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct PodUse {
    metadata: Name,
    timestamp: Timestamp,
    #[serde(default)]
    window: GoDuration,
    #[serde(default)]
    containers: Vec<ContainerUse>,
}

#[derive(Deserialize)]
struct Name {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct ContainerUse {
    name: String,
    #[serde(default)]
    usage: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    described_object: Name,
    timestamp: Timestamp,
    window_seconds: Option<u64>,
    value: String,
}

#[derive(Deserialize)]
struct ExternalValue {
    value: String,
}

fn milli(text: &str) -> Option<i64> {
    Some(Quantity::parse(text).ok()?.milli_value())
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Measurements {
    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str, of: &str) -> Result<T, String> {
        let failed = |why: String| format!("unable to fetch metrics from {of} metrics API: {why}");
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| failed(error.to_string()))?;
        let answer = self.client.request::<T>(request).await;
        answer.doing(String::new).map_err(|error| failed(error.reason()))
    }

    /// Items of a list, of which there must be one.
    async fn list<T: serde::de::DeserializeOwned>(&self, path: &str, of: &str) -> Result<Vec<T>, String> {
        let list: List<T> = self.get(path, of).await?;
        if list.items.is_empty() {
            return Err(format!("no metrics returned from {of} metrics API"));
        }
        Ok(list.items)
    }

    /// What pods use of a resource, or one container of each; pods of which that is not known are left out.
    pub async fn resource(
        &self,
        resource: &str,
        namespace: &str,
        selector: &str,
        container: &str,
    ) -> Result<PodMetrics, String> {
        let path =
            format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={}", encoded(selector));
        let pods: Vec<PodUse> = self.list(&path, "resource").await?;
        Ok(pods.into_iter().filter_map(|pod| used(pod, resource, container)).collect())
    }

    /// A metric of each pod.
    pub async fn pods(
        &self,
        metric: &str,
        namespace: &str,
        selector: &str,
        metric_selector: &str,
    ) -> Result<PodMetrics, String> {
        let query = format!("?labelSelector={}&metricLabelSelector={}", encoded(selector), encoded(metric_selector));
        let path = format!("namespaces/{namespace}/pods/*/{}{query}", encoded(metric));
        let values: Vec<MetricValue> = self.custom(&path).await?;
        let measured = values.into_iter().filter_map(|own| {
            let window = own.window_seconds.map_or(WINDOW, Duration::from_secs);
            Some((own.described_object.name, Measured { milli: milli(&own.value)?, at: own.timestamp, window }))
        });
        Ok(measured.collect())
    }

    /// A metric of one object.
    pub async fn object(
        &self,
        metric: &str,
        namespace: &str,
        object: &CrossVersionObjectReference,
        resource: &ApiResource,
        metric_selector: &str,
    ) -> Result<i64, String> {
        let metric = encoded(metric);
        let query = format!("?metricLabelSelector={}", encoded(metric_selector));
        let path = if resource.group.is_empty() && resource.kind == "Namespace" {
            format!("namespaces/{namespace}/metrics/{metric}{query}")
        } else {
            let group = if resource.group.is_empty() { String::new() } else { format!(".{}", resource.group) };
            format!("namespaces/{namespace}/{}{group}/{}/{metric}{query}", resource.plural, object.name)
        };
        let values: Vec<MetricValue> = self.custom(&path).await?;
        match &values[..] {
            [one] => milli(&one.value).ok_or_else(|| format!("the value {:?} is no quantity", one.value)),
            many => Err(format!(
                "unable to fetch metrics from custom metrics API: the custom metrics API server returned {} results when we asked for exactly one",
                many.len()
            )),
        }
    }

    async fn custom<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, String> {
        let group: Value = self.get("/apis/custom.metrics.k8s.io", "custom").await?;
        let served =
            |version: &&str| group["versions"].as_array().into_iter().flatten().any(|own| own["version"] == **version);
        let version = CUSTOM_VERSIONS.into_iter().find(served);
        let version = version.ok_or("unable to fetch metrics from custom metrics API: no version of it is known")?;
        self.list(&format!("/apis/custom.metrics.k8s.io/{version}/{path}"), "custom").await
    }

    /// The sum of a metric of something outside of the cluster.
    pub async fn external(&self, metric: &str, namespace: &str, selector: &str) -> Result<i64, String> {
        let query = format!("?labelSelector={}", encoded(selector));
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{}{query}", encoded(metric));
        let values: Vec<ExternalValue> = self.list(&path, "external").await?;
        Ok(values.iter().filter_map(|own| milli(&own.value)).fold(0, i64::saturating_add))
    }
}

fn used(pod: PodUse, resource: &str, container: &str) -> Option<(String, Measured)> {
    let of = |own: &ContainerUse| milli(own.usage.get(resource)?);
    let milli = if container.is_empty() {
        // A sum that leaves something out would be a lie.
        let uses = pod.containers.iter().map(of).collect::<Option<Vec<_>>>()?;
        uses.into_iter().reduce(i64::saturating_add)?
    } else {
        of(pod.containers.iter().find(|own| own.name == container)?)?
    };
    Some((pod.metadata.name, Measured { milli, at: pod.timestamp, window: pod.window.get() }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_uses_what_all_its_containers_do() {
        let pod = |containers: Value| -> PodUse {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "timestamp": "2024-01-01T00:00:00Z",
                "window": "30s", "containers": containers}))
            .unwrap()
        };
        let both =
            json!([{"name": "a", "usage": {"cpu": "250m", "memory": "1Ki"}}, {"name": "b", "usage": {"cpu": "1"}}]);
        for (resource, container, milli) in [
            ("cpu", "", Some(1250)),
            ("cpu", "b", Some(1000)),
            ("memory", "a", Some(1_024_000)),
            ("memory", "", None),
            ("cpu", "c", None),
        ] {
            let found = used(pod(both.clone()), resource, container);
            assert_eq!(found.as_ref().map(|(_, own)| own.milli), milli, "{resource} {container}");
            assert!(found.is_none_or(|(name, own)| name == "p" && own.window == Duration::from_secs(30)));
        }
        assert!(used(pod(json!([])), "cpu", "").is_none());
    }
}
