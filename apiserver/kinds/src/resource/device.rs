//! One device in a ResourceSlice: what it is, how much of it there is, and what it shares with others (KEP-4815, KEP-5075).

use apimachinery::validation::{Cursor, names};

use super::common::{binding_conditions, qualified_name};
use super::device_taint_rule::taint;
use crate::core::pod_spec::affinity;
use crate::core::pod_spec::resources::quantity;

const ENTRIES_MAX: usize = 32;
const COUNTERS_MAX: usize = 32;
const TAINTS_MAX: usize = 4;
const VALUES_MAX: usize = 10;
const VALUE_BYTES_MAX: usize = 64;
/// Domain, slash and name; longer keys are shown shortened.
const KEY_BYTES_SHOWN: usize = 63 + 1 + 32;

/// Checks a device of a slice with this spec.
pub fn validate(device: &Cursor<'_>, spec: &Cursor<'_>) {
    device.field("name").shape(names::dns1123_label);
    // Old versions keep all but the name one level down, which upstream's errors do not show.
    let basic = device.field("basic");
    let device = if basic.exists() { &device.with_value(basic.value()) } else { device };
    let (attributes, capacity) = (device.field("attributes"), device.field("capacity"));
    if attributes.len() + capacity.len() > ENTRIES_MAX {
        device.invalid(format!("the total number of attributes and capacities must not exceed {ENTRIES_MAX}"));
    }
    for (name, value) in attributes.entries() {
        let at = shown(&attributes, name, &value, KEY_BYTES_SHOWN);
        qualified_name(&at, name);
        attribute(&at);
    }
    let shared = device.field("allowMultipleAllocations").bool();
    for (name, value) in capacity.entries() {
        let at = shown(&capacity, name, &value, KEY_BYTES_SHOWN);
        qualified_name(&at, name);
        match at.field("requestPolicy") {
            policy if !policy.exists() => {}
            policy if shared => request_policy(&policy, &at.field("value")),
            policy => policy.forbid("allowMultipleAllocations must be true"),
        }
    }
    device.field("taints").items().for_each(|item| taint(&item));
    device.field("taints").items_max(TAINTS_MAX);
    consumed(device, &spec.field("sharedCounters"));
    nodes(device, spec.field("perDeviceNodeSelection").bool());
    binding_conditions(device);
}

/// An entry of a map at a path that stays readable.
fn shown<'a>(map: &Cursor<'a>, key: &str, entry: &Cursor<'a>, bytes_max: usize) -> Cursor<'a> {
    let short = if key.len() > bytes_max {
        let (bytes, left) = (key.as_bytes(), bytes_max - 3);
        let [head, tail] = [&bytes[..left.div_ceil(2)], &bytes[bytes.len() - left / 2..]].map(String::from_utf8_lossy);
        format!("{head}...{tail}")
    } else {
        key.to_owned()
    };
    Cursor::at(entry.value(), map.path().key(&short), map.errors())
}

fn attribute(attribute: &Cursor<'_>) {
    let (text, version) = (attribute.field("string"), attribute.field("version"));
    text.bytes_max(VALUE_BYTES_MAX);
    if version.exists() && !is_version(version.str()) {
        version.invalid("must be a string compatible with semver.org spec 2.0.0");
    }
    version.bytes_max(VALUE_BYTES_MAX);
    match ["bool", "int", "string", "version"].iter().filter(|name| attribute.field(name).exists()).count() {
        0 => attribute.missing("exactly one value must be specified"),
        1 => {}
        _ => attribute.invalid("exactly one value must be specified"),
    }
}

/// A version of semver.org 2.0.0.
fn is_version(text: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, before) = rest.split_once('-').map_or((rest, None), |(core, before)| (core, Some(before)));
    core.split('.').count() == 3
        && core.split('.').all(number)
        && before.is_none_or(|b| b.split('.').all(|part| plain(part) && (number(part) || !digits(part))))
        && build.is_none_or(|b| b.split('.').all(plain))
}

/// How much of a capacity a request may take, given how much there is.
fn request_policy(policy: &Cursor<'_>, capacity: &Cursor<'_>) {
    let (default, values, range) = (policy.field("default"), policy.field("validValues"), policy.field("validRange"));
    if !values.is_empty() && range.exists() {
        return policy.forbid("exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\"");
    }
    match quantity(&default) {
        None if !values.is_empty() => default.missing("required when validValues is defined"),
        None if range.exists() => default.missing("required when validRange is defined"),
        Some(_) if !values.is_empty() => valid_values(&values, &default, capacity),
        Some(_) if range.exists() => valid_range(&range, &default, capacity),
        _ => {}
    }
}

