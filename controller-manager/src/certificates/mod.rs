//! Controllers of CertificateSigningRequests: approve what kubelets ask for themselves, sign what is approved, clean up.
//!
//! [`request`] reads a request and knows the rules of upstream's signers (pure), [`sign`] makes certificates.

mod request;
mod sign;

use std::{collections::HashMap, time::Duration};

use component_base::{
    controller::{self, Action},
    informer::{ObjectKey, Scope, Store},
    queue::WorkQueue,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    },
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};

use self::{request::Request, sign::Signer};
use crate::{
    common::{Doing, Error, Result, meta},
    context::Context,
};

type Csr = CertificateSigningRequest;

const WORKERS: usize = 5;
/// The shortest and the longest time until a kubelet's request that its requestor had no right to make is looked at again.
const RECHECK_MIN: Duration = Duration::from_secs(1);
const RECHECK_MAX: Duration = Duration::from_secs(1000);
const CLEAN_EVERY: Duration = Duration::from_secs(600);
/// How long requests are kept after they were approved and signed, denied, or could not be signed.
const KEPT_DECIDED: SignedDuration = SignedDuration::from_hours(1);
/// How long requests are kept after their creation while nobody approves or signs them.
const KEPT_PENDING: SignedDuration = SignedDuration::from_hours(24);

fn find_condition<'a>(csr: &'a Csr, kind: &str) -> Option<&'a CertificateSigningRequestCondition> {
    csr.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

fn has_condition(csr: &Csr, kind: &str) -> bool {
    find_condition(csr, kind).is_some()
}

fn certificate(csr: &Csr) -> Option<&ByteString> {
    csr.status.as_ref()?.certificate.as_ref().filter(|certificate| !certificate.0.is_empty())
}

fn condition(kind: &str, reason: &str, message: String) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".into(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(meta::now()),
        last_transition_time: Some(meta::now()),
    }
}

fn watch(context: &Context, name: &'static str) -> (Store<Csr>, WorkQueue<ObjectKey>) {
    let requests = context.factory.store::<Csr>(Scope::all());
    let queue = WorkQueue::new(name);
    let feed = queue.clone();
    requests.on_change(move |change| feed.add(change.key()));
    (requests, queue)
}

/// certificatesigningrequest-approving-controller.
pub async fn run_approver(context: Context) {
    let (requests, queue) = watch(&context, "certificate-csrapproving");
    requests.synced().await;
    let (requests, client) = (&requests, &context.client);
    controller::run(context.name, queue, WORKERS, context.shutdown, |key| async move {
        match requests.get(&key) {
            Some(csr) => approve(client, &csr).await,
            None => Ok(Action::Done),
        }
    })
    .await;
}

/// What a kubelet may ask for: to be let in at all, or to renew what it is.
const RECOGNIZED: [(&str, &str); 2] = [
    ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
    ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
];

async fn approve(client: &Client, csr: &Csr) -> Result {
    if certificate(csr).is_some() || has_condition(csr, "Approved") || has_condition(csr, "Denied") {
        return Ok(Action::Done);
    }
    let Ok(request) = Request::read(csr) else { return Ok(Action::Done) };
    if csr.spec.signer_name != request::NODE_CLIENT || request.check(&csr.spec).is_err() {
        return Ok(Action::Done);
    }
    let requestor = csr.spec.username.as_deref();
    for (subresource, message) in RECOGNIZED {
        if subresource == "selfnodeclient" && requestor != Some(request.common_name.as_str()) {
            continue;
        }
        if !may(client, csr, subresource).await? {
            continue;
        }
        let mut csr = csr.clone();
        let conditions = csr.status.get_or_insert_default().conditions.get_or_insert_default();
        conditions.push(condition("Approved", "AutoApproved", message.to_owned()));
        let api: Api<Csr> = Api::all(client.clone());
        let name = meta::name(&csr);
        let approved: kube::Result<Csr> = api.replace_subresource("approval", name, &PostParams::default(), &csr).await;
        approved.or_gone(|| format!("approve CertificateSigningRequest {name}"))?;
        return Ok(Action::Done);
    }
    // The right may be granted later, and no event of the request would tell. Upstream comes back with a growing delay too.
    tracing::debug!(name = meta::name(csr), user = requestor, "The requestor may not have this request approved");
    Ok(Action::After(recheck_delay(meta::created(csr), Timestamp::now())))
}

/// As long again as the request is old: the delays double without anything to be remembered.
fn recheck_delay(created: Timestamp, now: Timestamp) -> Duration {
    let age = now.duration_since(created).try_into().unwrap_or(RECHECK_MIN);
    Duration::clamp(age, RECHECK_MIN, RECHECK_MAX)
}

