//! Custom resources in several versions: an object is stored in one and read in any.
//!
//! With `strategy: None` versions differ in their name and in what their schemas keep. With `strategy: Webhook` another server
//! converts (ConversionReview of apiextensions.k8s.io, v1 and v1beta1): many objects in one request, and what it answered is
//! remembered per object and revision, so that a list or a thousand watchers ask once. An object that is in the version asked
//! for already is never touched.

use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use apimachinery::validation::{Cursor, Errors, object_meta};
use futures::future::BoxFuture;
use http::StatusCode;
use parking_lot::Mutex;
use registry::resource::{Converter, Resource};
use request::status::{Result, Status};
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use storage::object::Object;
use webhook::{Callout, Destination, Limits};

const TIMEOUT: Duration = Duration::from_secs(30);
/// What is sent in one request, at most.
const BATCH_OBJECTS: usize = 500;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// An answer may be this large; what it says of each object is checked.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Converted objects that are remembered per definition.
const MEMO_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How the objects of one definition get from version to version.
pub struct Versions {
    webhook: Option<Webhook>,
    memo: Mutex<Memo>,
}

struct Webhook {
    callout: Arc<Callout>,
    destination: std::result::Result<Destination, String>,
    /// `v1` or `v1beta1`, as the first of the definition's versions that is spoken here.
    review_version: Option<&'static str>,
}

#[derive(Default)]
struct Memo {
    /// By key of the object and version it was converted to.
    objects: HashMap<(Box<str>, Box<str>), Arc<Object>>,
    order: VecDeque<(Box<str>, Box<str>)>,
    bytes: usize,
}

impl Memo {
    fn get(&self, object: &Object, version: &str) -> Option<Arc<Object>> {
        let found = self.objects.get(&(object.key.clone(), version.into()))?;
        (found.revision == object.revision).then(|| found.clone())
    }

    fn put(&mut self, version: &str, object: Arc<Object>) {
        let key = (object.key.clone(), Box::from(version));
        self.bytes += object.json.len();
        match self.objects.insert(key.clone(), object) {
            Some(old) => self.bytes -= old.json.len(),
            None => self.order.push_back(key),
        }
        while self.bytes > MEMO_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(gone) = self.objects.remove(&oldest) {
                self.bytes -= gone.json.len();
            }
        }
    }
}

impl Versions {
    /// Reads `spec.conversion` of a definition; none if it has but one version.
    pub fn read(definition: &Value, callout: &Arc<Callout>) -> Option<Arc<Versions>> {
        let spec = &definition["spec"];
        if spec["versions"].as_array().is_none_or(|versions| versions.len() < 2) {
            return None;
        }
        let webhook = (spec["conversion"]["strategy"] == "Webhook").then(|| {
            let webhook = &spec["conversion"]["webhook"];
            let spoken = |v: &Value| ["v1", "v1beta1"].into_iter().find(|spoken| v == spoken);
            Webhook {
                callout: callout.clone(),
                destination: Destination::webhook(&webhook["clientConfig"]),
                review_version: webhook["conversionReviewVersions"].as_array().and_then(|v| v.iter().find_map(spoken)),
            }
        });
        Some(Arc::new(Versions { webhook, memo: Mutex::default() }))
    }

