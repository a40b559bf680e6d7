//! Probes, lifecycle hooks and their handlers.

use apimachinery::validation::{Cursor, names};

/// Checks one of a container's probes.
pub fn probe(probe: &Cursor<'_>, grace: Option<i64>) {
    if !probe.exists() {
        return;
    }
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], grace);
    for name in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        probe.field(name).non_negative();
    }
    probe.field("terminationGracePeriodSeconds").positive();
}

/// Liveness and startup ask only whether it works at all: one success is enough, more make no sense.
pub fn one_success(probe: &Cursor<'_>) {
    let threshold = probe.field("successThreshold");
    if probe.exists() && threshold.i64().unwrap_or_default() != 1 {
        threshold.invalid_value(threshold.i64().unwrap_or_default(), "must be 1");
    }
}

/// Checks the hooks of a container.
pub fn lifecycle(lifecycle: &Cursor<'_>, grace: Option<i64>) {
    for name in ["postStart", "preStop"] {
        let hook = lifecycle.field(name);
        if hook.exists() {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], grace);
        }
    }
    if lifecycle.field("stopSignal").exists() && !lifecycle.field("stopSignal").str().starts_with("SIG") {
        lifecycle.field("stopSignal").invalid("must be the name of a signal, such as SIGTERM");
    }
}

fn handler(at: &Cursor<'_>, kinds: &[&str], grace: Option<i64>) {
    let handlers: Vec<_> = kinds.iter().map(|kind| (*kind, at.field(kind))).filter(|(_, h)| h.exists()).collect();
    for (i, (kind, handler)) in handlers.iter().enumerate() {
        if i > 0 {
            handler.forbid("may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" => {
                handler.field("command").required();
            }
            "httpGet" => http_get(handler),
            "tcpSocket" => int_or_port_name(&handler.field("port")),
            "grpc" => {
                if handler.field("port").i64().is_none_or(|p| !(1..=65535).contains(&p)) {
                    handler.field("port").invalid_value(
                        handler.field("port").i64().unwrap_or_default(),
                        "must be between 1 and 65535, inclusive",
                    );
                }
            }
            _ => sleep(&handler.field("seconds"), grace),
        }
    }
    if handlers.is_empty() {
        at.missing("must specify a handler type");
    }
}

fn http_get(http: &Cursor<'_>) {
    http.field("path").required();
    int_or_port_name(&http.field("port"));
    http.field("scheme").one_of(&["HTTP", "HTTPS"]);
    for header in http.field("httpHeaders").items() {
        header.field("name").shape(names::http_header_name);
    }
}

fn sleep(seconds: &Cursor<'_>, grace: Option<i64>) {
    let (n, max) = (seconds.i64().unwrap_or_default(), grace.unwrap_or(30));
    if n < 0 || n > max {
        seconds.invalid_value(n, format!("must be non-negative and less than terminationGracePeriodSeconds ({max})"));
    }
}

/// A port by number, or by the name it has in the container.
pub fn int_or_port_name(port: &Cursor<'_>) {
    match port.opt_str() {
        Some(name) => names::port_name(name).into_iter().for_each(|problem| port.invalid(problem)),
        None => {
            let number = port.i64().unwrap_or_default();
            names::port_number(number).into_iter().for_each(|problem| port.invalid_value(number, problem));
        }
    }
}
