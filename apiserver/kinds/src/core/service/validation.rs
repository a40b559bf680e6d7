//! Rules of services.

use apimachinery::validation::{Cursor, FieldError, names, object_meta};

use super::super::endpoints::special_ip;
use super::super::pod_spec::probe::int_or_port_name;
use super::is_external;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const AFFINITY_SECONDS_MAX: i64 = 86400;

pub fn validate(service: &Cursor<'_>) {
    let spec = service.field("spec");
    let field = |name| spec.field(name);
    let (kind, ports) = (field("type").str(), field("ports"));
    let headless = field("clusterIP").str() == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        ports.missing("");
    }
    by_type(&spec, kind, headless);
    for port in ports.items() {
        self::port(&port, ports.len() > 1);
    }
    unique_ports(&ports);
    object_meta::labels(&field("selector"));
    affinity(&spec);
    cluster_ips(&spec);
    for ip in field("externalIPs").items() {
        ip.shape(names::ip);
        special_ip(&ip);
    }
    field("type").required_one_of(&TYPES);
    node_ports(&spec, kind);
    load_balancer(&spec, kind);
    traffic(&spec);
}

fn by_type(spec: &Cursor<'_>, kind: &str, headless: bool) {
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let path = spec.field("clusterIPs").path().index(0);
            let why = format!("may not be set to 'None' for {kind} services");
            spec.push(FieldError::invalid(path, "None", why));
        }
        "ExternalName" => {
            if !spec.field("clusterIP").is_empty() || !spec.field("clusterIPs").is_empty() {
                spec.field("clusterIPs").forbid("may not be set for ExternalName services");
            }
            for name in ["ipFamilies", "ipFamilyPolicy"].into_iter().filter(|name| !spec.field(name).is_empty()) {
                spec.field(name).forbid("may not be set for ExternalName services");
            }
            let name = spec.field("externalName");
            if name.required() {
                let host = name.str().strip_suffix('.').unwrap_or(name.str());
                names::dns1123_subdomain(host).into_iter().for_each(|problem| name.invalid(problem));
            }
        }
        _ => {}
    }
}

fn port(port: &Cursor<'_>, named: bool) {
    let name = port.field("name");
    if named {
        name.required();
    }
    name.optional_shape(names::dns1123_label);
    let number = port.field("port").i64().unwrap_or_default();
    names::port_number(number).into_iter().for_each(|problem| port.field("port").invalid_value(number, problem));
    port.field("protocol").required_one_of(&["SCTP", "TCP", "UDP"]);
    int_or_port_name(&port.field("targetPort"));
    if port.field("appProtocol").exists() {
        port.field("appProtocol").shape(names::qualified_name);
    }
}

fn unique_ports(ports: &Cursor<'_>) {
    ports.unique(|port| port.field("name"));
    let mut seen = Vec::new();
    for port in ports.items() {
        let key = (port.field("protocol").str(), port.field("port").i64());
        if seen.contains(&key) {
            port.push(FieldError::duplicate(port.path(), port.value().cloned().unwrap_or_default()));
        }
        seen.push(key);
    }
}

fn affinity(spec: &Cursor<'_>) {
    let (affinity, config) = (spec.field("sessionAffinity"), spec.field("sessionAffinityConfig"));
    affinity.required_one_of(&["ClientIP", "None"]);
    match affinity.str() {
        "ClientIP" => {
            let seconds = config.dig("clientIP.timeoutSeconds");
            if !seconds.exists() {
                seconds.missing("when session affinity type is ClientIP");
            } else if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds.i64().unwrap_or_default()) {
                seconds.invalid(format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"));
            }
        }
        "None" if config.exists() => config.forbid("must not be set when session affinity is None"),
        _ => {}
    }
}

fn cluster_ips(spec: &Cursor<'_>) {
    let (ip, list) = (spec.field("clusterIP"), spec.field("clusterIPs"));
    let families = spec.field("ipFamilies");
    for family in families.items() {
        family.one_of(&["IPv4", "IPv6"]);
    }
    families.unique(Cursor::clone);
    spec.field("ipFamilyPolicy").one_of(&["PreferDualStack", "RequireDualStack", "SingleStack"]);
    if list.is_empty() {
        return;
    }
    if list.len() > 2 {
        list.invalid("may only hold up to 2 values");
    }
    let first = list.items().next().map_or("", |c| c.str());
    if ip.str() != first {
        list.invalid("first value must match `clusterIP`");
    }
    for item in list.items() {
        match item.str() {
            "None" if list.len() > 1 => item.invalid("'None' must be the first and only value"),
            "None" => {}
            _ => {
                item.shape(names::ip);
            }
        }
    }
    for (item, family) in list.items().zip(families.items()) {
        let is_v6 = item.str().contains(':');
        if item.str() != "None" && is_v6 != (family.str() == "IPv6") {
            item.invalid(format!("expected an {} value as indicated by `ipFamilies`", family.str()));
        }
    }
}

