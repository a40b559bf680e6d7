//! Watches: what there is if asked for, then every change, until the client leaves, its time is up or it falls behind.

use super::Response;
use super::negotiate::{Encoding, View, media_types};
use super::read::{renderer, resource_version};
use super::render::{Renderer, encode, meta};
use super::response::respond;
use super::selection::Selection;
use crate::api::{Api, Endpoint};
use crate::metrics;
use apimachinery::codec::cbor;
use apimachinery::codec::wire::{put_bytes, put_message};
use apimachinery::schema::GroupVersionKind;
use bytes::{BufMut, Bytes, BytesMut};
use component_base::metrics::{IntCounter, IntGauge};
use component_base::serving;
use futures::future::BoxFuture;
use http::Request;
use registry::edit::typed;
use request::RequestInfo;
use request::options::ListOptions;
use request::status::{Result, Status};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use storage::StorageError;
use storage::cache::Snapshot;
use storage::catch_up::{self, CatchUp, Step};
use storage::freshness::{CATCH_UP_MAX, Progress};
use storage::object::{Event, EventType, Object};
use storage::watchers::Subscription;
use tokio::time::Interval;

/// Between bookmarks of a quiet watch. Upstream sends them about once a minute.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// Bytes of events that are sent at once.
const PIECE: usize = 64 * 1024;

/// Initial objects that are converted at once, where versions are.
const CONVERTED_AHEAD: usize = 500;

/// Upstream ends watches after a random time between half an hour and an hour.
const WATCH_SECONDS_MIN: u64 = 1800;

/// What is sent at once. A single event, which is what a watch mostly sends, is the line that all watchers share, not a copy of it.
#[derive(Default)]
struct Piece {
    shared: Bytes,
    /// Begins with what was shared, once there is more than one thing.
    own: BytesMut,
}

