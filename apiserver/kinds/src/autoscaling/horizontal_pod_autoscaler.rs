//! HorizontalPodAutoscalers, in `v1` (CPU only) and `v2`.

use apimachinery::Value;
use apimachinery::validation::{Cursor, FieldError, names};
use serde_json::json;

use crate::core::pod_spec::resources::{container_name, non_negative, quantity};
use registry::edit::{at, copy, default, get, items, object, text};
use registry::printing::{AGE, NAME, NONE, UNKNOWN, UNSET, column, created, name, number, scalar_or};
use registry::strategy::{Strategy, Subresource, Table};

/// Metrics that are listed by value; of the others only the number is.
const SHOWN_MAX: usize = 2;

/// Utilization of CPU that is aimed at where nothing is said, in percent.
const TARGET: i64 = 80;
/// Where `v1` carries metrics that it has no member for.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";

/// `v1` measures the utilization of CPU, if nothing else is measured.
pub const V1: Strategy = Strategy {
    default: |scaler| {
        let measured = scaler["metadata"]["annotations"].get(METRICS).is_some();
        let spec = object(scaler, "spec");
        default(spec, "minReplicas", 1);
        if !measured {
            default(spec, "targetCPUUtilizationPercentage", TARGET);
        }
    },
    ..V2
};

