//! What a configuration must fulfil beyond the types of its fields, with upstream's words.

use std::time::Duration;

use component_base::cli::GoDuration;

use super::KubeletConfiguration;
use crate::eviction::SIGNALS;
use crate::quantity;

/// Everything that is wrong with `config`.
pub fn problems(config: &KubeletConfiguration) -> Vec<String> {
    let mut problems: Vec<String> = rules(config)
        .into_iter()
        .filter(|(holds, _)| !holds)
        .map(|(_, why)| format!("invalid configuration: {why}"))
        .collect();
    problems.extend(evictions(config));
    problems
}

/// Rule, and what to say where it does not hold.
fn rules(config: &KubeletConfiguration) -> Vec<(bool, String)> {
    let c = config;
    let positive = |number: i64, field: &str| (number >= 0, format!("{field} {number} must not be a negative number"));
    let percent = |number: i32, field: &str| {
        ((0..=100).contains(&number), format!("{field} {number} must be between 0 and 100, inclusive"))
    };
    let port = |number: i32, least: i32, field: &str| {
        ((least..=65535).contains(&number), format!("{field} {number} must be between {least} and 65535, inclusive"))
    };
    let one_of = |value: &str, options: &[&str], field: &str| {
        let known: Vec<String> = options.iter().map(|option| format!("{option:?}")).collect();
        (options.contains(&value), format!("{field} {value:?} must be one of: [{}]", known.join(" ")))
    };
    let quota = c.cpu_cfs_quota_period.get();
    let (high, low) = (c.image_gc_high_threshold_percent, c.image_gc_low_threshold_percent);
    let (oldest, youngest) = (c.image_maximum_gc_age.get(), c.image_minimum_gc_age.get());
    let restart = c.max_restart_backoff();
    let pulls = c.max_parallel_image_pulls;
    let logs = std::path::Path::new(&c.pod_logs_dir);
    let normal = logs.components().collect::<std::path::PathBuf>().as_os_str() == logs.as_os_str();
    let enforced = |name: &str| c.enforce_node_allocatable.iter().any(|value| value == name);
    vec![
        (c.node_lease_duration_seconds > 0, "nodeLeaseDurationSeconds must be greater than 0".into()),
        (
            c.system_cgroups.is_empty() || !c.cgroup_root.is_empty(),
            "systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not specified".into(),
        ),
        positive(c.event_burst.into(), "eventBurst (--event-burst)"),
        positive(c.event_record_qps.into(), "eventRecordQPS (--event-qps)"),
        port(c.healthz_port, 0, "healthzPort (--healthz-port)"),
        (
            (Duration::from_millis(1)..=Duration::from_secs(1)).contains(&quota),
            format!(
                "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {} must be between 1ms and 1sec, inclusive",
                c.cpu_cfs_quota_period
            ),
        ),
        percent(high, "imageGCHighThresholdPercent (--image-gc-high-threshold)"),
        percent(low, "imageGCLowThresholdPercent (--image-gc-low-threshold)"),
        (
            low < high,
            format!(
                "imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) {high}"
            ),
        ),
        (
            oldest.is_zero() || oldest > youngest,
            format!(
                "imageMaximumGCAge {} must be greater than imageMinimumGCAge {}",
                GoDuration(oldest),
                GoDuration(youngest)
            ),
        ),
        positive(c.kube_api_burst.into(), "kubeAPIBurst (--kube-api-burst)"),
        positive(c.kube_api_qps.into(), "kubeAPIQPS (--kube-api-qps)"),
        (
            c.node_status_max_images >= -1,
            format!("nodeStatusMaxImages (--node-status-max-images) {} must be -1 or greater", c.node_status_max_images),
        ),
        positive(c.max_open_files, "maxOpenFiles (--max-open-files)"),
        positive(c.max_pods, "maxPods (--max-pods)"),
        (
            (-1000..=1000).contains(&c.oom_score_adj),
            format!("oomScoreAdj (--oom-score-adj) {} must be between -1000 and 1000, inclusive", c.oom_score_adj),
        ),
        positive(c.pods_per_core, "podsPerCore (--pods-per-core)"),
        port(c.port, 1, "port (--port)"),
        port(c.read_only_port, 0, "readOnlyPort (--read-only-port)"),
        positive(c.registry_burst.into(), "registryBurst (--registry-burst)"),
        positive(c.registry_pull_qps.into(), "registryPullQPS (--registry-qps)"),
        (
            pulls.is_none_or(|pulls| pulls >= 1),
            format!("maxParallelImagePulls {} must be a positive number", pulls.unwrap_or(0)),
        ),
        (
            !c.serialize_image_pulls || pulls.is_none_or(|pulls| pulls <= 1),
            "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to false"
                .into(),
        ),
        (!c.run_once, "runOnce (--runOnce) true, Runonce mode has been deprecated and should not be set".into()),
        one_of(
            &c.topology_manager_policy,
            &["none", "best-effort", "restricted", "single-numa-node"],
            "topologyManagerPolicy (--topology-manager-policy)",
        ),
        one_of(&c.topology_manager_scope, &["container", "pod"], "topologyManagerScope (--topology-manager-scope)"),
        one_of(&c.hairpin_mode, &["none", "hairpin-veth", "promiscuous-bridge"], "option hairpinMode (--hairpin-mode)"),
        one_of(&c.authorization.mode, &["AlwaysAllow", "Webhook"], "authorization.mode (--authorization-mode)"),
        (
            ["", "VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"].contains(&c.tls_min_version.as_str()),
            format!("tlsMinVersion (--tls-min-version): unknown tls version {:?}", c.tls_min_version),
        ),
        one_of(&c.cgroup_driver, &["cgroupfs", "systemd"], "cgroupDriver (--cgroup-driver)"),
        (
            (Duration::from_secs(1)..=Duration::from_secs(300)).contains(&restart),
            format!(
                "CrashLoopBackOff.MaxContainerRestartPeriod (got: {} seconds) must be set between 1s and 300s",
                restart.as_secs_f64()
            ),
        ),
        (
            c.enforce_node_allocatable.iter().all(|value| ENFORCEMENTS.contains(&value.as_str())),
            format!(
                "option {:?} specified for enforceNodeAllocatable (--enforce-node-allocatable). Valid options are {ENFORCEMENTS:?}",
                c.enforce_node_allocatable
            ),
        ),
        (
            !enforced("pods") || c.cgroups_per_qos,
            "cgroupsPerQOS (--cgroups-per-qos) must be set to true when \"pods\" contained in enforceNodeAllocatable (--enforce-node-allocatable)"
                .into(),
        ),
        (
            !c.enable_system_log_query || c.enable_system_log_handler,
            "enableSystemLogHandler is required for enableSystemLogQuery".into(),
        ),
        (c.container_log_max_workers >= 1, "containerLogMaxWorkers must be greater than or equal to 1".into()),
        (
            c.container_log_monitor_interval.get() >= Duration::from_secs(3),
            "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s".into(),
        ),
        (c.container_log_max_files > 1, "containerLogMaxFiles must be greater than 1".into()),
        (
            quantity::parse(&c.container_log_max_size).is_some_and(|bytes| bytes > 0),
            format!("containerLogMaxSize (--container-log-max-size) {:?} must be a positive quantity", c.container_log_max_size),
        ),
        (logs.is_absolute(), format!("pod logs path {:?} must be absolute path", c.pod_logs_dir)),
        (normal, format!("pod logs path {:?} must be normalized", c.pod_logs_dir)),
        (!c.container_runtime_endpoint.is_empty(), "the containerRuntimeEndpoint was not specified or empty".into()),
    ]
}

