//! Whom to call, as configurations say it.

use apimachinery::Value;
use base64::Engine;
use std::sync::Arc;

/// Where a server is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Service of this cluster.
    Service { namespace: String, name: String, port: u16 },
    /// A host that DNS knows.
    Host { host: String, port: u16 },
}

/// A server to call and how to know it: read from a configuration once, used for many calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub place: Place,
    /// `host[:port]` as it stands in URLs: `hook.default.svc:443`.
    pub authority: String,
    /// The name that the server's certificate must be for.
    pub server_name: String,
    /// Path with a slash in front.
    pub path: String,
    pub trust: Trust,
}

/// Whose certificates are taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Those that the machine trusts.
    System,
    /// Those of the CAs in this PEM text.
    Bundle(Arc<[u8]>),
    /// Any (`insecureSkipTLSVerify`).
    Any,
}

impl Trust {
    /// Reads a `caBundle`: base64 of PEM; nothing trusts what the machine trusts.
    fn read(bundle: &Value) -> Trust {
        let text = bundle.as_str().unwrap_or("");
        match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(pem) if !pem.is_empty() => Trust::Bundle(pem.into()),
            _ => Trust::System,
        }
    }
}

impl Destination {
    /// Reads a `WebhookClientConfig`, which holds a URL or a Service.
    ///
    /// # Errors
    /// What keeps it from being called; validation lets nothing such in, but other servers write to the same etcd.
    pub fn webhook(config: &Value) -> Result<Destination, String> {
        let trust = Trust::read(&config["caBundle"]);
        if config["service"].is_object() {
            return Ok(Destination { trust, ..Destination::service(&config["service"]) });
        }
        let given = config["url"].as_str().unwrap_or("");
        if given.is_empty() {
            return Err("webhook configuration must have either service or URL".into());
        }
        let url = url::Url::parse(given).map_err(|e| format!("Unparsable URL: {e}"))?;
        let host = url.host_str().ok_or_else(|| format!("Unparsable URL: {given:?} has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let authority = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or("")),
            None => url.host_str().unwrap_or("").to_owned(),
        };
        Ok(Destination {
            server_name: host.clone(),
            place: Place::Host { host, port },
            authority,
            path: url.path().to_owned(),
            trust,
        })
    }

    /// Reads a reference to a Service: `namespace`, `name`, `port` (443 if absent), `path`.
    pub fn service(reference: &Value) -> Destination {
        let text = |name: &str| reference[name].as_str().unwrap_or("").to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        let port = reference["port"].as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0).unwrap_or(443);
        let server_name = format!("{name}.{namespace}.svc");
        let path = text("path");
        Destination {
            authority: format!("{server_name}:{port}"),
            place: Place::Service { namespace, name, port },
            server_name,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            trust: Trust::System,
        }
    }

    /// Reads the `spec` of an APIService that another server answers.
    pub fn api_service(spec: &Value) -> Destination {
        let trust = if spec["insecureSkipTLSVerify"] == true { Trust::Any } else { Trust::read(&spec["caBundle"]) };
        Destination { trust, ..Destination::service(&spec["service"]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn configurations_say_whom_to_call() {
        let service =
            |namespace: &str, name: &str, port| Place::Service { namespace: namespace.into(), name: name.into(), port };
        let host = |host: &str, port| Place::Host { host: host.into(), port };
        for (config, place, authority, server_name, path) in [
            (
                json!({"service": {"namespace": "n", "name": "s"}}),
                service("n", "s", 443),
                "s.n.svc:443",
                "s.n.svc",
                "/",
            ),
            (
                json!({"service": {"namespace": "n", "name": "s", "port": 8443, "path": "/a/b"}}),
                service("n", "s", 8443),
                "s.n.svc:8443",
                "s.n.svc",
                "/a/b",
            ),
            (json!({"url": "https://h.example"}), host("h.example", 443), "h.example", "h.example", "/"),
            (json!({"url": "https://127.0.0.1:99/p"}), host("127.0.0.1", 99), "127.0.0.1:99", "127.0.0.1", "/p"),
            (json!({"url": "https://[::1]:99/p"}), host("::1", 99), "[::1]:99", "::1", "/p"),
        ] {
            let read = Destination::webhook(&config).unwrap();
            assert_eq!(read.place, place, "{config}");
            assert_eq!((&*read.authority, &*read.server_name, &*read.path), (authority, server_name, path), "{config}");
            assert_eq!(read.trust, Trust::System);
        }
        for bad in [json!({}), json!({"url": "no url"}), json!({"url": "data:x"})] {
            assert!(Destination::webhook(&bad).is_err(), "{bad}");
        }
        let bundled = Destination::webhook(&json!({"url": "https://h", "caBundle": "UEVN"})).unwrap();
        assert_eq!(bundled.trust, Trust::Bundle(Arc::from(*b"PEM")));
    }
}