fn node_ports(spec: &Cursor<'_>, kind: &str) {
    let mut seen = Vec::new();
    for port in spec.field("ports").items() {
        let node_port = port.field("nodePort");
        let Some(number) = node_port.i64().filter(|n| *n != 0) else { continue };
        if matches!(kind, "ClusterIP" | "ExternalName") {
            node_port.forbid(format!("may not be used when `type` is '{kind}'"));
        }
        let key = (port.field("protocol").str(), number);
        if seen.contains(&key) {
            node_port.duplicate();
        }
        seen.push(key);
    }
}

fn load_balancer(spec: &Cursor<'_>, kind: &str) {
    // Upstream names this member after its own type.
    let ranges = spec.field("LoadBalancerSourceRanges").with_value(spec.field("loadBalancerSourceRanges").value());
    if !ranges.is_empty() && kind != "LoadBalancer" {
        ranges.forbid("may only be used when `type` is 'LoadBalancer'");
    }
    for range in ranges.items() {
        let trimmed = range.str().trim();
        names::cidr(trimmed).into_iter().for_each(|problem| range.invalid(problem));
    }
    const OTHERS: &str = "may only be used when `type` is 'LoadBalancer'";
    for name in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if kind != "LoadBalancer" && spec.field(name).exists() {
            spec.field(name).forbid(OTHERS);
        }
    }
    if spec.field("loadBalancerClass").exists() {
        spec.field("loadBalancerClass").shape(names::qualified_name);
    }
}

fn traffic(spec: &Cursor<'_>) {
    let (external, internal) = (spec.field("externalTrafficPolicy"), spec.field("internalTrafficPolicy"));
    let reachable = spec.value().is_some_and(is_external);
    if !reachable && external.exists() {
        external.invalid("may only be set for externally-accessible services");
    } else if reachable {
        external.required_one_of(&["Cluster", "Local"]);
    }
    let health = spec.field("healthCheckNodePort");
    if health.i64().unwrap_or_default() != 0
        && !(spec.field("type").str() == "LoadBalancer" && external.str() == "Local")
    {
        health.invalid("may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    }
    health.non_negative();
    if matches!(spec.field("type").str(), "ClusterIP" | "LoadBalancer" | "NodePort") && !internal.exists() {
        internal.missing("");
    }
    internal.one_of(&["Cluster", "Local"]);
    spec.field("trafficDistribution").one_of(&["PreferClose", "PreferSameNode", "PreferSameZone"]);
}

pub fn validate_update(new: &Cursor<'_>, old: &Cursor<'_>) {
    let (spec, old_spec) = (new.field("spec"), old.field("spec"));
    let external = |spec: &Cursor<'_>| spec.field("type").str() == "ExternalName";
    let (ips, old_ips) = (spec.field("clusterIPs"), old_spec.field("clusterIPs"));
    if !external(&spec) && !external(&old_spec) {
        let (first, old_first) = (ips.array().first(), old_ips.array().first());
        if old_first.is_some() && first != old_first {
            let path = ips.path().index(0);
            spec.push(FieldError::invalid(&path, ips.value().cloned().unwrap_or_default(), "may not change once set"));
        }
        let (families, old_families) = (spec.field("ipFamilies"), old_spec.field("ipFamilies"));
        if !old_families.is_empty() && !families.is_empty() && families.array()[0] != old_families.array()[0] {
            let path = families.path().index(0);
            spec.push(FieldError::invalid(
                &path,
                families.value().cloned().unwrap_or_default(),
                "may not change once set",
            ));
        }
    }
    let class = (spec.field("loadBalancerClass"), old_spec.field("loadBalancerClass"));
    let both_balanced = [&spec, &old_spec].iter().all(|s| s.field("type").str() == "LoadBalancer");
    if both_balanced && class.0.value() != class.1.value() {
        class.0.invalid("may not change once set");
    }
    validate(new);
}

pub fn validate_status(new: &Cursor<'_>, _: &Cursor<'_>) {
    let ingress = new.dig("status.loadBalancer.ingress");
    if !ingress.is_empty() && new.dig("spec.type").str() != "LoadBalancer" {
        ingress.forbid("may only be used when `spec.type` is \"LoadBalancer\"");
    }
    for item in ingress.items() {
        item.field("ip").optional_shape(names::ip);
        item.field("hostname").optional_shape(names::dns1123_subdomain);
        item.field("ipMode").one_of(&["Proxy", "VIP"]);
    }
}
