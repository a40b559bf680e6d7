//! horizontal-pod-autoscaler-controller: gives a target as many pods as its metrics call for.
//!
//! [`measurements`] asks the metrics APIs, [`replicas`] makes a number of pods of what they say, [`evaluate`] does both for one
//! metric, [`behavior`] decides how fast the target follows. This file reads the scale, takes the largest number, writes it,
//! and tells what happened.

mod behavior;
mod evaluate;
mod measurements;
mod monitor;
mod replicas;

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use apimachinery::selector::label::LabelSelector;
use component_base::{
    controller::{self, Action},
    events::{Recorder, Type},
    informer::{Change, ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use k8s_openapi::api::{
    autoscaling::{
        v1::Scale,
        v2::{
            HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec,
            HorizontalPodAutoscalerStatus, MetricStatus,
        },
    },
    core::v1::Pod,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, PostParams},
};
use parking_lot::Mutex;

use self::{
    behavior::{Bounds, History},
    evaluate::{Failure, Subject},
    measurements::Measurements,
    replicas::{Initially, Tolerances},
};
use crate::{
    common::{Doing, Error, Result, meta, pod, scale::Scales},
    context::Context,
    options::AutoscalerOptions,
};

const ABLE: &str = "AbleToScale";
const ACTIVE: &str = "ScalingActive";
const LIMITED: &str = "ScalingLimited";

pub async fn run(context: Context) {
    let controller = Controller {
        autoscalers: context.factory.store(Scope::all()),
        pods: context.pods(),
        scales: Scales::new(context.client.clone()),
        measurements: Measurements { client: context.client.clone() },
        options: context.options.autoscaler.clone(),
        memory: Mutex::default(),
        recorder: context.recorder("horizontal-pod-autoscaler"),
        client: context.client.clone(),
    };
    let queue = WorkQueue::new("horizontalpodautoscaler");
    let feed = queue.clone();
    controller.autoscalers.on_change(move |change| match change {
        // Own writes of the status are no reason to measure again.
        Change::Updated { old, new } if old.metadata.generation == new.metadata.generation => {}
        change => feed.add(change.key()),
    });
    tokio::join!(controller.autoscalers.synced(), controller.pods.synced());
    let controller = &controller;
    let workers = context.options.workers.concurrent_horizontal_pod_autoscaler_syncs;
    controller::run(
        context.name,
        queue,
        workers,
        context.shutdown,
        |key| async move { controller.reconcile(&key).await },
    )
    .await;
}

/// What is known of one autoscaler from one sync to the next.
#[derive(Default)]
struct Memory {
    history: History,
    /// The pods of its target, to find out about others that have them too.
    selector: Option<LabelSelector>,
}

struct Controller {
    autoscalers: Store<HorizontalPodAutoscaler>,
    pods: Store<Pod>,
    scales: Scales,
    measurements: Measurements,
    options: AutoscalerOptions,
    memory: Mutex<HashMap<ObjectKey, Memory>>,
    recorder: Recorder,
    client: Client,
}

/// One sync of one autoscaler; its status is written at the end, whatever happened.
struct Sync<'a> {
    controller: &'a Controller,
    key: &'a ObjectKey,
    autoscaler: &'a HorizontalPodAutoscaler,
    spec: &'a HorizontalPodAutoscalerSpec,
    status: HorizontalPodAutoscalerStatus,
}

/// Why a sync came to nothing.
struct Failed {
    error: Error,
    is_spec: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, is_spec: false }
    }
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result {
        monitor::count(self.autoscalers.len());
        let Some(autoscaler) = self.autoscalers.get(key) else {
            self.memory.lock().remove(key);
            monitor::forget(&key.namespace, &key.name);
            return Ok(Action::Done);
        };
        let started = Instant::now();
        let spec = autoscaler.spec.clone().unwrap_or_default();
        let status = autoscaler.status.clone().unwrap_or_default();
        let mut sync = Sync { controller: self, key, autoscaler: &autoscaler, spec: &spec, status };
        let outcome = sync.run().await;
        monitor::reconciled(outcome.as_ref().copied().map_err(|failed| failed.is_spec), started.elapsed());
        let status = sync.status;
        if let Err(Failed { error, .. }) = outcome {
            // Said in conditions and events too; it is tried again at the next sync.
            tracing::debug!(autoscaler = %key, %error, "Cannot scale");
        }
        if Some(&status) != autoscaler.status.as_ref() {
            self.write(&autoscaler, status).await?;
        }
        Ok(Action::After(self.options.horizontal_pod_autoscaler_sync_period.get()))
    }

    async fn write(&self, autoscaler: &HorizontalPodAutoscaler, status: HorizontalPodAutoscalerStatus) -> Result<()> {
        let mut updated = autoscaler.clone();
        updated.status = Some(status);
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), meta::namespace(autoscaler));
        let name = meta::name(autoscaler);
        let what = || format!("update the status of HorizontalPodAutoscaler {}", meta::key(autoscaler));
        let written = api.replace_status(name, &PostParams::default(), &updated).await.or_gone(what);
        written.map(drop).inspect_err(|error| {
            if error.code() != Some(409) {
                self.recorder.event(autoscaler, Type::Warning, "FailedUpdateStatus", error.reason());
            }
        })
    }
}

