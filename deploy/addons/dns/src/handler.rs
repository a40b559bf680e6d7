//! DNS messages: a question in, an answer out.

use crate::zone::{Answer, Zone, of_type};
use component_base::metrics;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::{Name, Record, RecordType};
use hickory_server::resolver::TokioResolver;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use prometheus::{IntCounterVec, Opts};
use std::time::Duration;
use tokio::time::timeout;

/// How long one of the node's name servers may take.
pub const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(2);
/// How long all of them may take together, also where the answer must be asked for again over TCP.
const UPSTREAM_TIMEOUT_TOTAL: Duration = Duration::from_secs(3);

pub struct Handler {
    zone: Zone,
    upstream: Option<TokioResolver>,
    answers: IntCounterVec,
}

/// What goes back.
struct Reply {
    code: ResponseCode,
    answers: Vec<Record>,
    /// The zone's start, with answers that something is not there.
    soa: Option<Record>,
    authoritative: bool,
}

impl Handler {
    pub fn new(zone: Zone, upstream: Option<TokioResolver>) -> Handler {
        let opts = Opts::new("coredns_dns_responses_total", "Answers by code.");
        let answers = IntCounterVec::new(opts, &["rcode"]).unwrap_or_else(|e| panic!("a metric of our own: {e}"));
        Handler { zone, upstream, answers: metrics::register(answers) }
    }

    async fn reply(&self, name: &Name, kind: RecordType) -> Reply {
        let ours = |code, answers: Vec<Record>| {
            let soa = answers.is_empty().then(|| self.zone.soa());
            Reply { code, answers, soa, authoritative: true }
        };
        match self.zone.lookup(name, kind) {
            Answer::Found(records) => ours(ResponseCode::NoError, of_type(records, kind)),
            Answer::Unknown => ours(ResponseCode::NXDomain, vec![]),
            Answer::Alias(record, target) => {
                let mut answers = vec![*record];
                if kind != RecordType::CNAME {
                    // The alias stands whether or not anybody knows the target.
                    let more = match self.zone.lookup(&target, kind) {
                        Answer::Found(records) => of_type(records, kind),
                        _ => self.ask_upstream(&target, kind).await.unwrap_or_default(),
                    };
                    answers.extend(more);
                }
                ours(ResponseCode::NoError, answers)
            }
            Answer::Foreign => match self.ask_upstream(name, kind).await {
                Ok(answers) => Reply { code: ResponseCode::NoError, answers, soa: None, authoritative: false },
                Err(code) => Reply { code, answers: vec![], soa: None, authoritative: false },
            },
        }
    }

    async fn ask_upstream(&self, name: &Name, kind: RecordType) -> Result<Vec<Record>, ResponseCode> {
        let resolver = self.upstream.as_ref().ok_or(ResponseCode::Refused)?;
        match timeout(UPSTREAM_TIMEOUT_TOTAL, resolver.lookup(name.clone(), kind)).await {
            Ok(Ok(lookup)) => Ok(lookup.answers().to_vec()),
            Ok(Err(e)) if e.is_nx_domain() => Err(ResponseCode::NXDomain),
            Ok(Err(e)) if e.is_no_records_found() => Ok(vec![]),
            Ok(Err(_)) | Err(_) => Err(ResponseCode::ServFail),
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let reply = match request.request_info() {
            Ok(info) if info.metadata.op_code == OpCode::Query => {
                self.reply(&Name::from(info.query.name().clone()), info.query.query_type()).await
            }
            Ok(_) => Reply { code: ResponseCode::NotImp, answers: vec![], soa: None, authoritative: false },
            Err(_) => Reply { code: ResponseCode::FormErr, answers: vec![], soa: None, authoritative: false },
        };
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = self.upstream.is_some();
        self.answers.with_label_values(&[&format!("{:?}", reply.code).to_uppercase()]).inc();
        let message =
            MessageResponseBuilder::from_message_request(request).build(metadata, &reply.answers, [], &reply.soa, []);
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "an answer could not be sent");
                ResponseInfo::from(hickory_server::proto::op::Header { metadata, counts: Default::default() })
            }
        }
    }
}
