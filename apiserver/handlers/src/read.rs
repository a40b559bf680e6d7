//! GET of one object and of a list.

use super::Response;
use super::list::respond_objects;
use super::negotiate::{View, accept};
use super::render::Renderer;
use super::selection::Selection;
use super::table::IncludeObject;
use crate::api::{Api, Endpoint};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use http::{Request, StatusCode};
use request::RequestInfo;
use request::options::{ListOptions, query};
use request::status::{About, ListMeta, Result, Status};
use serde_json::{Value, json};
use std::sync::Arc;
use storage::cache::{NotKept, Snapshot};
use storage::freshness::CATCH_UP_MAX;
use storage::object::Object;

/// Objects converted at once when fields of another version are selected by.
const CONVERTED_AT_ONCE: usize = 500;

pub fn renderer<B>(endpoint: &Arc<Endpoint>, request: &Request<B>) -> Result<Renderer> {
    let accepted = accept(request.headers(), request.uri().query())?;
    Ok(Renderer { endpoint: endpoint.clone(), accepted, include: IncludeObject::parse(request.uri().query()) })
}

/// A resourceVersion parameter: nothing, or a number.
pub fn resource_version(text: &str) -> Result<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Status::bad_request(format!("Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"))
    })
}

impl Api {
    /// Waits until reads may be answered: fresh (`None`), at least at a version, or at once (0).
    pub async fn ready_for(&self, version: Option<u64>) -> Result<()> {
        match version {
            None => {
                self.freshness.barrier().await?;
            }
            Some(version) => {
                if !self.progress.wait(version, CATCH_UP_MAX).await {
                    return Err(Status::too_new(version, self.progress.seen()));
                }
            }
        }
        Ok(())
    }

    /// The object now, as fresh as etcd.
    pub async fn fetch(&self, endpoint: &Endpoint, namespace: &str, name: &str) -> Result<Arc<Object>> {
        self.freshness.barrier().await?;
        self.cached(endpoint, namespace, name)
    }

    /// The object as the cache has it.
    pub fn cached(&self, endpoint: &Endpoint, namespace: &str, name: &str) -> Result<Arc<Object>> {
        let row = &endpoint.row;
        let about = About { group: &row.kind.group, resource: &row.plural, name };
        endpoint.cache()?.get(&row.key(namespace, name)).ok_or_else(|| Status::not_found(about))
    }

    pub async fn get<B>(&self, endpoint: &Arc<Endpoint>, info: &RequestInfo, request: &Request<B>) -> Result<Response> {
        let renderer = renderer(endpoint, request)?;
        let version =
            query(request.uri()).find(|(k, _)| k == "resourceVersion").map(|(_, v)| v.into_owned()).unwrap_or_default();
        self.ready_for(resource_version(&version)?).await?;
        let object = self.cached(endpoint, &info.namespace, &info.name)?;
        let object = self.readable_one(endpoint, object).await?;
        Ok(renderer.respond(StatusCode::OK, renderer.object(&object)?))
    }

    pub async fn list<B>(
        &self,
        endpoint: &Arc<Endpoint>,
        info: &RequestInfo,
        request: &Request<B>,
    ) -> Result<Response> {
        let renderer = renderer(endpoint, request)?;
        let options = ListOptions::parse(request.uri())?;
        options.validate(false)?;
        let mut page = self.page(endpoint, &info.namespace, &options).await?;
        page.objects = self.readable(endpoint, page.objects).await?;
        Ok(page.respond(renderer))
    }

    /// The objects that a list is about.
    pub async fn page(&self, endpoint: &Arc<Endpoint>, namespace: &str, options: &ListOptions) -> Result<Page> {
        let cache = endpoint.cache()?;
        let selection = Selection::new(&endpoint.row, namespace, options)?;
        let mut after = String::new();
        let snapshot = if options.continue_token.is_empty() {
            let version = resource_version(&options.resource_version)?;
            if options.resource_version_match == "Exact" {
                let version = version.unwrap_or(0);
                self.ready_for(Some(version)).await?;
                let expired = || Status::expired("The resourceVersion for the provided list is too old.");
                self.exact(endpoint, version, expired)?
            } else {
                // A page by page walk from version 0 would never end at one version, so upstream reads it fresh.
                self.ready_for(version).await?;
                cache.snapshot()
            }
        } else {
            let token = Continue::decode(&options.continue_token)?;
            after = format!("{}{}", selection.prefix, token.start.trim_end_matches('\0'));
            if token.rv < 0 {
                self.ready_for(None).await?;
                cache.snapshot()
            } else {
                self.ready_for(Some(token.rv as u64)).await?;
                self.exact(endpoint, token.rv as u64, || walk_expired(&token.start))?
            }
        };
        let limit = if options.limit == 0 { usize::MAX } else { options.limit };
        let mut page = Page { objects: Vec::new(), revision: snapshot.revision, next: None, remaining: None };
        if let Some(key) = selection.key(&endpoint.row) {
            let one: Vec<_> = snapshot.get(&key).filter(|o| selection.matches(o)).cloned().into_iter().collect();
            if selection.converted {
                return self.converted_page(endpoint, &selection, page, one, limit).await;
            }
            page.objects = one;
            return Ok(page);
        }
        if selection.converted {
            let candidates =
                snapshot.select(&selection.prefix, &after, selection.wanted).filter(|o| selection.matches(o));
            let candidates = candidates.cloned().collect();
            return self.converted_page(endpoint, &selection, page, candidates, limit).await;
        }
        let mut matching =
            snapshot.select(&selection.prefix, &after, selection.wanted).filter(|o| selection.matches(o));
        page.objects.extend(matching.by_ref().take(limit).cloned());
        if page.objects.len() == limit
            && let Some(_more) = matching.next()
        {
            let last = page.objects.last().map_or("", |o| &o.key[selection.prefix.len()..]);
            page.next = Some(Continue { rv: snapshot.revision as i64, start: format!("{last}\0") }.encode());
            if selection.is_everything() {
                page.remaining = Some(1 + matching.count());
            }
        }
        Ok(page)
    }