    async fn read_stored(&self, row: &Resource, mut objects: Vec<Arc<Object>>) -> Result<Vec<Arc<Object>>> {
        let version = row.kind.version.as_str();
        let mut stale = Vec::new();
        {
            let memo = self.memo.lock();
            for (at, object) in objects.iter_mut().enumerate() {
                if object.version.as_deref().is_none_or(|stored| stored == version) {
                    continue;
                }
                match memo.get(object, version) {
                    Some(converted) => *object = converted,
                    None => stale.push(at),
                }
            }
        }
        let mut rest = &stale[..];
        while !rest.is_empty() {
            let batch = &rest[..batch(rest.iter().map(|at| objects[*at].json.len()))];
            rest = &rest[batch.len()..];
            let stored = row.storage.as_ref().map_or(version, |storage| &storage.kind.version);
            let of = |object: &Object| GroupVersionKind {
                version: object.version.as_deref().filter(|v| !v.is_empty()).unwrap_or(stored).to_owned(),
                ..row.kind.clone()
            };
            let trees = batch.iter().map(|at| (of(&objects[*at]), objects[*at].tree())).collect();
            let converted = self.convert_all(&row.kind, trees).await?;
            for (at, mut tree) in batch.iter().zip(converted) {
                row.conform(&mut tree)?;
                let stored = &objects[*at];
                let made = stored.with_tree(tree, Some(version.into()), &row.layout());
                let made = Arc::new(made);
                self.memo.lock().put(version, made.clone());
                objects[*at] = made;
            }
        }
        Ok(objects)
    }

    async fn convert_all(&self, to: &GroupVersionKind, objects: Vec<(GroupVersionKind, Value)>) -> Result<Vec<Value>> {
        let Some(webhook) = &self.webhook else { return Ok(objects.into_iter().map(|(_, object)| object).collect()) };
        // What is in the version asked for is not sent; it keeps its place.
        let mut all: Vec<Option<Value>> = Vec::with_capacity(objects.len());
        let mut others = Vec::new();
        for (kind, object) in objects {
            let there = kind == *to;
            if there {
                all.push(Some(object));
            } else {
                all.push(None);
                others.push((kind, object));
            }
        }
        let mut converted: Vec<Value> = Vec::with_capacity(others.len());
        let mut rest = others.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut sent, mut bytes) = (Vec::new(), 0);
            while let Some((_, object)) = rest.peek() {
                bytes += object.to_string().len();
                if !sent.is_empty() && (sent.len() >= BATCH_OBJECTS || bytes > BATCH_BYTES) {
                    break;
                }
                sent.extend(rest.next());
            }
            converted.extend(webhook.ask(to, sent).await?);
        }
        let mut converted = converted.into_iter();
        Ok(all.into_iter().filter_map(|object| object.or_else(|| converted.next())).collect())
    }
}

impl Converter for Versions {
    fn is_webhook(&self) -> bool {
        self.webhook.is_some()
    }

    fn read_all<'a>(&'a self, row: &'a Resource, objects: Vec<Arc<Object>>) -> BoxFuture<'a, Result<Vec<Arc<Object>>>> {
        Box::pin(self.read_stored(row, objects))
    }

    fn convert<'a>(
        &'a self,
        to: &'a GroupVersionKind,
        objects: Vec<(GroupVersionKind, Value)>,
    ) -> BoxFuture<'a, Result<Vec<Value>>> {
        Box::pin(self.convert_all(to, objects))
    }
}

/// How many of these sizes make one request.
fn batch(sizes: impl Iterator<Item = usize>) -> usize {
    let mut sum = 0;
    let fits = |size: &usize| {
        sum += size;
        sum <= BATCH_BYTES
    };
    sizes.take(BATCH_OBJECTS).take_while(fits).count().max(1)
}

fn failure(why: String) -> Status {
    Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", why)
}

/// As upstream writes a kind in messages.
fn told(kind: &GroupVersionKind) -> String {
    format!("{}, Kind={}", kind.api_version(), kind.kind)
}

