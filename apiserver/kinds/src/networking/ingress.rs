//! Ingresses.

use apimachinery::Value;
use apimachinery::validation::{Cursor, addresses as validation, names};

use super::ingress_class::object_reference;
use registry::edit::{copy, get, items, text};
use registry::printing::{AGE, NAME, NONE, column, created, name, text_or};
use registry::strategy::{Strategy, Subresource, Table};

/// How a class was chosen before `ingressClassName`.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    validate: |ingress| {
        let (annotation, class) =
            (ingress.dig("metadata.annotations").field(CLASS_ANNOTATION), ingress.dig("spec.ingressClassName"));
        if annotation.exists() && class.exists() && annotation.str() != class.str() {
            let at = ingress.field("annotations").field(CLASS_ANNOTATION).with_value(annotation.value());
            at.invalid("must match `ingressClassName` when both are specified");
        }
        spec(&ingress.field("spec"));
    },
    validate_update: |new, _| spec(&new.field("spec")),
    warnings: |ingress, old| {
        let annotated = get(ingress, "metadata.annotations").is_some_and(|a| a.get(CLASS_ANNOTATION).is_some());
        let outdated = old.is_none() && annotated && get(ingress, "spec.ingressClassName").is_none();
        let warning = || format!("annotation {CLASS_ANNOTATION:?} is deprecated, use 'spec.ingressClassName' instead");
        outdated.then(warning).into_iter().collect()
    },
    subresources: &[Subresource {
        name: "status",
        prepare: |ingress, old, _| copy(ingress, old, "spec"),
        validate: |new, old| {
            let had = old.dig("status.loadBalancer.ingress").array();
            for item in new.dig("status.loadBalancer.ingress").items() {
                let (ip, hostname) = (item.field("ip"), item.field("hostname"));
                if !ip.is_empty() && !had.iter().any(|item| item["ip"] == ip.str()) {
                    validation::legacy_ip(&ip);
                }
                if !hostname.is_empty() {
                    hostname.shape(names::dns1123_subdomain);
                    is_no_ip(&hostname);
                }
            }
        },
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Class", ".spec.ingressClassName"),
            column("Hosts", "Hosts that it serves."),
            column("Address", ".status.loadBalancer"),
            column("Ports", "Ports where it is reached."),
            AGE,
        ],
        cells: |ingress, now| {
            let ports = if items(ingress, "spec.tls").is_empty() { "80" } else { "80, 443" };
            vec![
                name(ingress),
                text_or(ingress, "spec.ingressClassName", NONE),
                hosts(ingress).into(),
                addresses(ingress).into(),
                ports.into(),
                created(ingress, now),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn spec(spec: &Cursor<'_>) {
    let (rules, default) = (spec.field("rules"), spec.field("defaultBackend"));
    if rules.is_empty() && !default.exists() {
        spec.invalid("either `defaultBackend` or `rules` must be specified");
    }
    if default.exists() {
        backend(&default);
    }
    for rule in rules.items() {
        let host = rule.field("host");
        if !host.is_empty() {
            self::host(&host);
        }
        let http = rule.field("http");
        if http.exists() && http.field("paths").required() {
            for item in http.field("paths").items() {
                path(&item);
            }
        }
    }
    for tls in spec.field("tls").items() {
        for host in tls.field("hosts").items() {
            let wildcard = host.str().contains('*');
            host.shape(if wildcard { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain });
        }
        tls.field("secretName").optional_shape(names::dns1123_subdomain);
    }
    if spec.field("ingressClassName").exists() {
        spec.field("ingressClassName").shape(names::dns1123_subdomain);
    }
}

fn host(host: &Cursor<'_>) {
    is_no_ip(host);
    if host.str().contains('*') {
        host.shape(names::wildcard_dns1123_subdomain);
    } else {
        host.shape(names::dns1123_subdomain);
    }
}

fn is_no_ip(host: &Cursor<'_>) {
    if validation::parse_ip(host.str()).is_some() {
        host.invalid("must be a DNS name, not an IP address");
    }
}

fn path(item: &Cursor<'_>) {
    let (kind, path) = (item.field("pathType"), item.field("path"));
    match kind.opt_str() {
        None => {
            kind.missing("pathType must be specified");
            return;
        }
        Some("Exact" | "Prefix") => {
            if !path.str().starts_with('/') {
                path.invalid_value(path.str(), "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if path.str().contains(sequence) {
                    path.invalid(format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if path.str().ends_with(suffix) {
                    path.invalid(format!("cannot end with '{suffix}'"));
                }
            }
        }
        Some("ImplementationSpecific") => {
            if !path.is_empty() && !path.str().starts_with('/') {
                path.invalid("must be an absolute path");
            }
        }
        Some(_) => kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(&item.field("backend"));
}

fn backend(backend: &Cursor<'_>) {
    let (service, resource) = (backend.field("service"), backend.field("resource"));
    match (service.exists(), resource.exists()) {
        (true, true) => backend.invalid_value("", "cannot set both resource and service backends"),
        (false, true) => object_reference(&resource),
        (true, false) => {
            let relaxed = backend.gate("RelaxedServiceNameValidation");
            service.field("name").required_shape(if relaxed { names::dns1123_label } else { names::dns1035_label });
            let port = service.field("port");
            let (named, number) = (!port.field("name").is_empty(), port.field("number").i64().unwrap_or_default() != 0);
            match (named, number) {
                (true, true) => backend.invalid_value("", "cannot set both port name & port number"),
                (true, false) => {
                    port.field("name").shape(names::port_name);
                }
                (false, true) => {
                    port.field("number").port();
                }
                (false, false) => backend.missing("port name or number is required"),
            }
        }
        (false, false) => backend.invalid_value("", "resource or service backend is required"),
    }
}

fn hosts(ingress: &Value) -> String {
    let hosts: Vec<_> =
        items(ingress, "spec.rules").iter().map(|r| text(r, "host")).filter(|h| !h.is_empty()).collect();
    match hosts.len() {
        0 => "*".into(),
        n if n > 3 => format!("{} + {} more...", hosts[..3].join(","), n - 3),
        _ => hosts.join(","),
    }
}

fn addresses(ingress: &Value) -> String {
    let address =
        |i: &Value| if text(i, "ip").is_empty() { text(i, "hostname").to_owned() } else { text(i, "ip").to_owned() };
    items(ingress, "status.loadBalancer.ingress").iter().map(address).collect::<Vec<_>>().join(",")
}
