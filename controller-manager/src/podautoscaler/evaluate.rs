//! One metric of a HorizontalPodAutoscaler: what is measured, and how many pods that calls for.

use std::{sync::Arc, time::Instant};

use apimachinery::{
    quantity::{Format, Quantity},
    selector::label::LabelSelector,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        autoscaling::v2::{
            ContainerResourceMetricStatus, ExternalMetricStatus, MetricIdentifier, MetricSpec, MetricStatus,
            MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
        },
        core::v1::Pod,
    },
    apimachinery::pkg::api::resource::Quantity as Text,
};

use super::{
    measurements::Measurements,
    monitor,
    replicas::{self, Initially, Proposal, Sample, Target, Tolerances},
};
use crate::common::scale::Scales;

/// What a metric is evaluated about.
pub(super) struct Subject<'a> {
    pub measurements: &'a Measurements,
    pub scales: &'a Scales,
    pub namespace: &'a str,
    /// The pods of the target, and the selector that means them.
    pub pods: &'a [Arc<Pod>],
    pub selector: &'a str,
    pub tolerances: Tolerances,
    pub initially: Initially,
    /// How many pods the target should have, and has.
    pub wanted: i32,
    pub there: i32,
}

/// What one metric calls for.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub replicas: i32,
    /// The metric, in words.
    pub name: String,
    pub status: MetricStatus,
}

/// Why a metric calls for nothing.
#[derive(Debug)]
pub(super) struct Failure {
    /// Of the condition.
    pub reason: &'static str,
    /// For the event and the condition.
    pub message: String,
    /// The same, and what was being done.
    pub error: String,
    /// The object is wrong, not its surroundings.
    pub is_spec: bool,
}

/// What is told about the measured amount.
fn current(target: &MetricTarget, proposal: &Proposal, format: Format) -> MetricValueStatus {
    let amount = Some(Text(Quantity::from_milli(proposal.milli, format).to_string()));
    match target.average_value.is_some() || target.average_utilization.is_some() {
        true => MetricValueStatus {
            average_value: amount,
            average_utilization: proposal.utilization,
            ..MetricValueStatus::default()
        },
        false => MetricValueStatus { value: amount, ..MetricValueStatus::default() },
    }
}

fn milli(quantity: &Option<Text>) -> Option<i64> {
    Some(Quantity::parse(&quantity.as_ref()?.0).ok()?.milli_value())
}

/// The text of a metric's selector; of all values if it has none.
fn selector_text(metric: &MetricIdentifier) -> Result<String, String> {
    let Some(selector) = &metric.selector else { return Ok(String::new()) };
    let value = serde_json::to_value(selector).map_err(|error| error.to_string())?;
    LabelSelector::from_object(Some(&value)).map(|selector| selector.to_string()).map_err(|error| error.to_string())
}