impl Sync<'_> {
    fn condition(&mut self, kind: &str, status: bool, reason: &str, message: impl Into<String>) {
        set(&mut self.status, kind, status, reason, message.into());
    }

    fn warn(&self, reason: &str, message: impl Into<String>) {
        self.controller.recorder.event(self.autoscaler, Type::Warning, reason, message);
    }

    /// Measures and scales; returns which way.
    async fn run(&mut self) -> Result<Ordering, Failed> {
        let (scale, resource) = self.scale().await?;
        self.condition(
            ABLE,
            true,
            "SucceededGetScale",
            "the HPA controller was able to get the target's current scale",
        );
        let current = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        self.with_memory(|memory| {
            if memory.history.recommendations.is_empty() {
                memory.history.recommendations.push((current, Instant::now()));
            }
        });
        let (min, max) = (self.spec.min_replicas.unwrap_or(1), self.spec.max_replicas);
        let mut metrics = None;
        let mut failure = None;
        let (desired, why) = if current == 0 && min != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            self.condition(ACTIVE, false, "ScalingDisabled", message);
            (current, String::new())
        } else if current > max {
            (max, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if current < min {
            (min, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            let (statuses, recommended) = self.recommend(&scale, current).await;
            metrics = (!statuses.is_empty()).then_some(statuses);
            let (recommended, name) = match recommended {
                Ok((replicas, name, error)) => {
                    failure = error;
                    (replicas, name)
                }
                Err(failed) => {
                    self.tell(current, self.status.desired_replicas, metrics);
                    self.warn("FailedComputeMetricsReplicas", failed.error.to_string());
                    return Err(failed);
                }
            };
            let why = match recommended.cmp(&current) {
                Ordering::Greater => format!("{name} above target"),
                Ordering::Less => "All metrics below target".to_owned(),
                Ordering::Equal => String::new(),
            };
            (self.normalize(Bounds { min, max, current }, recommended), why)
        };
        if desired != current {
            let set = self.controller.scales.set(&self.key.namespace, &resource, scale, desired).await;
            if let Err(error) = set {
                let told = error.reason();
                self.warn("FailedRescale", format!("New size: {desired}; reason: {why}; error: {told}"));
                let message = format!("the HPA controller was unable to update the target scale: {told}");
                self.condition(ABLE, false, "FailedUpdateScale", message);
                self.tell(current, self.status.desired_replicas, metrics);
                return Err(error.into());
            }
            let message = format!("the HPA controller was able to update the target scale to {desired}");
            self.condition(ABLE, true, "SucceededRescale", message);
            let message = format!("New size: {desired}; reason: {why}");
            self.controller.recorder.event(self.autoscaler, Type::Normal, "SuccessfulRescale", message);
            let rules = self.spec.behavior.as_ref();
            self.with_memory(|memory| {
                behavior::remember(&mut memory.history, rules, current, desired, Instant::now());
            });
            self.status.last_scale_time = Some(meta::now());
        }
        self.tell(current, desired, metrics);
        monitor::desired(&self.key.namespace, &self.key.name, desired);
        failure.map_or(Ok(desired.cmp(&current)), Err)
    }

    fn with_memory<T>(&self, look: impl FnOnce(&mut Memory) -> T) -> T {
        look(self.controller.memory.lock().entry(self.key.clone()).or_default())
    }

    fn tell(&mut self, current: i32, desired: i32, metrics: Option<Vec<MetricStatus>>) {
        self.status.current_replicas = Some(current);
        self.status.desired_replicas = desired;
        self.status.current_metrics = metrics;
    }

    async fn scale(&mut self) -> Result<(Scale, ApiResource), Failed> {
        let target = &self.spec.scale_target_ref;
        let api_version = target.api_version.as_deref().unwrap_or("v1");
        let found = self.controller.scales.get(&self.key.namespace, api_version, &target.kind, &target.name).await;
        let (error, is_spec) = match found {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {
                let what = format!("{} {}/{} has no scale", target.kind, self.key.namespace, target.name);
                (Error::Invalid(format!("{what}: the object or its scale subresource was not found")), false)
            }
            Err(error) => {
                let is_spec = api_version.split('/').count() > 2;
                (error, is_spec)
            }
        };
        let told = error.reason();
        self.warn("FailedGetScale", told.clone());
        let message = format!("the HPA controller was unable to get the target's current scale: {told}");
        self.condition(ABLE, false, "FailedGetScale", message);
        Err(Failed { error, is_spec })
    }

    /// What all metrics call for together: the largest number. Those that cannot be read forbid to shrink.
    #[allow(clippy::type_complexity)]
    async fn recommend(
        &mut self,
        scale: &Scale,
        current: i32,
    ) -> (Vec<MetricStatus>, Result<(i32, String, Option<Failed>), Failed>) {
        let selector = scale.status.as_ref().and_then(|status| status.selector.clone()).unwrap_or_default();
        let pods = match self.pods(&selector) {
            Ok(pods) => pods,
            Err(message) => {
                let error = Error::Invalid(message);
                return (Vec::new(), Err(error.into()));
            }
        };
        let options = &self.controller.options;
        let specs = self.spec.metrics.as_deref().unwrap_or_default();
        let subject = Subject {
            measurements: &self.controller.measurements,
            scales: &self.controller.scales,
            namespace: &self.key.namespace,
            pods: &pods,
            selector: &selector,
            tolerances: tolerances(options, self.spec),
            initially: Initially {
                cpu_initialization: options.horizontal_pod_autoscaler_cpu_initialization_period.get(),
                readiness_delay: options.horizontal_pod_autoscaler_initial_readiness_delay.get(),
            },
            wanted: current,
            there: scale.status.as_ref().map_or(0, |status| status.replicas),
        };
        let mut statuses = Vec::with_capacity(specs.len());
        let mut best: Option<(i32, String)> = None;
        let mut failures: Vec<Failure> = Vec::new();
        for spec in specs {
            match subject.evaluate(spec).await {
                Ok(own) => {
                    statuses.push(own.status);
                    if best.as_ref().is_none_or(|(replicas, _)| own.replicas > *replicas) {
                        best = Some((own.replicas, own.name));
                    }
                }
                Err(failure) => {
                    // A status without a type keeps the others in step with the metrics of the spec.
                    statuses.push(MetricStatus::default());
                    self.warn(failure.reason, failure.message.clone());
                    failures.push(failure);
                }
            }
        }
        let failed = failures.first().map(|first| Failed {
            error: Error::Invalid(format!(
                "invalid metrics ({} invalid out of {}), first error is: {}",
                failures.len(),
                specs.len(),
                first.error
            )),
            is_spec: first.is_spec,
        });
        match (best, failed) {
            (Some((replicas, name)), failed) if failed.is_none() || replicas >= current => {
                let message = format!("the HPA was able to successfully calculate a replica count from {name}");
                self.condition(ACTIVE, true, "ValidMetricFound", message);
                (statuses, Ok((replicas, name, failed)))
            }
            (_, failed) => {
                if let Some(first) = failures.first() {
                    let message = format!("the HPA was unable to compute the replica count: {}", first.message);
                    self.condition(ACTIVE, false, first.reason, message);
                }
                let none = || Error::Invalid("there is no metric to scale by".into()).into();
                (statuses, Err(failed.unwrap_or_else(none)))
            }
        }
    }

    /// The pods of the target, which must be its alone.
    fn pods(&mut self, selector: &str) -> Result<Vec<Arc<Pod>>, String> {
        if selector.is_empty() {
            self.warn("SelectorRequired", "selector is required");
            self.condition(ACTIVE, false, "InvalidSelector", "the HPA target's scale is missing a selector");
            return Err("selector is required".into());
        }
        let parsed = match LabelSelector::parse(selector) {
            Ok(parsed) => parsed,
            Err(error) => {
                let message =
                    format!("couldn't convert selector into a corresponding internal selector object: {error}");
                self.warn("InvalidSelector", message.clone());
                self.condition(ACTIVE, false, "InvalidSelector", message.clone());
                return Err(message);
            }
        };
        let all = self.controller.pods.by_index(pod::index::NAMESPACE, &self.key.namespace);
        let own: Vec<_> = all.into_iter().filter(|pod| selects(&parsed, pod)).collect();
        let others = {
            let mut memory = self.controller.memory.lock();
            memory.entry(self.key.clone()).or_default().selector = Some(parsed);
            let mut others: Vec<String> = memory
                .iter()
                .filter(|(key, other)| {
                    let claims = |other: &LabelSelector| own.iter().any(|pod| selects(other, pod));
                    key.namespace == self.key.namespace && other.selector.as_ref().is_some_and(claims)
                })
                .map(|(key, _)| key.to_string())
                .collect();
            others.sort();
            others
        };
        if others.len() > 1 {
            let message =
                format!("pods by selector {selector} are controlled by multiple HPAs: [{}]", others.join(" "));
            self.warn("AmbiguousSelector", message.clone());
            self.condition(ACTIVE, false, "AmbiguousSelector", message.clone());
            return Err(message);
        }
        Ok(own)
    }

    fn normalize(&mut self, bounds: Bounds, recommended: i32) -> i32 {
        let window: Duration = self.controller.options.horizontal_pod_autoscaler_downscale_stabilization.get();
        let rules = self.spec.behavior.as_ref();
        let outcome = self.with_memory(|memory| {
            behavior::normalize(&mut memory.history, rules, bounds, recommended, window, Instant::now())
        });
        self.condition(ABLE, true, outcome.able.0, outcome.able.1);
        self.condition(LIMITED, outcome.limited, outcome.limit.0, outcome.limit.1);
        outcome.replicas
    }
}

fn selects(selector: &LabelSelector, pod: &Pod) -> bool {
    selector.matches(|name| pod.labels().get(name).map(String::as_str))
}

/// The object's own tolerances (KEP-4951), else those of the flags.
fn tolerances(options: &AutoscalerOptions, spec: &HorizontalPodAutoscalerSpec) -> Tolerances {
    let preset = options.horizontal_pod_autoscaler_tolerance;
    let behavior = spec.behavior.as_ref();
    let own = |rules: Option<&k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
        let text = &rules?.tolerance.as_ref()?.0;
        Some(apimachinery::quantity::Quantity::parse(text).ok()?.as_f64())
    };
    Tolerances {
        down: own(behavior.and_then(|behavior| behavior.scale_down.as_ref())).unwrap_or(preset),
        up: own(behavior.and_then(|behavior| behavior.scale_up.as_ref())).unwrap_or(preset),
    }
}