impl Webhook {
    async fn ask(&self, to: &GroupVersionKind, objects: Vec<(GroupVersionKind, Value)>) -> Result<Vec<Value>> {
        let about = objects.first().map(|(kind, _)| told(kind)).unwrap_or_default();
        let failed = |why: String| failure(format!("conversion webhook for {about} failed: {why}"));
        let version = self
            .review_version
            .ok_or_else(|| failed("webhook does not accept known ConversionReview versions (v1, v1beta1)".into()))?;
        let destination = self.destination.as_ref().map_err(|why| failed(why.clone()))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let originals: Vec<Value> =
            objects.into_iter().map(|(kind, object)| registry::edit::typed(object, &kind)).collect();
        let question = json!({
            "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
            "request": {"uid": uid, "desiredAPIVersion": to.api_version(), "objects": originals},
        });
        let body = serde_json::to_vec(&question).unwrap_or_default().into();
        let limits = Limits { timeout: TIMEOUT, bytes_max: ANSWER_BYTES_MAX };
        let mut review = self.callout.post(destination, body, limits).await.map_err(|e| failed(e.to_string()))?;
        check_response(version, &uid, &review).map_err(failed)?;
        let converted = match review["response"]["convertedObjects"].take() {
            Value::Array(objects) => objects,
            _ => Vec::new(),
        };
        if converted.len() != originals.len() {
            let (got, want) = (converted.len(), originals.len());
            return Err(failure(format!("conversion webhook for {about} returned {got} objects, expected {want}")));
        }
        let checked = originals.iter().zip(converted).enumerate().map(|(i, (original, object))| {
            checked(to, original, object).map_err(|(what, why)| {
                failure(format!("conversion webhook for {about} returned invalid {what} at index {i}: {why}"))
            })
        });
        checked.collect()
    }
}

/// Whether the review is an answer to the question `uid` that says success.
fn check_response(version: &str, uid: &str, review: &Value) -> std::result::Result<(), String> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let (got, kind) = (text(&review["apiVersion"]), text(&review["kind"]));
    let want = format!("apiextensions.k8s.io/{version}");
    if (&*got, &*kind) != (&*want, "ConversionReview") {
        let got = if got.is_empty() { "/".into() } else { got };
        return Err(format!("expected webhook response of {want}, Kind=ConversionReview, got {got}, Kind={kind}"));
    }
    let response = &review["response"];
    if !response.is_object() {
        return Err("no response provided".into());
    }
    if version == "v1" && response["uid"] != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", text(&response["uid"])));
    }
    match (text(&response["result"]["status"]), text(&response["result"]["message"])) {
        (status, _) if status == "Success" => Ok(()),
        (status, message) if message.is_empty() => Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => Err(message),
    }
}