impl Piece {
    fn len(&self) -> usize {
        self.shared.len() + self.own.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn share(&mut self, bytes: Bytes) {
        if self.is_empty() {
            self.shared = bytes;
        } else {
            self.own().put(bytes);
        }
    }

    /// To append to.
    fn own(&mut self) -> &mut BytesMut {
        if !self.shared.is_empty() {
            self.own.reserve(PIECE);
            self.own.put(std::mem::take(&mut self.shared));
        }
        &mut self.own
    }

    fn into_bytes(self) -> Bytes {
        if self.shared.is_empty() { self.own.freeze() } else { self.shared }
    }
}

/// Where a watch gets its events from.
enum Source {
    /// From etcd, as long as it is behind the history. Left for [`Source::Live`] when it has reached that.
    Older(CatchUp),
    /// From the cache, to the watch's end.
    Live(Subscription),
}

impl Source {
    /// The next event if it is there already.
    fn try_next(&mut self) -> Option<Arc<Event>> {
        match self {
            Source::Older(_) => None,
            Source::Live(live) => live.try_next(),
        }
    }
}

/// What waiting for a source brought.
enum Arrival {
    Event(Arc<Event>),
    Step(std::result::Result<Step, StorageError>),
    /// The watcher fell behind, or the server lets go of it. Its client resumes from the last version that it has heard of.
    Ended,
}

/// A running watch: what it still has to send, and where more comes from.
struct Watch {
    renderer: Renderer,
    selection: Selection,
    /// `{"kind":…,"apiVersion":…,` of the version watched.
    prefix: Bytes,
    /// Objects to send as additions before anything else.
    initial: VecDeque<Arc<Object>>,
    /// How many of the first of them are in the version watched.
    initial_ready: usize,
    /// An error has been sent: nothing follows.
    failed: bool,
    /// Bookmark that ends the initial objects, if one is due.
    initial_end: Option<u64>,
    missed: VecDeque<Arc<Event>>,
    source: Source,
    /// The last version that the client has heard of.
    revision: u64,
    progress: Arc<Progress>,
    bookmarks: Option<Interval>,
    /// Columns went out already.
    sent_columns: bool,
    /// The end of the watch's time, or of the server's. One future for the whole watch: made anew for each wait it would go into and
    /// out of the timer's and the token's lists with every event.
    end: BoxFuture<'static, ()>,
    /// How many run, and how many events they sent.
    running: Running,
}

/// A watch among those that run, as long as it does.
struct Running {
    now: IntGauge,
    events: IntCounter,
}

impl Running {
    fn new(endpoint: &Endpoint, namespace: &str) -> Running {
        let kind = &endpoint.row.kind;
        let (group, version, resource) = (&*kind.group, &*kind.version, &*endpoint.row.plural);
        let scope = if namespace.is_empty() { "cluster" } else { "namespace" };
        let now = metrics::LONG_RUNNING.with_label_values(&["WATCH", group, version, resource, "", scope, "apiserver"]);
        now.inc();
        Running { now, events: metrics::WATCH_EVENTS.with_label_values(&[group, version, resource]) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.now.dec();
    }
}

impl Api {
    pub async fn watch<B>(
        &self,
        endpoint: &Arc<Endpoint>,
        info: &RequestInfo,
        request: &Request<B>,
        closing: tokio_util::sync::CancellationToken,
    ) -> Result<Response> {
        let renderer = renderer(endpoint, request)?;
        if renderer.accepted.encoding == Encoding::Yaml {
            let known = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
            return Err(Status::not_acceptable(&media_types(known, "application/cbor-seq")));
        }
        let mut options = ListOptions::parse(request.uri())?;
        options.validate(true)?;
        if !info.name.is_empty() && options.field_selector.is_empty() {
            options.field_selector = format!("metadata.name={}", info.name);
        }
        let selection = Selection::new(&endpoint.row, &info.namespace, &options)?;
        let cache = endpoint.cache()?.clone();
        let version = resource_version(&options.resource_version)?;
        let scope = selection.scope(&endpoint.row);
        let with_state = options.send_initial_events.unwrap_or(matches!(version, None | Some(0)));
        let (mut initial, mut missed) = (VecDeque::new(), Vec::new());
        let (source, revision);
        if with_state {
            self.ready_for(version).await?;
            let (snapshot, subscription) = cache.watch_with_state(scope);
            initial = select(&snapshot, &selection, endpoint);
            (source, revision) = (Source::Live(subscription), snapshot.revision);
        } else {
            let from = match version {
                Some(version) if version > 0 => version,
                _ => self.freshness.barrier().await?,
            };
            if !self.progress.wait(from, CATCH_UP_MAX).await {
                return Err(Status::too_new(from, self.progress.seen()));
            }
            revision = from;
            match cache.watch_from(from, scope.clone()) {
                Ok((events, subscription)) => {
                    missed = events;
                    source = Source::Live(subscription);
                }
                Err(_) if from < self.progress.compacted() => {
                    return failed(&renderer, &too_old(from, &self.progress));
                }
                Err(_) => {
                    let Some(place) = catch_up::place().await else {
                        return Err(too_many_older());
                    };
                    source = match CatchUp::start(&self.etcd, cache, from, scope, place).await {
                        Ok(catch_up) => Source::Older(catch_up),
                        Err(StorageError::Compacted) => return failed(&renderer, &too_old(from, &self.progress)),
                        Err(e) => return Err(e.into()),
                    };
                }
            }
        }
        let mut bookmarks = options.allow_watch_bookmarks.then(|| tokio::time::interval(BOOKMARK_EVERY));
        if let Some(interval) = &mut bookmarks {
            interval.reset(); // the first tick is due after a minute, not at once
        }
        let seconds = options
            .timeout_seconds
            .filter(|s| *s > 0)
            .unwrap_or_else(|| WATCH_SECONDS_MIN + rand::random_range(0..WATCH_SECONDS_MIN));
        let stream_type = stream_type(&renderer);
        let watch = Watch {
            prefix: endpoint.row.prefix(),
            initial_end: (with_state && options.send_initial_events == Some(true) && options.allow_watch_bookmarks)
                .then_some(revision),
            renderer,
            selection,
            initial,
            initial_ready: 0,
            failed: false,
            missed: missed.into(),
            source,
            revision,
            progress: self.progress.clone(),
            bookmarks,
            sent_columns: false,
            end: Box::pin(async move {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
                    () = closing.cancelled_owned() => {}
                }
            }),
            running: Running::new(endpoint, &info.namespace),
        };
        // In a box, since it moves with every piece.
        let pieces = futures::stream::unfold(Box::new(watch), |mut watch| async move {
            let piece = watch.next().await?;
            Some((Ok::<Bytes, Infallible>(piece), watch))
        });
        Ok(respond(http::StatusCode::OK, stream_type, serving::stream(pieces)))
    }
}

/// What a client is told that asks for what is compacted: it lists anew.
fn too_old(from: u64, progress: &Progress) -> Status {
    Status::expired(format!("too old resource version: {from} ({})", progress.seen()))
}

/// What a client is told for whom there is no place among the watches that are read from etcd: it comes back.
fn too_many_older() -> Status {
    let why = "Too many watches start from old resource versions, please try again later.";
    let details = json!({"retryAfterSeconds": 1}).as_object().cloned();
    Status { details, ..Status::new(http::StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", why) }
}

/// A watch that ends as it begins: clients look for this error in the stream, not in the answer's code.
fn failed(renderer: &Renderer, status: &Status) -> Result<Response> {
    let kind = GroupVersionKind::new("", "v1", "Status");
    let mut out = BytesMut::new();
    put_value(&mut out, renderer, "ERROR", &kind, status.body());
    Ok(respond(http::StatusCode::OK, stream_type(renderer), serving::full(out.freeze())))
}

fn stream_type(renderer: &Renderer) -> &'static str {
    match renderer.accepted.encoding {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        // One item behind the other (RFC 8742), also for those who asked for one.
        Encoding::Cbor => "application/cbor-seq",
        _ => "application/json",
    }
}

fn select(snapshot: &Snapshot, selection: &Selection, endpoint: &Endpoint) -> VecDeque<Arc<Object>> {
    match selection.key(&endpoint.row) {
        Some(key) => snapshot.get(&key).filter(|o| selection.matches(o)).cloned().into_iter().collect(),
        None => {
            snapshot.select(&selection.prefix, "", selection.wanted).filter(|o| selection.matches(o)).cloned().collect()
        }
    }
}

impl Watch {
    /// The next bytes; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Piece::default();
        if self.failed {
            return None;
        }
        loop {
            // All that is at hand goes out together.
            while out.len() < PIECE {
                if !self.initial.is_empty() {
                    self.put_initial(&mut out).await;
                } else if let Some(revision) = self.initial_end.take() {
                    self.put_bookmark(&mut out, revision, true);
                } else if let Some(event) = self.missed.pop_front().or_else(|| self.source.try_next()) {
                    self.put_event(&mut out, &event).await;
                } else {
                    break;
                }
                if self.failed {
                    return Some(out.into_bytes());
                }
            }
            if !out.is_empty() {
                return Some(out.into_bytes());
            }
            // What the caches have seen says nothing of a watch that is behind them.
            let is_live = matches!(self.source, Source::Live(_));
            let bookmark = async {
                match &mut self.bookmarks {
                    Some(interval) if is_live => interval.tick().await,
                    _ => std::future::pending().await,
                }
            };
            let seen = self.progress.seen(); // read before waiting: every event up to here was in the channel already
            let source = &mut self.source;
            let arrival = async {
                match source {
                    Source::Older(catch_up) => catch_up.next().await.map_or(Arrival::Ended, Arrival::Step),
                    Source::Live(live) => live.next().await.map_or(Arrival::Ended, Arrival::Event),
                }
            };
            tokio::select! {
                biased;
                arrival = arrival => match arrival {
                    Arrival::Event(event) => self.put_event(&mut out, &event).await,
                    Arrival::Step(Ok(Step::Events(events))) => self.missed = events.into(),
                    Arrival::Step(Ok(Step::Joined(missed, live))) => {
                        (self.missed, self.source) = (missed.into(), Source::Live(live));
                    }
                    Arrival::Step(Err(StorageError::Compacted)) => {
                        let status = too_old(self.revision, &self.progress);
                        self.put_error(&mut out, &status);
                    }
                    Arrival::Step(Err(_)) | Arrival::Ended => return None,
                },
                _ = bookmark => {
                    let revision = seen.max(self.revision);
                    self.put_bookmark(&mut out, revision, false);
                }
                () = &mut self.end => return None,
            }
            if self.failed {
                return Some(out.into_bytes());
            }
        }
    }

    /// The next of the initial objects; many are brought into the version watched at once.
    async fn put_initial(&mut self, out: &mut Piece) {
        if let Some(converter) = self.renderer.endpoint.row.conversion.clone()
            && self.initial_ready == 0
        {
            let batch: Vec<_> = self.initial.drain(..self.initial.len().min(CONVERTED_AHEAD)).collect();
            self.initial_ready = batch.len();
            match converter.read_all(&self.renderer.endpoint.row, batch).await {
                Ok(objects) => objects.into_iter().rev().for_each(|object| self.initial.push_front(object)),
                Err(status) => return self.put_error(out, &status),
            }
        }
        self.initial_ready = self.initial_ready.saturating_sub(1);
        if let Some(object) = self.initial.pop_front().filter(|object| self.selection.matches_converted(object)) {
            self.put(out, EventType::Added, &object, None);
        }
    }

    /// Tells the client what went wrong; the watch ends with it.
    fn put_error(&mut self, out: &mut Piece, status: &Status) {
        let kind = GroupVersionKind::new("", "v1", "Status");
        put_value(out.own(), &self.renderer, "ERROR", &kind, status.body());
        self.failed = true;
    }

    /// An event as this watch sees it: a change into its selection is an addition, one out of it a deletion.
    async fn put_event(&mut self, out: &mut Piece, event: &Arc<Event>) {
        let deleted = event.kind == EventType::Deleted;
        let is = !deleted && self.selection.matches(&event.object);
        let was = event.previous.as_ref().filter(|p| self.selection.matches(p));
        self.revision = event.revision;
        // What leaves the selection is told as it was in it.
        let left = |previous: &Arc<Object>| Arc::new(previous.at_revision(event.revision));
        let Some(converter) = self.renderer.endpoint.row.conversion.clone() else {
            return match (was.is_some(), is) {
                (false, false) => {}
                (false, true) => self.put(out, EventType::Added, &event.object, Some(event)),
                (true, true) => self.put(out, EventType::Modified, &event.object, Some(event)),
                (true, false) if deleted => self.put(out, EventType::Deleted, &event.object, Some(event)),
                (true, false) => was.map(left).iter().for_each(|o| self.put(out, EventType::Deleted, o, None)),
            };
        };
        let after = (is || deleted && was.is_some()).then(|| event.object.clone());
        let before = was.filter(|_| self.selection.converted || !is && !deleted).cloned();
        let stored: Vec<_> = after.iter().cloned().chain(before).collect();
        let objects = match converter.read_all(&self.renderer.endpoint.row, stored).await {
            Ok(objects) => objects,
            Err(status) => return self.put_error(out, &status),
        };
        let mut objects = objects.into_iter();
        let after = after.and_then(|_| objects.next());
        let before = objects.next();
        let is = is && after.as_ref().is_some_and(|object| self.selection.matches_converted(object));
        let was = match &before {
            Some(before) => self.selection.matches_converted(before),
            None => was.is_some(),
        };
        let (kind, object) = match (was, is) {
            (false, false) => return,
            (false, true) => (EventType::Added, after),
            (true, true) => (EventType::Modified, after),
            (true, false) => (EventType::Deleted, if deleted { after } else { before.as_ref().map(left) }),
        };
        if let Some(object) = object {
            // The line that all watchers share is of the version that is stored.
            let shared = Arc::ptr_eq(&object, &event.object).then_some(&**event);
            self.put(out, kind, &object, shared);
        }
    }

    fn put(&mut self, out: &mut Piece, kind: EventType, object: &Arc<Object>, event: Option<&Event>) {
        self.running.events.inc();
        if self.renderer.is_plain() {
            match event {
                Some(event) => out.share(event.line(kind, &self.prefix)),
                None => out.share(storage::object::watch_line(kind, &self.prefix, &object.json)),
            }
            return;
        }
        if self.renderer.is_stored_proto()
            && let Ok(bytes) = self.renderer.object(object)
        {
            put_frame(out.own(), kind.as_str(), &bytes);
            return;
        }
        let item = self.renderer.item(object);
        let (gvk, value) = match self.renderer.accepted.view {
            View::Table => {
                let list_meta = json!({"resourceVersion": object.revision.to_string()});
                let with_columns = !std::mem::replace(&mut self.sent_columns, true);
                (meta("Table"), self.renderer.table(vec![item], &list_meta, with_columns))
            }
            View::Metadata | View::MetadataList => (meta("PartialObjectMetadata"), item),
            View::Whole => (self.renderer.endpoint.row.kind.clone(), item),
        };
        put_value(out.own(), &self.renderer, kind.as_str(), &gvk, value);
    }

    fn put_bookmark(&mut self, out: &mut Piece, revision: u64, initial_end: bool) {
        self.revision = revision;
        let mut object = json!({"metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null}});
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (gvk, object) = match self.renderer.accepted.view {
            View::Table => {
                let row = json!({"cells": null, "object": typed(object, &meta("PartialObjectMetadata"))});
                let list_meta = json!({"resourceVersion": revision.to_string()});
                (meta("Table"), self.renderer.table(vec![row], &list_meta, !self.sent_columns))
            }
            View::Metadata | View::MetadataList => {
                (meta("PartialObjectMetadata"), typed(object, &meta("PartialObjectMetadata")))
            }
            View::Whole => {
                let gvk = self.renderer.endpoint.row.kind.clone();
                let object = typed(object, &gvk);
                (gvk, object)
            }
        };
        put_value(out.own(), &self.renderer, "BOOKMARK", &gvk, object);
    }
}

/// Appends one event of any kind.
fn put_value(out: &mut BytesMut, renderer: &Renderer, kind: &str, gvk: &GroupVersionKind, value: Value) {
    match renderer.accepted.encoding {
        Encoding::Protobuf => {
            let Ok(object) = encode(renderer.accepted, gvk, None, value) else { return };
            put_frame(out, kind, &object);
        }
        Encoding::Cbor => {
            let Ok(object) = encode(renderer.accepted, gvk, None, value) else { return };
            let mut event = cbor::SELF_DESCRIBED.to_vec();
            cbor::put_map(2, &mut event);
            cbor::put_name("type", &mut event);
            cbor::put_name(kind, &mut event); // texts are written as names are
            cbor::put_name("object", &mut event);
            out.put(&event[..]);
            out.put(object);
        }
        _ => {
            out.put(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
            out.put(&renderer.json(gvk, value)[..]);
            out.put(&b"}\n"[..]);
        }
    }
}

/// A frame of a protobuf watch: four bytes of length, then a bare WatchEvent with the object in its envelope inside.
fn put_frame(out: &mut BytesMut, kind: &str, object: &[u8]) {
    let mut event = Vec::with_capacity(object.len() + 32);
    put_bytes(&mut event, 1, kind.as_bytes());
    put_message(&mut event, 2, |out| put_bytes(out, 1, object));
    out.put_u32(event.len() as u32);
    out.put(&event[..]);
}
