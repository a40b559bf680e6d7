//! AdmissionReview: the question, and what the answer means. (API group admission.k8s.io, v1 and v1beta1.)

use super::hook::ReviewVersion;
use super::matching::Invocation;
use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use base64::Engine;
use handlers::api::admission::Attributes;
use http::StatusCode;
use registry::edit::typed;
use request::status::Status;
use serde_json::json;

/// The question as it is sent. `object` and `old` are in the version of the invocation.
pub fn question(
    version: ReviewVersion,
    uid: &str,
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Value {
    let row = &attributes.endpoint.row;
    let requested = row.kind_of(attributes.subresource);
    let resource = |of: &registry::resource::Resource| json!({"group": of.kind.group, "version": of.kind.version, "resource": of.plural});
    let send = |object: Option<&Value>| object.map_or(Value::Null, |o| typed(o.clone(), &invocation.kind));
    let mut request = json!({
        "uid": uid,
        "kind": kind(&invocation.kind),
        "resource": resource(&invocation.endpoint.row),
        "requestKind": kind(requested),
        "requestResource": resource(row),
        "operation": attributes.operation.as_str(),
        "userInfo": attributes.user.info(),
        "object": send(object),
        "oldObject": send(old),
        "dryRun": attributes.dry_run,
        "options": attributes.options(),
    });
    let is_namespace = attributes.is_resource("", "namespaces");
    let namespace = if is_namespace { attributes.name } else { attributes.namespace };
    for (name, text) in [
        ("subResource", attributes.subresource),
        ("requestSubResource", attributes.subresource),
        ("name", attributes.name),
        ("namespace", namespace),
    ] {
        if !text.is_empty() {
            request[name] = text.into();
        }
    }
    json!({"kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{}", version.as_str()), "request": request})
}

fn kind(kind: &GroupVersionKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

/// An answer that was understood.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub allowed: bool,
    /// The `Status` that goes with a refusal; null if the webhook sent none.
    pub result: Value,
    /// Operations of a JSON patch; none to change nothing.
    pub patch: Option<Value>,
    pub warnings: Vec<String>,
    pub audit_annotations: Vec<(String, String)>,
}

/// What is done with a patch that cannot be used.
#[derive(Debug, PartialEq)]
pub enum Malformed {
    /// The answer is none: as if the webhook had not been reached.
    Answer(String),
    /// The patch is no JSON: an error of the request.
    Patch(String),
}

/// Reads the answer to the question `uid`.
pub fn answer(version: ReviewVersion, uid: &str, mutating: bool, review: &Value) -> Result<Answer, Malformed> {
    let bad = |why: String| Err(Malformed::Answer(why));
    let response = &review["response"];
    if !response.is_object() {
        return bad("webhook response was absent".into());
    }
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let patch = text(&response["patch"]);
    let patch_type = response["patchType"].as_str();
    if version == ReviewVersion::V1 {
        let (api_version, kind) = (text(&review["apiVersion"]), text(&review["kind"]));
        if (&*api_version, &*kind) != ("admission.k8s.io/v1", "AdmissionReview") {
            let api_version = if api_version.is_empty() { "/".into() } else { api_version };
            return bad(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {api_version}, Kind={kind}"
            ));
        }
        if response["uid"] != uid {
            return bad(format!("expected response.uid={uid:?}, got {:?}", text(&response["uid"])));
        }
        match (mutating, patch.is_empty(), patch_type) {
            (true, false, None) => return bad("webhook returned response.patch but not response.patchType".into()),
            (true, true, Some(_)) => return bad("webhook returned response.patchType but not response.patch".into()),
            (true, false, Some(other)) if other != "JSONPatch" => {
                return bad(format!("webhook returned invalid response.patchType of {other:?}"));
            }
            (false, false, _) => return bad("validating webhook may not return response.patch".into()),
            (false, _, Some(_)) => return bad("validating webhook may not return response.patchType".into()),
            _ => {}
        }
    }
    let patch = if mutating && !patch.is_empty() { decode(&patch)? } else { None };
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    Ok(Answer {
        allowed: response["allowed"] == true,
        result: response["status"].clone(),
        patch,
        warnings: response["warnings"].as_array().into_iter().flatten().map(text).collect(),
        audit_annotations: annotations.map(|(key, value)| (key.clone(), text(value))).collect(),
    })
}