async fn may(client: &Client, csr: &Csr, subresource: &str) -> Result<bool> {
    let attributes = ResourceAttributes {
        group: Some("certificates.k8s.io".into()),
        resource: Some("certificatesigningrequests".into()),
        subresource: Some(subresource.into()),
        verb: Some("create".into()),
        version: Some("*".into()),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: csr.spec.username.clone(),
        uid: csr.spec.uid.clone(),
        groups: csr.spec.groups.clone(),
        extra: csr.spec.extra.clone(),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let what = || format!("ask whether {:?} may get a node's certificate", csr.spec.username);
    let answer = api.create(&PostParams::default(), &review).await.doing(what)?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// certificatesigningrequest-signing-controller.
pub async fn run_signer(context: Context) {
    let options = &context.options.credentials;
    let mut signers = HashMap::new();
    for (name, cert, key) in options.signers().unwrap_or_default() {
        match Signer::new(cert, key, options.cluster_signing_duration.get()) {
            Ok(signer) => drop(signers.insert(format!("kubernetes.io/{name}"), signer)),
            Err(error) => return tracing::error!(%error, name, "Cannot sign certificates"),
        }
    }
    if signers.is_empty() {
        tracing::info!("Not signing certificates: --cluster-signing-cert-file and -key-file are not set");
        return;
    }
    let (requests, queue) = watch(&context, "certificate-csrsigning");
    requests.synced().await;
    let (requests, client, signers) = (&requests, &context.client, &signers);
    controller::run(context.name, queue, WORKERS, context.shutdown, |key| async move {
        match requests.get(&key) {
            Some(csr) => match signers.get(&csr.spec.signer_name) {
                Some(signer) => sign(client, signer, &csr).await,
                None => Ok(Action::Done),
            },
            None => Ok(Action::Done),
        }
    })
    .await;
}

async fn sign(client: &Client, signer: &Signer, csr: &Csr) -> Result {
    let waits = has_condition(csr, "Approved") && !has_condition(csr, "Denied") && !has_condition(csr, "Failed");
    if !waits || certificate(csr).is_some() {
        return Ok(Action::Done);
    }
    let mut csr = csr.clone();
    let made = Request::read(&csr).and_then(|request| {
        request.check(&csr.spec)?;
        signer.sign(&csr.spec)
    });
    let status = csr.status.get_or_insert_default();
    match made {
        Ok(pem) => status.certificate = Some(ByteString(pem.into_bytes())),
        // It will never be otherwise: the requestor has to ask anew.
        Err(reason) => {
            let failed = condition("Failed", "SignerValidationFailure", reason);
            status.conditions.get_or_insert_default().push(failed);
        }
    }
    let api: Api<Csr> = Api::all(client.clone());
    let name = meta::name(&csr);
    let written = api.replace_status(name, &PostParams::default(), &csr).await;
    written.or_gone(|| format!("sign CertificateSigningRequest {name}"))?;
    Ok(Action::Done)
}

/// certificatesigningrequest-cleaner-controller.
pub async fn run_cleaner(context: Context) {
    let requests = context.factory.store::<Csr>(Scope::all());
    let api: Api<Csr> = Api::all(context.client.clone());
    let mut ticks = tokio::time::interval(CLEAN_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = Timestamp::now();
        for csr in requests.list().into_iter().filter(|csr| is_over(csr, now)) {
            let name = meta::name(csr.as_ref());
            let deleted = api.delete(name, &DeleteParams::default()).await;
            if let Err(error) = deleted.or_gone(|| format!("delete CertificateSigningRequest {name}")) {
                log(&error);
            }
        }
    }
}

fn log(error: &Error) {
    tracing::warn!(%error, "Will try again");
}

/// Whether nobody needs this request any more. What was decided is kept from the time of the decision on, so that a requestor
/// whose request was approved late finds its certificate.
fn is_over(csr: &Csr, now: Timestamp) -> bool {
    let decision = ["Denied", "Failed", "Approved"].into_iter().find_map(|kind| find_condition(csr, kind));
    match decision {
        // What is approved and not signed is still waited for, as long as what nobody has looked at.
        Some(condition) if condition.type_ != "Approved" || certificate(csr).is_some() => {
            let decided = condition.last_update_time.as_ref().map_or_else(|| meta::created(csr), |time| time.0);
            now.duration_since(decided) > KEPT_DECIDED
        }
        _ => now.duration_since(meta::created(csr)) > KEPT_PENDING,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn delays_double_within_their_bounds() {
        let now = Timestamp::now();
        for (age_secs, delay_secs) in [(-5, 1), (0, 1), (1, 1), (2, 2), (300, 300), (5000, 1000)] {
            let created = now - SignedDuration::from_secs(age_secs);
            assert_eq!(recheck_delay(created, now), Duration::from_secs(delay_secs), "{age_secs}");
        }
    }

    #[test]
    fn requests_are_kept_as_long_as_somebody_may_need_them() {
        let now = Timestamp::now();
        let ago = |minutes: i64| Time(now - SignedDuration::from_mins(minutes));
        for (what, created, decision, signed, over) in [
            ("pending", 23 * 60, None, false, false),
            ("pending for more than a day", 25 * 60, None, false, true),
            ("signed", 50, Some(("Approved", Some(50))), true, false),
            ("signed long ago", 70, Some(("Approved", Some(70))), true, true),
            ("signed late", 20 * 60, Some(("Approved", Some(10))), true, false),
            ("signed at a time that nobody wrote down", 70, Some(("Approved", None)), true, true),
            ("approved and not signed", 120, Some(("Approved", Some(110))), false, false),
            ("approved and never signed", 25 * 60, Some(("Approved", Some(110))), false, true),
            ("denied late", 20 * 60, Some(("Denied", Some(10))), false, false),
            ("denied", 120, Some(("Denied", Some(110))), false, true),
            ("failed", 120, Some(("Failed", Some(61))), false, true),
        ] {
            let mut csr = Csr::default();
            csr.metadata.creation_timestamp = Some(ago(created));
            let status = csr.status.get_or_insert_default();
            status.certificate = signed.then(|| ByteString(b"PEM".to_vec()));
            status.conditions = decision.map(|(kind, minutes)| {
                let last_update_time = minutes.map(ago);
                vec![CertificateSigningRequestCondition { last_update_time, ..condition(kind, "", String::new()) }]
            });
            assert_eq!(is_over(&csr, now), over, "{what}");
        }
    }
}
