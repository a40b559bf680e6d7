//! The attributes of a request: verb, resource, namespace, name. Everything after (authorization, admission, routing, audit,
//! metrics) speaks in these terms.

use crate::options::query;
use http::{Method, Uri};

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, … for resources; the lower-case method otherwise.
    pub verb: String,
    /// Under `/api` or `/apis`, with a resource.
    pub is_resource: bool,
    pub path: String,
    pub group: String,
    pub version: String,
    /// Plural.
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// What follows a subresource, with the slash before it: the path given to a proxy. Empty where not even a slash follows.
    pub rest: String,
    /// Of a list, watch or deletion of many; empty where there is none.
    pub field_selector: String,
}

impl RequestInfo {
    /// Whether the name stands in the path, not in a field selector.
    pub fn is_by_path(&self) -> bool {
        !matches!(&*self.verb, "list" | "watch" | "deletecollection")
    }

    pub fn new(method: &Method, uri: &Uri) -> RequestInfo {
        let path = uri.path();
        let mut info =
            RequestInfo { verb: method.as_str().to_ascii_lowercase(), path: path.to_owned(), ..Default::default() };
        let parts: Vec<String> = path
            .split('/')
            .filter(|p| !p.is_empty())
            .map(|p| percent_encoding::percent_decode_str(p).decode_utf8_lossy().into_owned())
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let mut rest = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = version.to_string();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = group.to_string();
                info.version = version.to_string();
                rest
            }
            _ => return info,
        };
        info.is_resource = true;
        let mut watch = false;
        if let ["watch", more @ ..] = rest
            && !more.is_empty()
        {
            watch = true;
            rest = more;
        }
        if let ["namespaces", namespace, more @ ..] = rest {
            info.namespace = namespace.to_string();
            // A namespace is a resource itself, and its subresources are not resources in it.
            if !more.is_empty() && !matches!(more, ["status" | "finalize"]) {
                rest = more;
            }
        }
        if let [resource, rest @ ..] = rest {
            info.resource = resource.to_string();
            if let [name, rest @ ..] = rest {
                info.name = name.to_string();
                if let [subresource, rest @ ..] = rest {
                    info.subresource = subresource.to_string();
                    let slash = if path.ends_with('/') { "/" } else { "" };
                    info.rest = rest.iter().map(|part| format!("/{part}")).collect::<String>() + slash;
                }
            }
        }
        let watching = || query(uri).any(|(k, v)| k == "watch" && crate::options::flag(&v));
        info.verb = match (method.as_str(), info.name.is_empty()) {
            ("GET" | "HEAD", _) if watch => "watch",
            ("GET" | "HEAD", true) if watching() => "watch",
            ("GET" | "HEAD", true) => "list",
            ("GET" | "HEAD", false) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "deletecollection",
            ("DELETE", false) => "delete",
            _ => "",
        }
        .to_owned();
        // Whoever may only see one object can list and watch it by its name.
        if matches!(&*info.verb, "list" | "watch" | "deletecollection") && info.name.is_empty() {
            let selector = query(uri).find(|(k, _)| k == "fieldSelector");
            info.field_selector = selector.map(|(_, v)| v.into_owned()).unwrap_or_default();
            if let Some(name) = info.field_selector.split(',').find_map(|t| t.strip_prefix("metadata.name=")) {
                let name = name.trim_start_matches('=');
                if !name.is_empty() && !name.contains(['/', '\\']) {
                    info.name = name.to_owned();
                }
            }
        }
        info
    }

    /// Reads change nothing.
    pub fn is_read_only(&self) -> bool {
        matches!(&*self.verb, "get" | "list" | "watch" | "head" | "options")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_verb_resource_namespace_and_name() {
        let cases = [
            ("GET", "/api/v1/namespaces/a/pods", "list", "pods", "a", "", ""),
            ("GET", "/api/v1/pods?watch=true", "watch", "pods", "", "", ""),
            ("GET", "/api/v1/watch/namespaces/a/pods", "watch", "pods", "a", "", ""),
            ("GET", "/api/v1/namespaces/a", "get", "namespaces", "a", "a", ""),
            ("PUT", "/api/v1/namespaces/a/finalize", "update", "namespaces", "a", "a", "finalize"),
            ("POST", "/api/v1/namespaces/a/pods/p/exec", "create", "pods", "a", "p", "exec"),
            ("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection", "deployments", "a", "", ""),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list", "pods", "", "x", ""),
            ("PATCH", "/api/v1/nodes/n/status", "patch", "nodes", "", "n", "status"),
        ];
        for (method, path, verb, resource, namespace, name, subresource) in cases {
            let info = RequestInfo::new(&method.parse().unwrap(), &path.parse().unwrap());
            let got = (&*info.verb, &*info.resource, &*info.namespace, &*info.name, &*info.subresource);
            assert_eq!(got, (verb, resource, namespace, name, subresource), "{method} {path}");
            assert!(info.is_resource);
        }
    }

    #[test]
    fn other_paths_are_no_resources() {
        for path in ["/healthz", "/api", "/api/v1", "/apis", "/apis/apps/v1", "/"] {
            assert!(!RequestInfo::new(&Method::GET, &path.parse().unwrap()).is_resource, "{path}");
        }
    }
}