fn decode(patch: &str) -> Result<Option<Value>, Malformed> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(patch)
        .map_err(|e| Malformed::Answer(format!("illegal base64 data in response.patch: {e}")))?;
    let operations: Value = serde_json::from_slice(&bytes).map_err(|e| Malformed::Patch(e.to_string()))?;
    match &operations {
        Value::Array(list) if list.is_empty() => Ok(None),
        Value::Array(_) => Ok(Some(operations)),
        Value::Null => Ok(None),
        _ => Err(Malformed::Patch("json: cannot unmarshal object into Go value of type jsonpatch.Patch".into())),
    }
}

/// The refusal that a webhook's `result` comes to. Never less than 400, never without words.
pub fn refusal(webhook: &str, result: &Value) -> Status {
    let text = |name: &str| result[name].as_str().unwrap_or("");
    let denied = format!("admission webhook {webhook:?} denied the request");
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = result["code"].as_u64().and_then(|c| u16::try_from(c).ok()).filter(|c| (400..600).contains(c));
    let code = StatusCode::from_u16(code.unwrap_or(400)).unwrap_or(StatusCode::BAD_REQUEST);
    let mut status = Status::new(code, text("reason").to_owned(), message);
    status.details = result["details"].as_object().cloned();
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_checked() {
        let review = |response: Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        let patch = base64::engine::general_purpose::STANDARD.encode("[{\"op\":\"add\",\"path\":\"/a\",\"value\":1}]");
        let (v1, beta) = (ReviewVersion::V1, ReviewVersion::V1beta1);
        for (version, mutating, review, want) in [
            (v1, true, review(json!({"uid": "u", "allowed": true})), Ok(true)),
            (v1, true, review(json!({"uid": "u"})), Ok(false)),
            (v1, true, json!({}), Err("webhook response was absent")),
            (
                v1,
                true,
                json!({"response": {}}),
                Err("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="),
            ),
            (v1, true, review(json!({"uid": "x"})), Err("expected response.uid=\"u\", got \"x\"")),
            (
                v1,
                true,
                review(json!({"uid": "u", "patch": patch})),
                Err("webhook returned response.patch but not response.patchType"),
            ),
            (
                v1,
                true,
                review(json!({"uid": "u", "patchType": "JSONPatch"})),
                Err("webhook returned response.patchType but not response.patch"),
            ),
            (
                v1,
                true,
                review(json!({"uid": "u", "patch": patch, "patchType": "x"})),
                Err("webhook returned invalid response.patchType of \"x\""),
            ),
            (
                v1,
                false,
                review(json!({"uid": "u", "patch": patch, "patchType": "JSONPatch"})),
                Err("validating webhook may not return response.patch"),
            ),
            (
                v1,
                true,
                review(json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch"})),
                Ok(true),
            ),
            (beta, true, json!({"response": {"allowed": true, "patch": patch}}), Ok(true)),
        ] {
            let got = answer(version, "u", mutating, &review);
            let told = got.as_ref().map(|a| a.allowed).map_err(|e| match e {
                Malformed::Answer(why) | Malformed::Patch(why) => why.as_str(),
            });
            assert_eq!(told, want, "{review}");
        }
        let patched = answer(v1, "u", true, &review(json!({"uid": "u", "patch": patch, "patchType": "JSONPatch"})));
        assert_eq!(patched.unwrap().patch, Some(json!([{"op": "add", "path": "/a", "value": 1}])));
    }

    #[test]
    fn refusals_have_words_and_a_code_of_an_error() {
        let denied = "admission webhook \"w\" denied the request";
        for (result, code, reason, message) in [
            (Value::Null, 400, "", format!("{denied} without explanation")),
            (json!({"code": 200, "message": "no"}), 400, "", format!("{denied}: no")),
            (json!({"code": 403, "reason": "Forbidden"}), 403, "Forbidden", format!("{denied}: Forbidden")),
            (json!({"code": 99999}), 400, "", format!("{denied} without explanation")),
        ] {
            let status = refusal("w", &result);
            assert_eq!((status.code.as_u16(), &*status.reason, status.message), (code, reason, message), "{result}");
        }
    }
}
