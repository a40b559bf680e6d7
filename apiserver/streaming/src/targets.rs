//! Where a request goes on: host, port, path.

use super::Backends;
use super::translator::RequestedStreams;
use super::tunnel::Target;
use apimachinery::Value;
use handlers::api::Endpoint;
use percent_encoding::{AsciiSet, CONTROLS};
use request::RequestInfo;
use request::status::{Result, Status};
use std::net::IpAddr;
use std::sync::Arc;
use url::form_urlencoded::{Serializer, parse};

/// The kubelet of a node.
fn kubelet(backends: &Backends, node: &str, path: String) -> Result<Target> {
    let nodes = backends.api.builtin("", "v1", "nodes")?;
    let object = backends.api.cached(&nodes, "", node)?.tree();
    let addresses = object["status"]["addresses"].as_array().cloned().unwrap_or_default();
    let host = backends
        .kubelet
        .address_types
        .iter()
        .find_map(|wanted| addresses.iter().find(|a| a["type"] == **wanted).and_then(|a| a["address"].as_str()))
        .ok_or_else(|| Status::internal(format!("no preferred addresses found; known addresses: {addresses:?}")))?;
    let port = object["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().unwrap_or(10250);
    Ok(Target {
        host: host.to_owned(),
        port: port as u16,
        tls: Some(backends.kubelet.tls.clone()),
        server_name: None,
        path,
        timeout: backends.kubelet.timeout,
    })
}

/// The pod, its node and the container meant: the one named, the default one, or the only one.
async fn pod_on_node(
    backends: &Backends,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    query: &str,
) -> Result<(Value, String, String)> {
    let pod = backends.api.fetch(endpoint, &info.namespace, &info.name).await?.tree();
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let names = |list: &str| {
        let items = pod["spec"][list].as_array();
        items.into_iter().flatten().filter_map(|c| c["name"].as_str()).map(str::to_owned).collect::<Vec<_>>()
    };
    let given =
        parse(query.as_bytes()).find(|(k, _)| k == "container").map(|(_, v)| v.into_owned()).unwrap_or_default();
    let container = if given.is_empty() {
        let default = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str().unwrap_or("");
        match names("containers").as_slice() {
            [one] => one.clone(),
            all if all.iter().any(|n| n == default) => default.to_owned(),
            all => {
                let choose = format!(
                    "a container name must be specified for pod {}, choose one of: [{}]",
                    info.name,
                    all.join(" ")
                );
                return Err(Status::bad_request(choose));
            }
        }
    } else if lists.iter().any(|list| names(list).contains(&given)) {
        given
    } else {
        return Err(Status::bad_request(format!("container {given} is not valid for pod {}", info.name)));
    };
    let node = pod["spec"]["nodeName"].as_str().unwrap_or("").to_owned();
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", info.name)));
    }
    Ok((pod, node, container))
}

pub async fn log(backends: &Backends, endpoint: &Arc<Endpoint>, info: &RequestInfo, query: &str) -> Result<Target> {
    let (_, node, container) = pod_on_node(backends, endpoint, info, query).await?;
    let mut passed = Serializer::new(String::new());
    for (name, value) in parse(query.as_bytes()) {
        match &*name {
            "follow" | "previous" | "sinceSeconds" | "sinceTime" | "tailLines" | "limitBytes" | "timestamps"
            | "stream" => {
                passed.append_pair(&name, &value);
            }
            _ => {}
        }
    }
    for name in ["sinceSeconds", "tailLines", "limitBytes"] {
        let bad = parse(query.as_bytes())
            .any(|(k, v)| k == name && !v.parse::<i64>().is_ok_and(|n| n >= i64::from(name != "tailLines")));
        if bad {
            let error = apimachinery::validation::FieldError::invalid(
                apimachinery::validation::Path::new(name),
                query,
                "must be a positive number",
            );
            return Err(Status::invalid("", "PodLogOptions", &info.name, &[error]));
        }
    }
    kubelet(backends, &node, format!("/containerLogs/{}/{}/{container}?{}", info.namespace, info.name, passed.finish()))
}