const ENFORCEMENTS: [&str; 6] =
    ["pods", "system-reserved", "system-reserved-compressible", "kube-reserved", "kube-reserved-compressible", "none"];

/// Thresholds that could never be told from a mistake.
fn evictions(config: &KubeletConfiguration) -> Vec<String> {
    let mut problems = Vec::new();
    for (signal, value) in config.eviction_hard.iter().chain(&config.eviction_soft) {
        if !SIGNALS.iter().any(|(name, ..)| name == signal) && signal != "allocatableMemory.available" {
            problems.push(format!("unsupported eviction signal {signal}"));
        }
        let valid = match value.strip_suffix('%') {
            Some(percent) => percent.parse::<f64>().is_ok_and(|percent| (0.0..=100.0).contains(&percent)),
            None => quantity::parse(value).is_some_and(|amount| amount >= 0),
        };
        if !valid {
            problems.push(format!(
                "eviction threshold {signal} must be a positive quantity or percentage, it is {value:?}"
            ));
        }
    }
    for signal in config.eviction_soft.keys().filter(|signal| !config.eviction_soft_grace_period.contains_key(*signal))
    {
        problems.push(format!("grace period must be specified for the soft eviction threshold {signal}"));
    }
    for (signal, grace) in &config.eviction_soft_grace_period {
        if grace.parse::<GoDuration>().is_err() {
            problems.push(format!("invalid eviction grace period value: {grace}, must be a positive value ({signal})"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_each_rule_tells_what_is_wrong() {
        assert_eq!(problems(&KubeletConfiguration::default()), Vec::<String>::new());
        type Change = fn(&mut KubeletConfiguration);
        let cases: [(Change, &str); 12] = [
            (|c| c.port = 70000, "port (--port) 70000 must be between 1 and 65535, inclusive"),
            (|c| c.read_only_port = -1, "readOnlyPort (--read-only-port) -1 must be between 0 and 65535, inclusive"),
            (|c| c.max_pods = -1, "maxPods (--max-pods) -1 must not be a negative number"),
            (
                |c| c.image_gc_low_threshold_percent = 90,
                "90 must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) 85",
            ),
            (
                |c| c.max_parallel_image_pulls = Some(2),
                "unless SerializeImagePulls (--serialize-image-pulls) is set to false",
            ),
            (
                |c| c.authorization.mode = "Never".into(),
                "authorization.mode (--authorization-mode) \"Never\" must be one of",
            ),
            (|c| c.cgroups_per_qos = false, "cgroupsPerQOS (--cgroups-per-qos) must be set to true"),
            (|c| c.container_log_max_files = 1, "containerLogMaxFiles must be greater than 1"),
            (|c| c.pod_logs_dir = "logs/".into(), "pod logs path \"logs/\" must be absolute path"),
            (|c| c.container_log_max_size = "ten".into(), "containerLogMaxSize"),
            (
                |c| drop(c.eviction_hard.insert("memory.free".into(), "1".into())),
                "unsupported eviction signal memory.free",
            ),
            (
                |c| drop(c.eviction_soft.insert("memory.available".into(), "1Gi".into())),
                "grace period must be specified for the soft eviction threshold memory.available",
            ),
        ];
        for (change, message) in cases {
            let mut config = KubeletConfiguration::default();
            change(&mut config);
            let found = problems(&config);
            assert!(found.iter().any(|problem| problem.contains(message)), "{message}: {found:?}");
        }
    }
}
