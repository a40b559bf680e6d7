//! Links in what is behind a proxy. A page there calls itself `/`, the client knows it as `/api/…/proxy/`: links and redirects to the
//! same host get that path put before theirs, or a browser would follow them to the API server itself.

use super::tunnel::Target;
use bytes::Bytes;
use component_base::serving::Body;
use handlers::Response;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Frame;
use lol_html::send::{HtmlRewriter, Settings};
use lol_html::{MemorySettings, element};
use parking_lot::Mutex;
use request::status::{Result, Status};
use std::sync::Arc;

/// What the rewriter may hold of one page: a tag that is longer ends the page.
const MEMORY_MAX: usize = 1 << 20;

/// Which attributes of which elements are links. (HTML 4.01 and HTML 5, index of attributes.)
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["formaction", "src", "usemap"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// How links of one target are rewritten.
#[derive(Clone, Debug)]
pub struct Links {
    /// What stands before a path of the target: `/api/v1/namespaces/a/services/b/proxy`.
    prefix: String,
    /// `host:port` of the target, and what the client calls us: links to other hosts stay as they are.
    hosts: [String; 2],
}

impl Links {
    /// `path` is the request's, `rest` what of it is the target's.
    pub fn new(target: &Target, path: &str, rest: &str, host: &str) -> Links {
        let prefix = path.strip_suffix(rest).unwrap_or(path).to_owned();
        Links { prefix, hosts: [format!("{}:{}", target.host, target.port), host.to_owned()] }
    }

    /// The link as the client must follow it; none if it may stay.
    fn rewritten(&self, link: &str) -> Option<String> {
        let (host, path) = match link.split_once("//") {
            Some(("" | "http:" | "https:", rest)) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            _ => ("", link),
        };
        let other = !host.is_empty() && self.hosts.iter().all(|own| own != host);
        if other || !path.starts_with('/') {
            return None;
        }
        Some(if path.starts_with(&self.prefix) { path.to_owned() } else { format!("{}{path}", self.prefix) })
    }

    /// An answer whose redirect, or the links in whose page, lead through the proxy.
    ///
    /// # Errors
    /// When `Location` is no text.
    pub fn rewrite(self, answer: Response) -> Result<Response> {
        let (mut head, body) = answer.into_parts();
        if let Some(location) = head.headers.get(LOCATION) {
            let text = location
                .to_str()
                .map_err(|e| Status::internal(format!("error trying to parse Location header: {e}")))?;
            if let Some(link) = self.rewritten(text).and_then(|link| HeaderValue::from_str(&link).ok()) {
                head.headers.insert(LOCATION, link);
            }
            return Ok(Response::from_parts(head, body));
        }
        if !is_page(&head.headers) {
            return Ok(Response::from_parts(head, body));
        }
        head.headers.remove(CONTENT_LENGTH);
        Ok(Response::from_parts(head, self.page(body)))
    }

    /// A page, rewritten as it passes.
    fn page(self, body: Body) -> Body {
        let out = Arc::new(Mutex::new(Vec::new()));
        let sink = out.clone();
        let handler = element!("*", move |element| {
            let tag = element.tag_name();
            let attributes = LINKS.iter().find(|(name, _)| *name == tag).map_or(&[][..], |(_, attributes)| *attributes);
            for attribute in attributes {
                if let Some(link) = element.get_attribute(attribute).and_then(|link| self.rewritten(&link)) {
                    element.set_attribute(attribute, &link)?;
                }
            }
            Ok(())
        });
        let settings = Settings::new_send()
            .append_element_content_handler(handler)
            .with_memory_settings(MemorySettings::new().with_max_allowed_memory_usage(MEMORY_MAX));
        let rewriter = HtmlRewriter::new(settings, move |part: &[u8]| sink.lock().extend_from_slice(part));
        let state = (BodyStream::new(body), Some(rewriter), out);
        let frames = futures::stream::unfold(state, |(mut body, mut rewriter, out)| async move {
            use futures::StreamExt;
            loop {
                let mut page = rewriter.take()?;
                let failed = match body.next().await {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            let written = page.write(&data);
                            rewriter = Some(page);
                            written.err().map(|e| e.to_string())
                        }
                        Err(_) => {
                            rewriter = Some(page);
                            continue; // trailers
                        }
                    },
                    Some(Err(e)) => return Some((Err(e), (body, None, out))),
                    None => page.end().err().map(|e| e.to_string()),
                };
                if let Some(why) = failed {
                    return Some((Err(why.into()), (body, None, out)));
                }
                let ready = std::mem::take(&mut *out.lock());
                if !ready.is_empty() {
                    return Some((Ok(Frame::data(Bytes::from(ready))), (body, rewriter, out)));
                }
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

/// HTML that can be read: proxies ask for pages that are not compressed, who compresses all the same sends what is passed as it is.
fn is_page(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    content.split(';').next().unwrap_or("").trim() == "text/html" && !headers.contains_key(CONTENT_ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use component_base::serving;

    const PREFIX: &str = "/api/v1/namespaces/a/services/b/proxy";

    fn links() -> Links {
        Links { prefix: PREFIX.into(), hosts: ["10.0.0.1:80".into(), "api.example:6443".into()] }
    }

    #[test]
    fn links_to_the_same_host_lead_through_the_proxy() {
        for (link, want) in [
            ("/x", Some("/x")),
            ("/", Some("/")),
            ("/x/?a=b#c", Some("/x/?a=b#c")),
            ("http://10.0.0.1:80/x", Some("/x")),
            ("https://api.example:6443/x", Some("/x")),
            ("//10.0.0.1:80/x", Some("/x")),
            ("x/y", None),
            ("#top", None),
            ("mailto:a@b", None),
            ("http://other.example/x", None),
            ("http://10.0.0.1:80", None),
            ("/login?next=http://other.example/x", Some("/login?next=http://other.example/x")),
        ] {
            assert_eq!(links().rewritten(link), want.map(|path| format!("{PREFIX}{path}")), "{link}");
        }
        let through = format!("{PREFIX}/x");
        assert_eq!(links().rewritten(&through), Some(through), "what leads through it already stays");
    }

    #[tokio::test]
    async fn pages_are_rewritten_in_whatever_pieces_they_come() {
        let page = "<html><body background=/b><a class=x href=\"/rewriteme\">test</a><p href=\"/no\">é</p><img src='i.png'></body></html>";
        let want = format!(
            "<html><body background=\"{PREFIX}/b\"><a class=x href=\"{PREFIX}/rewriteme\">test</a><p href=\"/no\">é</p><img src='i.png'></body></html>"
        );
        for size in [1, 7, 1000] {
            let pieces: Vec<Bytes> = page.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
            let stream = futures::stream::iter(pieces.into_iter().map(Ok::<Bytes, std::convert::Infallible>));
            let mut answer = Response::new(serving::stream(stream));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(page.len()));
            let answer = links().rewrite(answer).unwrap();
            assert!(!answer.headers().contains_key(CONTENT_LENGTH));
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), want.as_bytes(), "{size}");
        }
    }

    #[test]
    fn a_redirect_leads_through_the_proxy() {
        let mut answer = Response::new(serving::empty());
        answer.headers_mut().insert(LOCATION, HeaderValue::from_static("http://10.0.0.1:80/next/"));
        let answer = links().rewrite(answer).unwrap();
        assert_eq!(answer.headers()[LOCATION], format!("{PREFIX}/next/"));
    }
}