/// The streams that a query asks for.
pub fn wanted(query: &str) -> RequestedStreams {
    let on = |name: &str| parse(query.as_bytes()).any(|(k, v)| k == name && is_on(&v));
    RequestedStreams { stdin: on("stdin"), stdout: on("stdout"), stderr: on("stderr"), tty: on("tty") }
}

/// As options are read: present is on, unless it says otherwise.
fn is_on(value: &str) -> bool {
    matches!(value, "1" | "true" | "True" | "TRUE" | "t" | "T" | "")
}

/// Exec and attach differ in the first word of the path. Kubelets name the streams otherwise than the API does.
pub async fn exec(backends: &Backends, endpoint: &Arc<Endpoint>, info: &RequestInfo, query: &str) -> Result<Target> {
    let (pod, node, container) = pod_on_node(backends, endpoint, info, query).await?;
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        let phase = pod["status"]["phase"].as_str().unwrap_or("");
        return Err(Status::internal(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    let mut passed = Serializer::new(String::new());
    let mut streams = 0;
    for (name, value) in parse(query.as_bytes()) {
        let on = is_on(&value);
        match &*name {
            "stdin" if on => passed.append_pair("input", "1"),
            "stdout" if on => passed.append_pair("output", "1"),
            "stderr" if on => passed.append_pair("error", "1"),
            "tty" if on => passed.append_pair("tty", "1"),
            "command" => passed.append_pair("command", &value),
            _ => continue,
        };
        streams += usize::from(matches!(&*name, "stdin" | "stdout" | "stderr"));
    }
    if streams == 0 {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    kubelet(
        backends,
        &node,
        format!("/{}/{}/{}/{container}?{}", info.subresource, info.namespace, info.name, passed.finish()),
    )
}

pub async fn port_forward(
    backends: &Backends,
    endpoint: &Arc<Endpoint>,
    info: &RequestInfo,
    query: &str,
) -> Result<Target> {
    let pod = backends.api.fetch(endpoint, &info.namespace, &info.name).await?.tree();
    let node = pod["spec"]["nodeName"].as_str().unwrap_or("");
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", info.name)));
    }
    let mut passed = Serializer::new(String::new());
    for (_, ports) in parse(query.as_bytes()).filter(|(name, _)| name == "ports") {
        passed.append_pair("port", &ports);
    }
    kubelet(backends, node, format!("/portForward/{}/{}?{}", info.namespace, info.name, passed.finish()))
}

/// The kubelet of a node or, if another port is named, whatever listens there.
pub async fn node(backends: &Backends, info: &RequestInfo, query: &str) -> Result<Target> {
    let (scheme, name, port) = split_name("node", &info.name)?;
    let kubelet = kubelet(backends, name, path(&info.rest, query))?;
    if port.is_empty() || port == kubelet.port.to_string() {
        return Ok(kubelet);
    }
    let addresses = tokio::net::lookup_host((kubelet.host.as_str(), 0)).await;
    let addresses = addresses.map_err(|e| Status::bad_request(format!("{}: {e}", kubelet.host)))?;
    for address in addresses {
        proxyable(&address.ip().to_string())?;
    }
    Ok(plain_or_tls(backends, scheme, &kubelet.host, number(port, &info.name)?, kubelet.path))
}

/// Refuses addresses at which the server would reach itself or its own machine.
///
/// # Errors
/// As upstream: 400, `address not allowed`.
fn proxyable(address: &str) -> Result<()> {
    let is_global = match address.parse() {
        Ok(IpAddr::V4(ip)) => {
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_link_local() || ip.is_broadcast())
        }
        Ok(IpAddr::V6(ip)) => {
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local())
        }
        Err(_) => false,
    };
    if is_global { Ok(()) } else { Err(Status::bad_request("address not allowed")) }
}

fn number(port: &str, name: &str) -> Result<u16> {
    port.parse().map_err(|_| Status::bad_request(format!("invalid port {port:?} in {name:?}")))
}

