//! One question to one webhook.

use super::hook::{Hook, SideEffects};
use super::matching::Invocation;
use super::metrics;
use super::review::{self, Answer, Malformed};
use apimachinery::Value;
use apimachinery::codec::Ordered;
use handlers::api::Api;
use handlers::api::admission::Attributes;
use request::status::{Result, Status};
use std::time::Instant;
use webhook::Limits;

/// Bytes of an answer, at most: a patch may replace the largest object there is.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Which of the two plugins asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Mutating,
    Validating,
}

impl Kind {
    /// As metrics name it.
    fn label(self) -> &'static str {
        match self {
            Kind::Mutating => "admit",
            Kind::Validating => "validating",
        }
    }
}

/// Why a webhook gave no answer that lets the request pass.
#[derive(Debug)]
pub enum Failure {
    /// It could not be asked or was not understood: the failure policy decides.
    Calling { why: String, code: u16 },
    /// It said no.
    Rejected(Status),
    /// The request ends with this, whatever the failure policy.
    Other(Status),
}

/// What is put to a webhook: the object in its version, and the one before.
pub struct Versioned<'a> {
    pub object: Option<&'a Value>,
    pub old: Option<&'a Value>,
}

/// Asks, and counts what came of it. The answer allows the request.
pub async fn ask(
    api: &Api,
    kind: Kind,
    hook: &Hook,
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    versioned: Versioned<'_>,
) -> std::result::Result<Answer, Failure> {
    let started = Instant::now();
    let result = exchange(api, kind, hook, attributes, invocation, versioned).await;
    let (label, operation) = (kind.label(), attributes.operation.as_str());
    let (error_type, code) = match &result {
        Ok(_) => (None, 200),
        Err(Failure::Calling { code, .. }) => ((!hook.ignores_failure).then_some("calling_webhook_error"), *code),
        Err(Failure::Rejected(status)) => (Some("no_error"), status.code.as_u16()),
        Err(Failure::Other(status)) => (Some("apiserver_internal_error"), status.code.as_u16()),
    };
    let rejected = if error_type.is_some() { "true" } else { "false" };
    let seconds = started.elapsed().as_secs_f64();
    metrics::DURATION.with_label_values(&[&*hook.name, label, operation, rejected]).observe(seconds);
    // Upstream tells codes from 600 on as 600: a webhook may make up any.
    let told = code.min(600).to_string();
    metrics::REQUESTS.with_label_values(&[&*hook.name, label, operation, &told, rejected]).inc();
    if let Some(error_type) = error_type {
        metrics::REJECTIONS.with_label_values(&[&*hook.name, label, operation, error_type, &told]).inc();
    }
    result
}

async fn exchange(
    api: &Api,
    kind: Kind,
    hook: &Hook,
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    versioned: Versioned<'_>,
) -> std::result::Result<Answer, Failure> {
    if attributes.dry_run && hook.side_effects == SideEffects::Some {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Other(Status::bad_request(why)));
    }
    let unusable = |why: String| Failure::Calling { why, code: 400 };
    let version = hook.review_version.ok_or_else(|| {
        unusable(
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)"
                .into(),
        )
    })?;
    let destination = hook.destination.as_ref().map_err(|why| unusable(format!("could not get REST client: {why}")))?;
    let uid = uuid::Uuid::new_v4().to_string();
    let question = review::question(version, &uid, attributes, invocation, versioned.object, versioned.old);
    let body = serde_json::to_vec(&Ordered::by_kind(&question)).unwrap_or_default().into();
    let limits = Limits { timeout: hook.timeout, bytes_max: ANSWER_BYTES_MAX };
    let answered = api.callout.post(destination, body, limits).await;
    let answered =
        answered.map_err(|e| Failure::Calling { why: format!("failed to call webhook: {e}"), code: e.code() })?;
    let answer = review::answer(version, &uid, kind == Kind::Mutating, &answered).map_err(|e| match e {
        Malformed::Answer(why) => {
            Failure::Calling { why: format!("received invalid webhook response: {why}"), code: 503 }
        }
        Malformed::Patch(why) => Failure::Other(Status::internal(format!("Internal error occurred: {why}"))),
    })?;
    if answer.allowed {
        return Ok(answer);
    }
    let mut warnings = answer.warnings;
    Err(Failure::Rejected(review::refusal(&hook.name, &answer.result).with_warnings(&mut warnings)))
}

/// What a failure comes to: nothing if the webhook may be ignored.
pub fn apply_failure_policy(kind: Kind, hook: &Hook, failure: Failure) -> Result<()> {
    match failure {
        Failure::Rejected(status) | Failure::Other(status) => Err(status),
        Failure::Calling { why, .. } => {
            let told = format!("failed calling webhook {:?}: {why}", hook.name);
            if hook.ignores_failure {
                tracing::warn!(webhook = hook.name, why, "an admission webhook failed and is ignored");
                metrics::FAIL_OPEN.with_label_values(&[&*hook.name, kind.label()]).inc();
                return Ok(());
            }
            tracing::warn!(webhook = hook.name, why, "an admission webhook failed; the request is refused");
            Err(Status::internal(format!("Internal error occurred: {told}")).with_cause("", &told, ""))
        }
    }
}