impl Subject<'_> {
    pub async fn evaluate(&self, spec: &MetricSpec) -> Result<Evaluated, Failure> {
        let started = Instant::now();
        let evaluated = self.dispatch(spec).await;
        let result = match &evaluated {
            Ok(evaluated) => Ok(evaluated.replicas.cmp(&self.wanted)),
            Err(failure) => Err(failure.is_spec),
        };
        monitor::computed(&spec.type_, result, started.elapsed());
        evaluated
    }

    async fn dispatch(&self, spec: &MetricSpec) -> Result<Evaluated, Failure> {
        let mut status = MetricStatus { type_: spec.type_.clone(), ..MetricStatus::default() };
        if let Some(own) = spec.resource.as_ref().filter(|_| spec.type_ == "Resource") {
            let found = self.resource(&own.name, "", &own.target).await;
            let (proposal, name) = found.map_err(|message| {
                let error = format!("failed to get {} resource metric value: {message}", own.name);
                Failure { reason: "FailedGetResourceMetric", message, error, is_spec: false }
            })?;
            let current = current(&own.target, &proposal, format_of(&own.name));
            status.resource = Some(ResourceMetricStatus { name: own.name.clone(), current });
            return Ok(Evaluated { replicas: proposal.replicas, name, status });
        }
        if let Some(own) = spec.container_resource.as_ref().filter(|_| spec.type_ == "ContainerResource") {
            let found = self.resource(&own.name, &own.container, &own.target).await;
            let (proposal, name) = found.map_err(|message| {
                let error = format!("failed to get {} container metric value: {message}", own.container);
                Failure { reason: "FailedGetContainerResourceMetric", message, error, is_spec: false }
            })?;
            let current = current(&own.target, &proposal, format_of(&own.name));
            let (name_of, container) = (own.name.clone(), own.container.clone());
            status.container_resource = Some(ContainerResourceMetricStatus { name: name_of, container, current });
            return Ok(Evaluated { replicas: proposal.replicas, name, status });
        }
        if let Some(own) = spec.pods.as_ref().filter(|_| spec.type_ == "Pods") {
            let proposal = self.pods(&own.metric, &own.target).await.map_err(|message| {
                let error = format!("failed to get pods metric value: {message}");
                Failure { reason: "FailedGetPodsMetric", message, error, is_spec: false }
            })?;
            let current = current(&own.target, &proposal, Format::DecimalSi);
            status.pods = Some(PodsMetricStatus { metric: own.metric.clone(), current });
            let name = format!("pods metric {}", own.metric.name);
            return Ok(Evaluated { replicas: proposal.replicas, name, status });
        }
        if let Some(own) = spec.object.as_ref().filter(|_| spec.type_ == "Object") {
            let proposal = self.object(own).await.map_err(|message| {
                let error = format!("failed to get object metric value: {message}");
                Failure { reason: "FailedGetObjectMetric", message, error, is_spec: false }
            })?;
            let current = current(&own.target, &proposal, Format::DecimalSi);
            let (metric, described_object) = (own.metric.clone(), own.described_object.clone());
            status.object = Some(ObjectMetricStatus { metric, described_object, current });
            let name = match own.target.average_value {
                Some(_) => external_name(&own.metric),
                None => format!("{} metric {}", own.described_object.kind, own.metric.name),
            };
            return Ok(Evaluated { replicas: proposal.replicas, name, status });
        }
        if let Some(own) = spec.external.as_ref().filter(|_| spec.type_ == "External") {
            let proposal = self.external(&own.metric, &own.target).await.map_err(|message| {
                let error = format!("failed to get {} external metric value: {message}", own.metric.name);
                Failure { reason: "FailedGetExternalMetric", message, error, is_spec: false }
            })?;
            let current = current(&own.target, &proposal, Format::DecimalSi);
            status.external = Some(ExternalMetricStatus { metric: own.metric.clone(), current });
            return Ok(Evaluated { replicas: proposal.replicas, name: external_name(&own.metric), status });
        }
        let message = format!("unknown metric source type {:?}", spec.type_);
        Err(Failure { reason: "InvalidMetricSourceType", error: message.clone(), message, is_spec: true })
    }

    async fn resource(
        &self,
        resource: &str,
        container: &str,
        target: &MetricTarget,
    ) -> Result<(Proposal, String), String> {
        let (average, percent) = (milli(&target.average_value), target.average_utilization);
        let what = if average.is_some() { "usage" } else { "utilization" };
        if average.is_none() && percent.is_none() {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".into());
        }
        let computed = async {
            let metrics = self.measurements.resource(resource, self.namespace, self.selector, container).await;
            let metrics = metrics.map_err(|error| format!("unable to get metrics for resource {resource}: {error}"))?;
            let target = match (average, percent) {
                (Some(milli), _) => Target::Average { milli },
                (None, percent) => {
                    let requests = replicas::requests(self.pods, resource, container)?;
                    Target::Utilization { percent: percent.unwrap_or(0), requests }
                }
            };
            self.by_pods(&target, metrics, resource == "cpu")
        };
        let proposal = computed.await.map_err(|error: String| format!("failed to get {resource} {what}: {error}"))?;
        let name = match (average, container) {
            (Some(_), _) => format!("{resource} resource"),
            (None, "") => format!("{resource} resource utilization (percentage of request)"),
            (None, _) => format!("{resource} container resource utilization (percentage of request)"),
        };
        Ok((proposal, name))
    }

    fn by_pods(&self, target: &Target, metrics: replicas::PodMetrics, is_cpu: bool) -> Result<Proposal, String> {
        let sample = Sample { pods: self.pods, metrics, is_cpu, now: Timestamp::now() };
        replicas::by_pods(self.wanted, target, self.tolerances, sample, self.initially)
    }

    async fn pods(&self, metric: &MetricIdentifier, target: &MetricTarget) -> Result<Proposal, String> {
        let average =
            milli(&target.average_value).ok_or("invalid pods metric source: no average value target was set")?;
        let metrics =
            self.measurements.pods(&metric.name, self.namespace, self.selector, &selector_text(metric)?).await;
        let metrics = metrics.map_err(|error| format!("unable to get metric {}: {error}", metric.name))?;
        self.by_pods(&Target::Average { milli: average }, metrics, false)
    }

    async fn object(&self, own: &k8s_openapi::api::autoscaling::v2::ObjectMetricSource) -> Result<Proposal, String> {
        let (object, metric) = (&own.described_object, &own.metric);
        let read = async {
            let api_version = object.api_version.as_deref().unwrap_or_default();
            let resource = self.scales.resource(api_version, &object.kind).await.map_err(|error| error.to_string())?;
            let selector = selector_text(metric)?;
            self.measurements.object(&metric.name, self.namespace, object, &resource, &selector).await
        };
        let milli_now = read.await.map_err(|error: String| {
            format!(
                "unable to get metric {}: {error} on {} {}/{}",
                metric.name, object.kind, self.namespace, object.name
            )
        })?;
        match (own.target.type_.as_str(), milli(&own.target.value), milli(&own.target.average_value)) {
            ("Value", Some(target), _) => {
                replicas::by_value(self.wanted, milli_now, target, self.tolerances, self.pods)
            }
            ("AverageValue", _, Some(target)) => Ok(replicas::by_share(self.there, milli_now, target, self.tolerances)),
            _ => Err("invalid object metric source: neither a value target nor an average value target was set".into()),
        }
    }

    async fn external(&self, metric: &MetricIdentifier, target: &MetricTarget) -> Result<Proposal, String> {
        let read = self.measurements.external(&metric.name, self.namespace, &selector_text(metric)?).await;
        let milli_now = read.map_err(|error| {
            format!("unable to get external metric {}/{}: {error}", self.namespace, external_name(metric))
        })?;
        match (milli(&target.average_value), milli(&target.value)) {
            (Some(target), _) => Ok(replicas::by_share(self.there, milli_now, target, self.tolerances)),
            (None, Some(target)) => replicas::by_value(self.wanted, milli_now, target, self.tolerances, self.pods),
            _ => {
                Err("invalid external metric source: neither a value target nor an average value target was set".into())
            }
        }
    }
}

fn external_name(metric: &MetricIdentifier) -> String {
    let selector = selector_text(metric).unwrap_or_default();
    let selector = if metric.selector.is_none() { "nil" } else { &selector };
    format!("external metric {}({selector})", metric.name)
}

fn format_of(resource: &str) -> Format {
    if resource == "memory" { Format::BinarySi } else { Format::DecimalSi }
}