/// What must be escaped in a path; it was unescaped when the request was read.
const PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}');

/// `scheme:name:port` as proxies take it; scheme and port may be left out. `what` is the kind, for the error.
fn split_name<'a>(what: &str, id: &'a str) -> Result<(&'a str, &'a str, &'a str)> {
    let parts = match id.split(':').collect::<Vec<_>>()[..] {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => ("", "", ""),
    };
    if parts.1.is_empty() || !matches!(parts.0, "" | "http" | "https") {
        return Err(Status::bad_request(format!("invalid {what} request {id:?}")));
    }
    Ok(parts)
}

fn path(rest: &str, query: &str) -> String {
    let rest = if rest.is_empty() { "/" } else { rest };
    let rest = percent_encoding::utf8_percent_encode(rest, PATH);
    if query.is_empty() { rest.to_string() } else { format!("{rest}?{query}") }
}

pub async fn pod(backends: &Backends, endpoint: &Arc<Endpoint>, info: &RequestInfo, query: &str) -> Result<Target> {
    let (scheme, name, port) = split_name("pod", &info.name)?;
    let pod = backends.api.fetch(endpoint, &info.namespace, name).await?.tree();
    let ip = pod["status"]["podIP"].as_str().unwrap_or("");
    proxyable(ip)?;
    let port = match port {
        "" => {
            let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
            let first = containers.filter_map(|container| container["ports"][0]["containerPort"].as_u64()).next();
            first.map_or(if scheme == "https" { 443 } else { 80 }, |port| port as u16)
        }
        port => number(port, &info.name)?,
    };
    Ok(plain_or_tls(backends, scheme, ip, port, path(&info.rest, query)))
}

fn plain_or_tls(backends: &Backends, scheme: &str, host: &str, port: u16, path: String) -> Target {
    let tls = (scheme == "https").then(|| backends.any_tls.clone());
    Target { host: host.to_owned(), port, tls, server_name: None, path, timeout: std::time::Duration::from_secs(30) }
}

pub async fn service(backends: &Backends, endpoint: &Arc<Endpoint>, info: &RequestInfo, query: &str) -> Result<Target> {
    let (scheme, name, port) = split_name("service", &info.name)?;
    let service = backends.api.fetch(endpoint, &info.namespace, name).await?.tree();
    let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let chosen = match port {
        "" if ports.len() == 1 => ports.first(),
        "" => None,
        port => ports.iter().find(|p| p["name"] == port || port.parse().is_ok_and(|n: i64| p["port"] == n)),
    };
    let chosen =
        chosen.ok_or_else(|| Status::unavailable(format!("no service port {port:?} found for service {name:?}")))?;
    let port_name = chosen["name"].as_str().unwrap_or("");
    let endpoints = backends.api.callout.resolver.endpoints(&info.namespace, name, port_name);
    if endpoints.is_empty() {
        return Err(Status::unavailable(format!("no endpoints available for service {name:?}")));
    }
    let (host, port) = &endpoints[rand::random_range(0..endpoints.len())];
    proxyable(host)?;
    Ok(plain_or_tls(backends, scheme, host, *port, path(&info.rest, query)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_proxies_may_hold_a_scheme_and_a_port() {
        for (id, want) in [
            ("a", Some(("", "a", ""))),
            ("a:80", Some(("", "a", "80"))),
            ("https:a:", Some(("https", "a", ""))),
            (":a:http", Some(("", "a", "http"))),
            ("ftp:a:1", None),
            (":80", None),
            ("a:b:c:d", None),
        ] {
            assert_eq!(split_name("pod", id).ok(), want, "{id}");
        }
    }

    #[test]
    fn nobody_is_led_to_the_servers_own_machine() {
        for address in
            ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255", ""]
        {
            assert!(proxyable(address).is_err(), "{address}");
        }
        for address in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1"] {
            assert!(proxyable(address).is_ok(), "{address}");
        }
    }
}
