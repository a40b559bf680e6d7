//! What claims use: volumes by class and size, devices by class.

use super::{Amounts, amount, count};
use crate::Value;
use crate::quantity::Quantity;

/// Between a storage class and what of it is limited.
const OF_STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
/// After a device class.
pub const OF_DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// What a request for all devices of a node counts as: no claim gets more. (resource.k8s.io/v1, AllocationResultsMaxSize)
const DEVICES_MAX: i64 = 32;

/// Whether a name in `hard` is about volume claims, besides their count.
pub fn is_storage(name: &str) -> bool {
    let of_class = name.split_once(OF_STORAGE_CLASS).map(|(_, what)| what);
    name == "requests.storage" || matches!(of_class, Some("requests.storage" | "persistentvolumeclaims"))
}

/// The class, also where it stands in the annotation that was before the field.
fn class(claim: &Value) -> &str {
    let annotated = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    annotated.or(claim["spec"]["storageClassName"].as_str()).unwrap_or_default()
}

pub fn storage(claim: &Value, used: &mut Amounts) {
    let asked = amount(&claim["spec"]["resources"]["requests"]["storage"]);
    // While a volume grows, and after it failed to, the larger of the two is taken. (KEP-1790)
    let allocated = amount(&claim["status"]["allocatedResources"]["storage"]);
    let size = asked.into_iter().chain(allocated).max().map(|size| match size.as_i64() {
        Some(_) => size,
        None => Quantity::new(size.value(), size.format()),
    });
    let class = class(claim);
    if !class.is_empty() {
        used.insert(format!("{class}{OF_STORAGE_CLASS}persistentvolumeclaims"), count(1));
    }
    if let Some(size) = size {
        if !class.is_empty() {
            used.insert(format!("{class}{OF_STORAGE_CLASS}requests.storage"), size.clone());
        }
        used.insert("requests.storage".into(), size);
    }
}

/// Devices a request may get at most, by its class. (KEP-4381)
fn requested(request: &Value) -> Option<(String, i64)> {
    let class = request["deviceClassName"].as_str()?;
    let devices = match request["allocationMode"].as_str() {
        Some("All") => DEVICES_MAX,
        _ => request["count"].as_i64().unwrap_or(1),
    };
    Some((format!("{class}{OF_DEVICE_CLASS}"), devices))
}

pub fn devices(claim: &Value, used: &mut Amounts) {
    for request in claim["spec"]["devices"]["requests"].as_array().into_iter().flatten() {
        // Of alternatives one is taken, whichever: for each class the greediest counts. (KEP-4816)
        let mut worst = std::collections::BTreeMap::new();
        let alternatives = request["firstAvailable"].as_array().into_iter().flatten();
        // Before v1beta2 the exact request stood in the request itself.
        for (name, devices) in alternatives.chain([&request["exactly"], request]).filter_map(requested) {
            let most = worst.entry(name).or_insert(0);
            *most = devices.max(*most);
        }
        for (name, devices) in worst {
            let total = used.get(&name).map_or_else(|| count(devices), |had| had.add(&count(devices)));
            used.insert(name, total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CLAIMS, DEVICE_CLAIMS};
    use super::*;
    use jiff::Timestamp;
    use serde_json::json;

    #[test]
    fn volumes_count_by_class_and_by_the_larger_size() {
        let claim = |spec: Value, status: Value| {
            let used = CLAIMS.usage(&json!({"spec": spec, "status": status}), Timestamp::UNIX_EPOCH);
            used.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
        };
        let count = "count/persistentvolumeclaims=1";
        let asks = |size: &str| json!({"requests": {"storage": size}});
        assert_eq!(
            claim(json!({"resources": asks("1Gi")}), json!({})),
            format!("{count} persistentvolumeclaims=1 requests.storage=1Gi")
        );
        assert_eq!(
            claim(
                json!({"storageClassName": "gold", "resources": asks("1Gi")}),
                json!({"allocatedResources": {"storage": "2Gi"}})
            ),
            format!(
                "{count} gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
                 gold.storageclass.storage.k8s.io/requests.storage=2Gi persistentvolumeclaims=1 requests.storage=2Gi"
            )
        );
    }

    #[test]
    fn devices_count_by_the_greediest_alternative_of_each_class() {
        let claim = json!({"spec": {"devices": {"requests": [
            {"exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
            {"firstAvailable": [{"deviceClassName": "gpu", "count": 1}, {"deviceClassName": "gpu", "count": 3},
                {"deviceClassName": "nic", "allocationMode": "All"}]},
        ]}}});
        let used = DEVICE_CLAIMS.usage(&claim, Timestamp::UNIX_EPOCH);
        assert_eq!(used["gpu.deviceclass.resource.k8s.io/devices"].to_string(), "5");
        assert_eq!(used["nic.deviceclass.resource.k8s.io/devices"].to_string(), "32");
        assert_eq!(used["count/resourceclaims.resource.k8s.io"].to_string(), "1");
    }
}