/// Sets a condition; its transition time stays if its status does.
fn set(status: &mut HorizontalPodAutoscalerStatus, kind: &str, is: bool, reason: &str, message: String) {
    let conditions = status.conditions.get_or_insert_default();
    let state = if is { "True" } else { "False" };
    let index = conditions.iter().position(|condition| condition.type_ == kind).unwrap_or_else(|| {
        conditions.push(HorizontalPodAutoscalerCondition { type_: kind.to_owned(), ..Default::default() });
        conditions.len() - 1
    });
    let condition = &mut conditions[index];
    if condition.status != state {
        condition.last_transition_time = Some(meta::now());
    }
    condition.status = state.to_owned();
    condition.reason = Some(reason.to_owned());
    condition.message = Some(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_says_only_what_is_so_now() {
        let mut status = HorizontalPodAutoscalerStatus::default();
        set(&mut status, ACTIVE, false, "FailedGetResourceMetric", "no metrics".into());
        status.conditions.as_mut().unwrap()[0].last_transition_time = None;
        set(&mut status, ACTIVE, false, "InvalidSelector", "no selector".into());
        let condition = |status: &HorizontalPodAutoscalerStatus| status.conditions.as_ref().unwrap()[0].clone();
        assert_eq!(condition(&status).reason.as_deref(), Some("InvalidSelector"));
        assert_eq!(condition(&status).last_transition_time, None, "the status stays");
        set(&mut status, ACTIVE, true, "ValidMetricFound", "found".into());
        assert_eq!(condition(&status).message.as_deref(), Some("found"));
        assert!(condition(&status).last_transition_time.is_some());
    }
}
