//! What cells of tables have in common.

use apimachinery::Value;
use apimachinery::codec::timestamp::to_unix;

use crate::edit::{get, items, text};
use crate::strategy::Column;

pub const NONE: &str = "<none>";
pub const UNKNOWN: &str = "<unknown>";
pub const UNSET: &str = "<unset>";

/// The first column of nearly every table.
pub const NAME: Column =
    Column { name: "Name", kind: "string", format: "name", priority: 0, description: ".metadata.name" };
/// The last of the columns that are always shown.
pub const AGE: Column = Column::text("Age", 0, ".metadata.creationTimestamp");
pub const CREATED_AT: Column =
    Column { name: "Created At", kind: "date", format: "", priority: 0, description: ".metadata.creationTimestamp" };
pub const CONTAINERS: Column = Column::text("Containers", 1, "Names of the containers.");
pub const IMAGES: Column = Column::text("Images", 1, "Images of the containers.");
pub const SELECTOR: Column = Column::text("Selector", 1, ".spec.selector");

/// A column of numbers that is always shown.
pub const fn integer(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "integer", format: "", priority: 0, description }
}

/// A column of text that is always shown.
pub const fn column(name: &'static str, description: &'static str) -> Column {
    Column::text(name, 0, description)
}

/// A column of text that is shown with `-o wide`.
pub const fn wide(name: &'static str, description: &'static str) -> Column {
    Column::text(name, 1, description)
}

pub fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

/// How long ago the object was created.
pub fn created(object: &Value, now: i64) -> Value {
    age(&object["metadata"]["creationTimestamp"], now).into()
}

/// The text, or `<none>`.
pub fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

/// The text some members down, or another.
pub fn text_or(object: &Value, path: &str, other: &str) -> Value {
    match text(object, path) {
        "" => other.into(),
        text => text.into(),
    }
}

/// The number or text some members down, as it is shown; another text if there is none.
pub fn scalar_or(object: &Value, path: &str, other: &str) -> Value {
    match get(object, path) {
        Some(Value::String(s)) => s.as_str().into(),
        Some(v @ (Value::Number(_) | Value::Bool(_))) => v.to_string().into(),
        _ => other.into(),
    }
}

pub fn count(object: &Value, path: &str) -> Value {
    match get(object, path) {
        Some(Value::Array(list)) => list.len().into(),
        Some(Value::Object(map)) => map.len().into(),
        _ => 0.into(),
    }
}

/// A number some members down; 0 if there is none.
pub fn number(object: &Value, path: &str) -> Value {
    super::edit::number(object, path).into()
}

/// `a=b,c=d`, or `<none>`.
pub fn labels(map: Option<&Value>) -> Value {
    let map = map.and_then(Value::as_object);
    let pairs: Vec<_> =
        map.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    or_none(&pairs.join(","))
}

/// A `LabelSelector` object in the form of query strings, or `<none>`.
pub fn selector(selector: Option<&Value>) -> Value {
    let Some(selector) = selector.filter(|s| s.is_object()) else { return NONE.into() };
    let mut parts = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        parts.push(format!("{key}={}", value.as_str().unwrap_or_default()));
    }
    for e in items(selector, "matchExpressions") {
        let values: Vec<_> = items(e, "values").iter().filter_map(Value::as_str).collect();
        let (key, values) = (text(e, "key"), values.join(","));
        parts.push(match text(e, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.sort_by(|a, b| a.trim_start_matches('!').cmp(b.trim_start_matches('!')));
    or_none(&parts.join(","))
}

/// Names and images of the containers of a pod's spec: two cells.
pub fn containers(spec: Option<&Value>) -> [Value; 2] {
    let list = spec.map_or(&[][..], |s| items(s, "containers"));
    let join = |member: &str| list.iter().map(|c| text(c, member)).collect::<Vec<_>>().join(",");
    [join("name").into(), join("image").into()]
}

/// How upstream shortens access modes: `RWO,ROX`.
pub fn access_modes(modes: &[Value]) -> String {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| modes.iter().any(|m| m == mode);
    SHORT.iter().filter(|(long, _)| has(long)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// Seconds from an RFC 3339 time to `now`, as kubectl words it: `5s`, `3m`, `2d4h`. `<unknown>` when there is no time.
pub fn age(time: &Value, now: i64) -> String {
    match time.as_str().and_then(to_unix) {
        Some((seconds, _)) => human_duration(now - seconds),
        None => "<unknown>".into(),
    }
}

/// A duration in at most two units, as short as people read it.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |a: i64, unit: &str, b: i64, small: &str| {
        if b == 0 { format!("{a}{unit}") } else { format!("{a}{unit}{b}{small}") }
    };
    match seconds {
        s if s < -1 => "<invalid>".into(),
        s if s < 0 => "0s".into(),
        s if s < 120 => format!("{s}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_worded_as_kubectl_words_them() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (601, "10m"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (49 * 3600, "2d1h"),
            (200 * 3600, "8d"),
            (800 * 86400, "2y70d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }
}