/// A converted object, with all metadata but labels and annotations as they were; or what of it is invalid, and why.
fn checked(
    to: &GroupVersionKind,
    original: &Value,
    mut converted: Value,
) -> std::result::Result<Value, (&'static str, String)> {
    const OBJECT: &str = "converted object";
    let Some(members) = converted.as_object_mut() else { return Err((OBJECT, "not an object".into())) };
    let (version, kind) =
        (members.remove("apiVersion").unwrap_or_default(), members.remove("kind").unwrap_or_default());
    if version != to.api_version() {
        let got = version.as_str().unwrap_or("");
        return Err((OBJECT, format!("invalid groupVersion (expected {}, received {got})", to.api_version())));
    }
    if kind != to.kind.as_str() {
        let got = kind.as_str().unwrap_or("");
        return Err((OBJECT, format!("invalid kind (expected {}, received {got})", to.kind)));
    }
    let text = |object: &Value, name: &str| object["metadata"][name].as_str().unwrap_or("").to_owned();
    for (name, called) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (was, is) = (text(original, name), text(&converted, name));
        if was != is {
            return Err((OBJECT, format!("must have the same {called}: {was} != {is}")));
        }
    }
    const METADATA: &str = "metadata in object";
    if !converted["metadata"].is_object() {
        return Err((METADATA, "missing metadata in converted object".into()));
    }
    let given = converted["metadata"].take();
    converted["metadata"] = original["metadata"].clone();
    for name in ["labels", "annotations"] {
        match &given[name] {
            Value::Null => {
                converted["metadata"].as_object_mut().map(|m| m.remove(name));
            }
            Value::Object(map) if map.values().all(Value::is_string) => {
                converted["metadata"][name] = given[name].clone()
            }
            _ => return Err((METADATA, format!("invalid metadata.{name}: must be a map of strings"))),
        }
    }
    let errors = Errors::new();
    {
        let metadata = Cursor::root(&converted, &errors).field("metadata");
        object_meta::labels(&metadata.field("labels"));
        object_meta::annotations(&metadata.field("annotations"));
    }
    match errors.into_vec().first() {
        None => Ok(converted),
        Some(error) => Err((METADATA, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::object::Layout;

    fn kind(version: &str) -> GroupVersionKind {
        GroupVersionKind::new("g.io", version, "Foo")
    }

    #[test]
    fn only_labels_and_annotations_of_metadata_may_change() {
        let meta = json!({"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "5", "labels": {"old": "x"}});
        let original = json!({"apiVersion": "g.io/v1", "kind": "Foo", "metadata": meta});
        let answer = |patch: Value| {
            let mut converted = json!({"apiVersion": "g.io/v2", "kind": "Foo", "metadata": meta, "spec": 1});
            apimachinery::patch::merge_patch(&mut converted, &patch);
            checked(&kind("v2"), &original, converted).map_err(|(what, why)| format!("{what}: {why}"))
        };
        let labelled = answer(
            json!({"metadata": {"labels": {"old": null, "new": "y"}, "resourceVersion": "9", "finalizers": ["f"]}}),
        );
        let want = json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "5", "labels": {"new": "y"}}, "spec": 1});
        assert_eq!(labelled, Ok(want));
        for (patch, words) in [
            (
                json!({"apiVersion": "g.io/v3"}),
                "converted object: invalid groupVersion (expected g.io/v2, received g.io/v3)",
            ),
            (json!({"kind": "Bar"}), "converted object: invalid kind (expected Foo, received Bar)"),
            (json!({"metadata": {"name": "b"}}), "converted object: must have the same name: a != b"),
            (json!({"metadata": {"uid": null}}), "converted object: must have the same UID: u != "),
            (
                json!({"metadata": {"labels": {"x": 1}}}),
                "metadata in object: invalid metadata.labels: must be a map of strings",
            ),
        ] {
            assert_eq!(answer(patch.clone()), Err(words.to_owned()), "{patch}");
        }
    }

    #[test]
    fn answers_are_understood() {
        let review = |response: Value| json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response});
        for (answer, want) in [
            (review(json!({"uid": "u", "result": {"status": "Success"}})), Ok(())),
            (review(Value::Null), Err("no response provided")),
            (review(json!({"uid": "x"})), Err("expected response.uid=\"u\", got \"x\"")),
            (review(json!({"uid": "u"})), Err("response.result.status was '', not 'Success'")),
            (review(json!({"uid": "u", "result": {"status": "Failure", "message": "no"}})), Err("no")),
            (
                json!({}),
                Err("expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got /, Kind="),
            ),
        ] {
            assert_eq!(check_response("v1", "u", &answer), want.map_err(str::to_owned), "{answer}");
        }
    }

    #[test]
    fn batches_are_bounded_and_never_empty() {
        assert_eq!(batch([1; 1000].into_iter()), BATCH_OBJECTS);
        assert_eq!(batch([BATCH_BYTES, 1].into_iter()), 1);
        assert_eq!(batch([BATCH_BYTES + 1].into_iter()), 1);
    }

    #[test]
    fn the_memo_forgets_the_oldest() {
        let object = |key: &str, revision| {
            Arc::new(Object::new(key, revision, json!({"data": "x".repeat(MEMO_BYTES_MAX / 2)}), &Layout::default()))
        };
        let mut memo = Memo::default();
        memo.put("v2", object("a", 1));
        memo.put("v2", object("b", 1));
        assert!(memo.get(&object("a", 1), "v2").is_none() && memo.get(&object("b", 1), "v2").is_some());
        assert!(memo.get(&object("b", 2), "v2").is_none(), "another revision");
    }
}
