//! `/containerLogs` and `/logs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use component_base::serving::{self, Body};
use container_logs::read::{Options, Reader};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use pod_lifecycle::Lifecycle;
use pod_state::runtime::{self, Instance, Observed, State};
use pod_state::spec;

use super::{Query, failure, segments};

/// `GET /containerLogs/{namespace}/{pod}/{container}`.
pub async fn container(lifecycle: Arc<Lifecycle>, request: Request<Incoming>) -> Response<Body> {
    let query = Query::of(&request);
    let options = match options(&query) {
        Ok(options) => options,
        Err(message) => return failure(StatusCode::UNPROCESSABLE_ENTITY, message),
    };
    let [namespace, name, container] = segments(&request, "/containerLogs/").try_into().unwrap_or_default();
    let Some(pod) = lifecycle.pods.by_name(&namespace, &name) else {
        return failure(StatusCode::NOT_FOUND, format!("pod \"{name}\" not found\n"));
    };
    let known = spec::spec(&pod).containers.iter().chain(spec::init_containers(&pod)).any(|c| c.name == container)
        || spec::ephemeral_containers(&pod).iter().any(|c| c.name == container);
    if !known {
        return failure(StatusCode::NOT_FOUND, format!("container \"{container}\" not found in pod \"{name}\"\n"));
    }
    let observed = match runtime::observe(&lifecycle.context.cri, spec::uid(&pod), &Observed::default()).await {
        Ok(observed) => observed,
        Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let instance = match pick(&lifecycle, &pod, &container, &observed, query.flag("previous")) {
        Ok(instance) => instance,
        Err(message) => return failure(StatusCode::BAD_REQUEST, message),
    };
    let reader = match Reader::open(lifecycle.context.cri.clone(), instance, options).await {
        Ok(reader) => reader,
        Err(error) => {
            return failure(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("failed to open the log of container \"{container}\": {error}"),
            );
        }
    };
    let pieces = futures::stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    let mut response = Response::new(serving::stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// The instance whose log is meant.
fn pick(
    lifecycle: &Lifecycle,
    pod: &Pod,
    container: &str,
    observed: &Observed,
    previous: bool,
) -> Result<Arc<Instance>, String> {
    let newest = observed.newest(container);
    if previous {
        // While a crashed container waits for its restart, its last run is the previous one already.
        let waiting = lifecycle.statuses.get(spec::uid(pod)).is_some_and(|status| {
            let all = status.container_statuses.into_iter().flatten();
            let own = all.chain(status.init_container_statuses.into_iter().flatten()).find(|s| s.name == container);
            own.is_some_and(|own| own.state.is_some_and(|state| state.waiting.is_some()))
        });
        let last = newest.filter(|newest| waiting && newest.state == State::Exited);
        return last.or_else(|| observed.previous(container)).cloned().ok_or_else(|| {
            format!("previous terminated container \"{container}\" in pod \"{}\" not found", spec::name(pod))
        });
    }
    newest.filter(|newest| newest.state != State::Created).cloned().ok_or_else(|| {
        let status = lifecycle.statuses.get(spec::uid(pod)).unwrap_or_default();
        let all = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
        let reason = all.into_iter().find(|s| s.name == container).and_then(|s| s.state?.waiting?.reason);
        let reason = reason.unwrap_or_else(|| "ContainerCreating".into());
        format!("container \"{container}\" in pod \"{}\" is waiting to start: {reason}", spec::name(pod))
    })
}

fn options(query: &Query) -> Result<Options, String> {
    let number = |key: &str| -> Result<Option<usize>, String> {
        let parse = |text: &str| text.parse().map_err(|_| format!("{key}: {text:?} must be a whole number, 0 or more"));
        query.get(key).filter(|text| !text.is_empty()).map(parse).transpose()
    };
    let since = match (query.get("sinceTime").filter(|text| !text.is_empty()), number("sinceSeconds")?) {
        (Some(_), Some(_)) => return Err("at most one of sinceTime or sinceSeconds may be specified".into()),
        (Some(time), None) => Some(time.parse().map_err(|_| format!("sinceTime: {time:?} is no RFC 3339 time"))?),
        (None, Some(seconds)) => {
            Timestamp::now().checked_sub(SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))).ok()
        }
        (None, None) => None,
    };
    Ok(Options {
        follow: query.flag("follow"),
        timestamps: query.flag("timestamps"),
        tail: number("tailLines")?,
        since,
        limit_bytes: number("limitBytes")?,
        stream: match query.get("stream") {
            None | Some("" | "All") => None,
            Some("Stdout") => Some("stdout"),
            Some("Stderr") => Some("stderr"),
            Some(other) => return Err(format!("stream: {other:?} must be All, Stdout or Stderr")),
        },
    })
}

/// Where the node's own logs are.
const NODE_LOGS: &str = "/var/log";

/// The file or directory below `root` that a path means. Links and "..", however they are written, may lead anywhere; only
/// what is really below the root is shown.
fn below(root: &Path, path: &str) -> Option<PathBuf> {
    let root = root.canonicalize().ok()?;
    let real = root.join(path.trim_start_matches('/')).canonicalize().ok()?;
    real.starts_with(&root).then_some(real)
}

/// `GET /logs/{path}`: files below /var/log, and lists of its directories.
pub async fn node(_: Arc<Lifecycle>, request: Request<Incoming>) -> Response<Body> {
    let path = segments(&request, "/logs/").join("/");
    let Some(real) = below(Path::new(NODE_LOGS), &path) else {
        return failure(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    if real.is_dir() {
        // Its links are relative, so it has to be a directory for the client too.
        if !request.uri().path().ends_with('/') {
            let name = request.uri().path().rsplit('/').next().unwrap_or_default();
            let mut response = failure(StatusCode::MOVED_PERMANENTLY, "");
            if let Ok(location) = HeaderValue::try_from(format!("{name}/")) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            return response;
        }
        return list(&real).await;
    }
    match tokio::fs::File::open(&real).await {
        Ok(file) => {
            let pieces = futures::stream::try_unfold(file, |mut file| async {
                let mut piece = bytes::BytesMut::with_capacity(64 << 10);
                let read = tokio::io::AsyncReadExt::read_buf(&mut file, &mut piece).await?;
                Ok::<_, std::io::Error>((read > 0).then(|| (piece.freeze(), file)))
            });
            let mut response = Response::new(serving::stream(pieces));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            response
        }
        Err(_) => failure(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// A directory as a page of links.
async fn list(dir: &Path) -> Response<Body> {
    let mut names = Vec::new();
    if let Ok(mut entries) = tokio::fs::read_dir(dir).await {
        while let Ok(Some(entry)) = entries.next_entry().await {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
        }
    }
    names.sort();
    let escape = |name: &str| name.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let lines: Vec<String> =
        names.iter().map(|name| escape(name)).map(|n| format!("<a href=\"{n}\">{n}</a>\n")).collect();
    let mut response = Response::new(serving::full(format!("<pre>\n{}</pre>\n", lines.concat())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_log_directory_is_shown() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("log");
        std::fs::create_dir_all(root.join("pods")).expect("made");
        std::fs::write(root.join("pods/a.log"), "").expect("written");
        std::fs::write(dir.path().join("secret"), "").expect("written");
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("link")).expect("linked");
        std::os::unix::fs::symlink("pods/a.log", root.join("inside")).expect("linked");
        for (path, shown) in [
            ("", true),
            ("pods", true),
            ("pods/a.log", true),
            ("inside", true),
            ("pods/../pods/a.log", true),
            ("../secret", false),
            ("pods/../../secret", false),
            ("/../secret", false),
            ("link", false),
            ("missing", false),
        ] {
            assert_eq!(below(&root, path).is_some(), shown, "{path:?}");
        }
    }

    #[test]
    fn options_come_from_the_query() {
        let parse = |query: &str| options(&Query::of(&Request::get(format!("/?{query}")).body(()).expect("a request")));
        let all = parse("follow=true&tailLines=5&timestamps=1&limitBytes=10&stream=Stderr").expect("options");
        assert_eq!(
            (all.follow, all.tail, all.timestamps, all.limit_bytes, all.stream),
            (true, Some(5), true, Some(10), Some("stderr"))
        );
        for bad in [
            "tailLines=-1",
            "tailLines=x",
            "sinceTime=yesterday",
            "stream=both",
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