    /// The first of `candidates` that match in the version asked for: as many are converted at once as are likely needed.
    async fn converted_page(
        &self,
        endpoint: &Arc<Endpoint>,
        selection: &Selection,
        mut page: Page,
        candidates: Vec<Arc<Object>>,
        limit: usize,
    ) -> Result<Page> {
        for batch in candidates.chunks(CONVERTED_AT_ONCE) {
            for object in self.readable(endpoint, batch.to_vec()).await? {
                if !selection.matches_converted(&object) {
                    continue;
                }
                if page.objects.len() == limit {
                    let last = page.objects.last().map_or("", |o| &o.key[selection.prefix.len()..]);
                    page.next = Some(Continue { rv: page.revision as i64, start: format!("{last}\0") }.encode());
                    return Ok(page);
                }
                page.objects.push(object);
            }
        }
        Ok(page)
    }

    fn exact(&self, endpoint: &Endpoint, version: u64, expired: impl FnOnce() -> Status) -> Result<Snapshot> {
        endpoint.cache()?.at(version).map_err(|e| match e {
            NotKept::Future => Status::too_new(version, self.progress.seen()),
            NotKept::Expired => expired(),
        })
    }
}

/// The version of a walk through pages is gone. Who can live with pages of two versions gets a token that goes on.
fn walk_expired(start: &str) -> Status {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list \
                   without the continue parameter, or go on from the same place with the continue token in this response: what \
                   was written since the first page may then be missing or appear twice.";
    let list = ListMeta { continue_token: Continue { rv: -1, start: start.to_owned() }.encode() };
    Status { list: Some(Box::new(list)), ..Status::expired(message) }
}

/// The objects of one page.
pub struct Page {
    pub objects: Vec<Arc<Object>>,
    pub revision: u64,
    /// Token of the next page.
    pub next: Option<String>,
    pub remaining: Option<usize>,
}

impl Page {
    fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if let Some(next) = &self.next {
            metadata["continue"] = next.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }

    pub fn respond(self, renderer: Renderer) -> Response {
        let mut metadata = self.metadata();
        if self.next.is_none() && renderer.endpoint.row.is_custom() && renderer.accepted.view == View::Whole {
            // Lists without a Go type have no members to leave out when empty.
            metadata["continue"] = "".into();
        }
        respond_objects(renderer, self.objects, &metadata)
    }
}

/// Where a list goes on: the version all pages are of, and the key after which this one starts.
pub struct Continue {
    /// −1: whatever version is current.
    rv: i64,
    start: String,
}

impl Continue {
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": self.rv, "start": self.start}).to_string())
    }

    pub fn decode(token: &str) -> Result<Continue> {
        let bad =
            |why: String| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let trimmed = token.trim_end_matches('=');
        let bytes = URL_SAFE_NO_PAD
            .decode(trimmed)
            .or_else(|_| STANDARD_NO_PAD.decode(trimmed))
            .map_err(|e| bad(e.to_string()))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if value["v"] != "meta.k8s.io/v1" {
            return Err(bad("server does not recognize this encoded version".into()));
        }
        let (rv, start) = (value["rv"].as_i64().unwrap_or(0), value["start"].as_str().unwrap_or("").to_owned());
        if rv == 0 || start.is_empty() {
            return Err(bad("incorrect encoded start resourceVersion or key".into()));
        }
        if start.split('/').any(|part| part == ".." || part == ".") {
            return Err(bad(start));
        }
        Ok(Continue { rv, start })
    }
}
