//! ValidatingAdmissionWebhook: asks other servers whether a request may be, all at once.

use super::webhook::ask::{Kind, Versioned, apply_failure_policy, ask};
use super::webhook::hook::Hook;
use super::webhook::matching::{Invocation, invocation, is_exempt};
use super::webhook::review::Answer;
use super::webhook::source::Source;
use futures::future::{BoxFuture, join_all};
use handlers::api::Api;
use handlers::api::admission::{Attributes, Plugin};
use request::status::Result;

pub struct ValidatingWebhook {
    source: Source,
}

impl Default for ValidatingWebhook {
    fn default() -> ValidatingWebhook {
        ValidatingWebhook { source: Source::new("validatingwebhookconfigurations") }
    }
}

impl Plugin for ValidatingWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("", "CUDO")
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if is_exempt(attributes) {
                return Ok(());
            }
            let hooks = self.source.hooks(api)?;
            let mut asked: Vec<(&Hook, Invocation)> = Vec::new();
            for hook in hooks.iter() {
                if let Some(invocation) = invocation(api, hook, attributes).await? {
                    asked.push((hook, invocation));
                }
            }
            let asking = &*attributes;
            let answers = join_all(asked.iter().map(|(hook, invocation)| judged(api, hook, asking, invocation))).await;
            let mut refused = None;
            for ((hook, _), answer) in asked.iter().zip(answers) {
                match answer {
                    Ok(Some(answer)) => attributes.record(&hook.name, answer.warnings, answer.audit_annotations),
                    Ok(None) => {}
                    Err(status) => {
                        refused.get_or_insert(status);
                    }
                }
            }
            refused.map_or(Ok(()), Err)
        })
    }
}

/// What one webhook says; none if it failed and may be ignored.
async fn judged(
    api: &Api,
    hook: &Hook,
    attributes: &Attributes<'_>,
    invocation: &Invocation,
) -> Result<Option<Answer>> {
    let (object, old) = attributes.in_version(api, &invocation.endpoint).await?;
    let versioned = Versioned { object: object.as_deref(), old: old.as_deref() };
    match ask(api, Kind::Validating, hook, attributes, invocation, versioned).await {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) => apply_failure_policy(Kind::Validating, hook, failure).map(|()| None),
    }
}