fn valid_values(values: &Cursor<'_>, default: &Cursor<'_>, capacity: &Cursor<'_>) {
    let Some(all) = quantity(capacity) else { return };
    let mut before = None;
    for value in values.items() {
        let Some(amount) = quantity(&value) else { continue };
        if before.as_ref().is_some_and(|before| *before > amount) {
            value.invalid("values must be sorted in ascending order");
        }
        if amount > all {
            value.invalid(format!("option is larger than capacity value: {all}"));
        }
        before = Some(amount);
    }
    values.items_max(VALUES_MAX);
    values.unique(Cursor::clone);
    if !values.items().any(|value| quantity(&value) == quantity(default)) {
        values.with_value(default.value()).invalid("default value is not valid according to the requestPolicy");
    }
}

fn valid_range(range: &Cursor<'_>, default: &Cursor<'_>, capacity: &Cursor<'_>) {
    let (min_at, max_at, step_at) = (range.field("min"), range.field("max"), range.field("step"));
    let Some(min) = quantity(&min_at) else { return min_at.missing("required when validRange is defined") };
    let (Some(all), Some(default)) = (quantity(capacity), quantity(default)) else { return };
    let (max, step) = (quantity(&max_at), quantity(&step_at));
    let mut rules = vec![
        (&min_at, min > all, "min is larger than the capacity"),
        (&min_at, default < min, "default is less than min"),
    ];
    if let Some(max) = &max {
        rules.push((&max_at, min > *max, "min is larger than max"));
        rules.push((&max_at, *max > all, "max is larger than the capacity"));
        rules.push((&max_at, default > *max, "default is more than max"));
    }
    if let Some(step) = &step {
        let whole = |amount: i64| amount.wrapping_sub(min.value()).checked_rem(step.value()) == Some(0);
        rules.push((&step_at, min.add(step) > all, "one step is larger than the capacity"));
        rules.push((&step_at, !whole(default.value()), "the default is not a number of steps from min"));
        let fits = max.as_ref().is_none_or(|max| whole(max.value()));
        rules.push((&step_at, !fits, "max is not a number of steps from min"));
    }
    rules.into_iter().filter(|(_, broken, _)| *broken).for_each(|(at, _, why)| at.invalid(why));
}

/// What the device takes of counters that the slice shares between devices.
fn consumed(device: &Cursor<'_>, shared: &Cursor<'_>) {
    let sets = device.field("consumesCounters");
    for set in sets.items() {
        set.field("counterSet").required();
        counters(&set.field("counters"));
    }
    sets.unique(|set| set.field("counterSet"));
    if sets.items().map(|set| set.field("counters").len()).sum::<usize>() > COUNTERS_MAX {
        device.invalid(format!("the total number of counters must not exceed {COUNTERS_MAX}"));
    }
    for set in sets.items() {
        let name = set.field("counterSet");
        let Some(source) = shared.items().find(|s| s.field("name").str() == name.str()) else {
            name.invalid_value(name.str(), "must reference a counterSet defined in the ResourceSlice sharedCounters");
            continue;
        };
        for (counter, _) in set.field("counters").entries() {
            if !source.field("counters").field(counter).exists() {
                let why = "must reference a counter defined in the ResourceSlice sharedCounters";
                set.field("counters").invalid_value(counter, why);
            }
        }
    }
}

/// A map of counters, each with a name that is a label.
pub fn counters(map: &Cursor<'_>) {
    map.required();
    for (name, counter) in map.entries() {
        let at = shown(map, name, &counter, names::LABEL_MAX);
        names::dns1123_label(name).into_iter().for_each(|problem| at.invalid_value(name, problem));
    }
}

/// Where the device can be used, if each device says so itself.
fn nodes(device: &Cursor<'_>, by_device: bool) {
    let [name, selector, all] = ["nodeName", "nodeSelector", "allNodes"].map(|member| device.field(member));
    if !by_device {
        if name.exists() || selector.exists() || all.exists() {
            device.invalid("`nodeName`, `nodeSelector` and `allNodes` need `perDeviceNodeSelection` in the spec");
        }
        return;
    }
    name.optional_shape(names::dns1123_subdomain);
    if name.exists() && name.is_empty() {
        name.invalid("must not be empty");
    }
    if selector.exists() {
        affinity::node_selector(&selector);
    }
    if all.exists() && !all.bool() {
        all.invalid("must be either unset or set to true");
    }
    let why = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required with `perDeviceNodeSelection`";
    match [!name.is_empty(), selector.exists(), all.bool()].into_iter().filter(|set| *set).count() {
        0 => device.missing(why),
        1 => {}
        _ => device.invalid(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for text in ["0.0.1", "1.2.3-alpha.1", "1.2.3+b.01", "1.2.3-0a-b+x-y"] {
            assert!(is_version(text), "{text}");
        }
        for text in ["", "1", "1.2", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.3-a..b", "v1.2.3"] {
            assert!(!is_version(text), "{text}");
        }
    }
}