pub const V2: Strategy = Strategy {
    default: defaulted,
    validate: |scaler| validate(scaler, least_replicas(scaler)),
    validate_update: |new, old| {
        // What was stored while the gate was on may stay.
        let stays = old.dig("spec.minReplicas").i64() == Some(0);
        validate(new, if stays { 0 } else { least_replicas(new) });
    },
    subresources: &[Subresource {
        name: "status",
        prepare: |scaler, old, _| copy(scaler, old, "spec"),
        validate: |new, _| {
            for name in ["currentReplicas", "desiredReplicas"] {
                new.field("status").field(name).non_negative();
            }
        },
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Reference", ".spec.scaleTargetRef"),
            column("Targets", ".spec.metrics"),
            column("MinPods", ".spec.minReplicas"),
            column("MaxPods", ".spec.maxReplicas"),
            column("Replicas", ".status.currentReplicas"),
            AGE,
        ],
        cells: |scaler, now| {
            let target =
                format!("{}/{}", text(scaler, "spec.scaleTargetRef.kind"), text(scaler, "spec.scaleTargetRef.name"));
            vec![
                name(scaler),
                target.into(),
                targets(scaler).into(),
                scalar_or(scaler, "spec.minReplicas", UNSET),
                number(scaler, "spec.maxReplicas"),
                number(scaler, "status.currentReplicas"),
                created(scaler, now),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn defaulted(scaler: &mut Value) {
    let spec = object(scaler, "spec");
    default(spec, "minReplicas", 1);
    if items(spec, "metrics").is_empty() {
        let target = json!({"type": "Utilization", "averageUtilization": TARGET});
        spec["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
    }
    if let Some(behavior) = at(spec, "behavior") {
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        let up = object(behavior, "scaleUp");
        default(up, "stabilizationWindowSeconds", 0);
        default(up, "selectPolicy", "Max");
        default(up, "policies", json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]));
        let down = object(behavior, "scaleDown");
        default(down, "selectPolicy", "Max");
        default(down, "policies", json!([percent]));
    }
}

/// How few replicas may be asked for. (KEP-2021)
fn least_replicas(scaler: &Cursor<'_>) -> i64 {
    if scaler.gate("HPAScaleToZero") { 0 } else { 1 }
}

/// Whether something is measured that is there without pods.
fn measures_beyond_pods(scaler: &Cursor<'_>) -> bool {
    let beyond = |metrics: &[Value]| metrics.iter().any(|m| m["type"] == "Object" || m["type"] == "External");
    let carried = scaler.dig("metadata.annotations").field(METRICS).str();
    beyond(scaler.dig("spec.metrics").array())
        || serde_json::from_str::<Vec<Value>>(carried).is_ok_and(|metrics| beyond(&metrics))
}

fn validate(scaler: &Cursor<'_>, least: i64) {
    let spec = scaler.field("spec");
    let (min, max) = (spec.field("minReplicas"), spec.field("maxReplicas"));
    min.at_least(least, &format!("must be greater than or equal to {least}"));
    if least == 0 && min.i64() == Some(0) && !measures_beyond_pods(scaler) {
        spec.field("metrics")
            .forbid("must specify at least one Object or External metric to support scaling to zero replicas");
    }
    let most = max.i64().unwrap_or_default();
    if most < 1 {
        max.invalid_value(most, "must be greater than 0");
    }
    if min.i64().is_some_and(|least| most < least) {
        max.invalid_value(most, "must be greater than or equal to `minReplicas`");
    }
    let target = spec.field("scaleTargetRef");
    reference(&target);
    let group = target.field("apiVersion");
    if !matches!(group.str().split_once('/'), Some((group, _)) if !group.is_empty())
        && target.field("kind").str() != "ReplicationController"
    {
        group.invalid_value(group.str(), "apiVersion must specify API group");
    }
    for metric in spec.field("metrics").items() {
        self::metric(&metric);
    }
    spec.field("targetCPUUtilizationPercentage").positive();
    for (direction, window_max) in [("scaleUp", 3600), ("scaleDown", 3600)] {
        scaling(&spec.field("behavior").field(direction), window_max);
    }
}

fn reference(reference: &Cursor<'_>) {
    for name in ["kind", "name"] {
        reference.field(name).required_shape(names::path_segment);
    }
    let api_version = reference.field("apiVersion");
    if api_version.str().matches('/').count() > 1 {
        api_version.invalid(format!("unexpected GroupVersion string: {}", api_version.str()));
    }
}

/// Kinds of metrics and the members that they are in, in the order in which one of them counts.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

fn metric(metric: &Cursor<'_>) {
    let kind = metric.field("type");
    if kind.is_empty() {
        kind.missing("must specify a metric source type");
    }
    let member = SOURCES.iter().find(|(known, _)| *known == kind.str()).map(|(_, member)| *member);
    if member.is_none() {
        let known = ["ContainerResource", "External", "Object", "Pods", "Resource"];
        kind.push(FieldError::not_supported(kind.path(), kind.str(), &known));
    }
    let present: Vec<&str> = SOURCES.iter().map(|(_, m)| *m).filter(|m| metric.field(m).exists()).collect();
    if let Some(first) = present.first() {
        source(&metric.field(first), first);
    }
    if let Some(member) = member.filter(|member| !present.contains(member)) {
        metric.field(member).missing("must populate information for the given metric source");
    }
    if present.len() != 1 {
        for other in present.iter().filter(|other| Some(**other) != member) {
            metric.field(other).forbid("must populate the given metric source only");
        }
    }
}

fn source(source: &Cursor<'_>, member: &str) {
    let target = source.field("target");
    let has = |name| target.field(name).exists();
    let of_pods = matches!(member, "resource" | "containerResource");
    if of_pods {
        source.field("name").required_because("must specify a resource name");
    } else {
        source.dig("metric.name").required_shape(names::path_segment);
    }
    if member == "containerResource" {
        let name = source.field("name");
        if !name.is_empty() {
            container_name(&name, name.str());
        }
        source.field("container").required_shape(names::dns1123_label);
    }
    if member == "object" {
        reference(&source.field("describedObject"));
    }
    self::target(&target);
    match member {
        "object" | "external" if !has("value") && !has("averageValue") => {
            target.field("averageValue").missing("must set either a target value or averageValue");
        }
        "pods" if !has("averageValue") => {
            target.field("averageValue").missing("must specify a positive target averageValue");
        }
        "external" if has("value") && has("averageValue") => {
            target.field("value").forbid("may not set both a target value for metric and a per-pod target");
        }
        _ if of_pods && !has("averageUtilization") && !has("averageValue") => {
            target.field("averageUtilization").missing("must set either a target raw value or a target utilization");
        }
        _ if of_pods && has("averageUtilization") && has("averageValue") => {
            target.field("averageValue").forbid("may not set both a target raw value and a target utilization");
        }
        _ => {}
    }
}

fn target(target: &Cursor<'_>) {
    let kind = target.field("type");
    if kind.is_empty() {
        kind.missing("must specify a metric target type");
    }
    if !["AverageValue", "Utilization", "Value"].contains(&kind.str()) {
        kind.invalid_value(kind.str(), "must be either Utilization, Value, or AverageValue");
    }
    target.field("averageUtilization").positive();
    for name in ["value", "averageValue"] {
        if quantity(&target.field(name)).is_some_and(|q| q.sign() <= 0) {
            target.field(name).invalid("must be positive");
        }
    }
}

fn scaling(rules: &Cursor<'_>, window_max: i64) {
    if !rules.exists() {
        return;
    }
    let window = rules.field("stabilizationWindowSeconds");
    window.non_negative();
    if window.i64().is_some_and(|w| w > window_max) {
        window.invalid(format!("must be less than or equal to {window_max}"));
    }
    non_negative(&rules.field("tolerance"));
    rules.field("selectPolicy").one_of(&["Disabled", "Max", "Min"]);
    rules.field("policies").required_because("must specify at least one Policy");
    for policy in rules.field("policies").items() {
        let kind = policy.field("type");
        if !["Percent", "Pods"].contains(&kind.str()) {
            kind.push(FieldError::not_supported(kind.path(), kind.str(), &["Percent", "Pods"]));
        }
        policy.field("value").positive();
        policy.field("periodSeconds").positive();
        if policy.field("periodSeconds").i64().is_some_and(|p| p > 1800) {
            policy.field("periodSeconds").invalid("must be less than or equal to 1800");
        }
    }
}

fn targets(scaler: &Value) -> String {
    if scaler["apiVersion"] == "autoscaling/v1" {
        let percent =
            |path: &str| get(scaler, path).and_then(Value::as_i64).map_or(UNKNOWN.into(), |p| format!("{p}%"));
        let [current, target] =
            ["status.currentCPUUtilizationPercentage", "spec.targetCPUUtilizationPercentage"].map(percent);
        return format!("{current}/{target}");
    }
    let metrics = items(scaler, "spec.metrics");
    let current = items(scaler, "status.currentMetrics");
    if metrics.is_empty() {
        return NONE.into();
    }
    let shown = |(i, metric): (usize, &Value)| {
        let member = match text(metric, "type") {
            "ContainerResource" => "containerResource".to_owned(),
            kind => kind.to_lowercase(),
        };
        let (source, now) = (&metric[&member], current.get(i).map(|c| &c[&member]["current"]));
        let (name, percent) = match get(source, "target.averageUtilization") {
            Some(_) => ("averageUtilization", "%"),
            None if get(source, "target.averageValue").is_some() => ("averageValue", ""),
            None => ("value", ""),
        };
        let value = |v: Option<&Value>| match v.and_then(|v| v.get(name)) {
            Some(Value::String(s)) => s.clone(),
            Some(Value::Number(n)) => format!("{n}{percent}"),
            _ => UNKNOWN.into(),
        };
        let label = if member.ends_with("esource") { format!("{}: ", text(source, "name")) } else { String::new() };
        let average = if name == "averageValue" && member != "resource" { " (avg)" } else { "" };
        format!("{label}{}/{}{average}", value(now), value(source.get("target")))
    };
    let list: Vec<_> = metrics.iter().enumerate().take(SHOWN_MAX).map(shown).collect();
    match metrics.len() {
        n if n > SHOWN_MAX => format!("{} + {} more...", list.join(", "), n - SHOWN_MAX),
        _ => list.join(", "),
    }
}
