//! Sending a request to a service: which instance, how long, and whether once more.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use tradewind_base::context::DEADLINE_HEADER;
use tradewind_discovery::{Instance, Suspicion};
use tradewind_http::Target;

use super::body::{UpBody, Upload};
use super::handle::{Worker, set, set_host};
use super::pool::{ConnectError, Lease};
use super::record::Record;
use super::refuse::{self, Refused};
use crate::machine::retry::{self, Failure, Next};
use crate::machine::route::Route;
use crate::routing::{Instances, Live};

/// The way a request goes.
pub(crate) struct Way<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) route: &'a Arc<Route>,
    pub(crate) live: &'a Arc<Live>,
    pub(crate) upload: Arc<Upload>,
    pub(crate) upgrade: bool,
}

/// What a service gave back.
pub(crate) enum Reply {
    Answer { response: Response<Incoming>, lease: Lease, upload: Arc<Upload> },
    Switched(Switched),
}

/// Both ends of an upgraded connection.
pub(crate) struct Switched {
    pub(crate) response: Response<Incoming>,
    pub(crate) client: OnUpgrade,
    pub(crate) lease: Lease,
}

/// One place a request can go to.
enum Candidate {
    Instance(Arc<Instance>),
    Fixed(Target),
}

impl Candidate {
    fn target(&self) -> Target {
        match self {
            Self::Instance(it) => it.target(),
            Self::Fixed(target) => target.clone(),
        }
    }

    /// A bounded label: ids of instances, or the one fixed address.
    fn label(&self) -> String {
        match self {
            Self::Instance(it) => it.id.to_string(),
            Self::Fixed(target) => target.authority(),
        }
    }
}

/// How one attempt ended that did not bring an answer.
struct Failed {
    failure: Failure,
    refused: Refused,
    suspicion: Option<Suspicion>,
    outcome: &'static str,
    /// The connection had served before: that it broke says nothing about the instance.
    stale: bool,
    /// The request, if it can be sent again as it is.
    request: Option<Request<UpBody>>,
}

/// Sends a request until there is an answer, or no sense in going on.
pub(crate) async fn forward(
    way: &Way<'_>,
    request: Request<UpBody>,
    client: Option<OnUpgrade>,
    record: &mut Record,
) -> Result<Reply, Refused> {
    let method = request.method().clone();
    let has_body = !matches!(request.body(), UpBody::Empty);
    let mut facts = retry::Request::new(method.as_str(), has_body, way.route.retryable);
    // What is needed to send it again; a body cannot be copied and is not.
    let again = (!has_body).then(|| copy(&request));
    let mut request = Some(request);
    let mut tried: Vec<Target> = Vec::new();
    let mut attempts = 0;
    let mut last: Option<Refused> = None;
    way.live.budget.lock().unwrap_or_else(PoisonError::into_inner).earn();
    while let Some(candidate) = pick(way, &tried) {
        let Some(mut sending) = request.take().or_else(|| again.as_ref().map(copy)) else { break };
        let target = candidate.target();
        set_host(sending.headers_mut(), &host_of(&target));
        // What is left now, not what was left at the first attempt.
        let left = way.worker.gate.upstream.total_timeout.saturating_sub(record.start().elapsed());
        set(sending.headers_mut(), DEADLINE_HEADER, &left.as_millis().max(1).to_string());
        attempts += 1;
        record.attempt(&candidate.label());
        let outcome = attempt(way, &target, sending, record).await;
        record.upstream_over();
        count(way, &candidate, outcome.as_ref().map_or_else(|it| it.outcome, |_| "answered"));
        let failed = match outcome {
            Ok((response, lease)) => {
                trust(way, &candidate);
                return reply(way, response, lease, client);
            }
            Err(failed) => failed,
        };
        if let (Some(reason), Candidate::Instance(it)) = (failed.suspicion, &candidate) {
            way.worker.gate.routing.discovery().report(it, reason);
        }
        if !failed.stale {
            tried.push(target);
        }
        facts.body_untouched = !way.upload.touched();
        request = failed.request;
        last = Some(failed.refused);
        match retry::next(failed.failure, facts, attempts) {
            Next::End => break,
            Next::Again => {}
            Next::AgainForToken => {
                let mut budget = way.live.budget.lock().unwrap_or_else(PoisonError::into_inner);
                if !budget.spend() {
                    metrics::counter!("gw_retry_budget_exhausted_total").increment(1);
                    break;
                }
            }
        }
        if way.worker.gate.upstream.total_timeout <= record.start().elapsed() {
            break;
        }
        metrics::counter!("gw_retry_attempts_total").increment(1);
    }
    Err(last.unwrap_or_else(|| refuse::no_instance(way.route.service_label())))
}

/// What `Host` says: the authority, without the port where it is the scheme's own.
fn host_of(target: &Target) -> String {
    let authority = target.authority();
    if target.port() != target.scheme().default_port() {
        return authority;
    }
    authority.rsplit_once(':').map_or_else(String::new, |(host, _)| host.to_owned())
}

fn copy(request: &Request<UpBody>) -> Request<UpBody> {
    let mut copy = Request::new(UpBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

fn reply(
    way: &Way<'_>,
    response: Response<Incoming>,
    lease: Lease,
    client: Option<OnUpgrade>,
) -> Result<Reply, Refused> {
    let service = way.route.service_label();
    let mut response = response;
    // hyper goes by the transfer coding where there are both; the length must not survive it.
    let fields = response.headers_mut();
    if fields.contains_key(TRANSFER_ENCODING) {
        fields.remove(CONTENT_LENGTH);
    }
    if 1 < fields.get_all(CONTENT_LENGTH).iter().count() {
        return Err(refuse::bad_answer(service, "several lengths of one answer".to_owned()));
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Reply::Answer { response, lease, upload: Arc::clone(&way.upload) });
    }
    match client {
        Some(client) => Ok(Reply::Switched(Switched { response, client, lease })),
        None => {
            let reason = "switched protocols without being asked".to_owned();
            Err(refuse::bad_answer(service, reason))
        }
    }
}

fn pick(way: &Way<'_>, tried: &[Target]) -> Option<Candidate> {
    match &way.live.instances {
        Instances::Fixed(target) => {
            (!tried.contains(target)).then(|| Candidate::Fixed(target.clone()))
        }
        Instances::Service(view) => {
            let list = view.load();
            let up: Vec<&Arc<Instance>> = list.up().collect();
            let turn = way.live.turn.fetch_add(1, Ordering::Relaxed);
            let was = |at: usize| up.get(at).is_some_and(|it| tried.contains(&it.target()));
            let shunned = |at: usize| up.get(at).is_some_and(|it| view.suspected(&it.id));
            let at = retry::choose(up.len(), turn, was, shunned)?;
            up.get(at).map(|it| Candidate::Instance(Arc::clone(it)))
        }
    }
}

fn trust(way: &Way<'_>, candidate: &Candidate) {
    if let (Instances::Service(view), Candidate::Instance(it)) = (&way.live.instances, candidate)
        && view.suspected(&it.id)
    {
        view.trust(&it.id);
    }
}

fn count(way: &Way<'_>, candidate: &Candidate, outcome: &'static str) {
    metrics::counter!(
        "gw_upstream_attempts_total",
        "service" => way.route.service_label().to_owned(),
        "instance" => candidate.label(),
        "outcome" => outcome
    )
    .increment(1);
}

/// One attempt on one instance.
async fn attempt(
    way: &Way<'_>,
    target: &Target,
    request: Request<UpBody>,
    record: &mut Record,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let limits = &way.worker.gate.upstream;
    let start = Instant::now();
    let until = start + limits.connect_timeout;
    let leased = way.worker.pool.lease(target, way.upgrade, until).await;
    record.connect += start.elapsed();
    let mut lease = match leased {
        Ok(lease) => lease,
        Err(error) => return Err(not_connected(way, &error, request)),
    };
    let stale = lease.reused;
    let Some(sender) = lease.sender() else {
        let error = ConnectError::TimedOut;
        return Err(not_connected(way, &error, request));
    };
    let sending = sender.try_send_request(request);
    let mut sending = std::pin::pin!(sending);
    let total = record.start() + limits.total_timeout;
    let mut wake = Instant::now() + limits.head_timeout;
    let outcome = loop {
        tokio::select! {
            outcome = &mut sending => break Some(outcome),
            () = tokio::time::sleep_until(wake) => {
                // While the body is on its way the service is not late.
                let due = way.upload.progress().max(start) + limits.head_timeout;
                let due = if way.upload.done() { due.min(total.max(start)) } else { due };
                if due <= Instant::now() {
                    break None;
                }
                wake = due;
            }
        }
    };
    match outcome {
        Some(Ok(response)) => Ok((response, lease)),
        Some(Err(mut error)) => {
            let back = error.take_message();
            Err(not_answered(way, error.error(), back, stale))
        }
        None => Err(Failed {
            failure: Failure::TimedOut,
            refused: refuse::head_timeout(way.route.service_label()),
            suspicion: Some(Suspicion::Timeout),
            outcome: "timeout",
            stale: false,
            request: None,
        }),
    }
}

/// What a failed connection says of the instance. A fault of this side (no descriptor, no port
/// left) says nothing: taken for a refusal it would empty every list at once.
fn suspicion(error: &io::Error) -> Option<Suspicion> {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Some(Suspicion::Refused),
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Some(Suspicion::Timeout)
        }
        _ => None,
    }
}

fn not_connected(way: &Way<'_>, error: &ConnectError, request: Request<UpBody>) -> Failed {
    let service = way.route.service_label();
    let (refused, suspicion, outcome) = match error {
        ConnectError::Queue => (refuse::busy(service), None, "queue"),
        ConnectError::TimedOut => {
            (refuse::connect_timeout(service), Some(Suspicion::Timeout), "connect-timeout")
        }
        ConnectError::Refused(cause) => {
            let reason = tradewind_service::answer::chain(error);
            (refuse::unreachable(service, reason), suspicion(cause), "refused")
        }
        ConnectError::Handshake(_) => {
            let reason = tradewind_service::answer::chain(error);
            (refuse::unreachable(service, reason), None, "refused")
        }
    };
    Failed {
        failure: Failure::NothingSent,
        refused,
        suspicion,
        outcome,
        stale: false,
        request: Some(request),
    }
}

fn not_answered(
    way: &Way<'_>,
    error: &hyper::Error,
    back: Option<Request<UpBody>>,
    stale: bool,
) -> Failed {
    let service = way.route.service_label();
    let reason = || tradewind_service::answer::chain(error);
    let failed = |failure, refused, suspicion, outcome, request| Failed {
        failure,
        refused,
        suspicion,
        outcome,
        stale,
        request,
    };
    if let Some(fault) = way.upload.fault() {
        return failed(Failure::Final, refuse::body(fault), None, "client", None);
    }
    if let Some(request) = back {
        // hyper never wrote it: the connection ended while it was idle.
        let refused = refuse::unreachable(service, reason());
        return failed(Failure::NothingSent, refused, None, "closed", Some(request));
    }
    if error.is_parse() {
        return failed(
            Failure::Final,
            refuse::bad_answer(service, reason()),
            None,
            "malformed",
            None,
        );
    }
    let refused = refuse::lost(service, reason());
    let suspicion = (!stale).then_some(Suspicion::Reset);
    failed(Failure::Lost, refused, suspicion, "lost", None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_other_side_s_refusal_counts_against_an_instance() {
        for (error, expected) in [
            (io::Error::from(ErrorKind::ConnectionRefused), Some(Suspicion::Refused)),
            (io::Error::from(ErrorKind::ConnectionReset), Some(Suspicion::Refused)),
            (io::Error::from(ErrorKind::HostUnreachable), Some(Suspicion::Timeout)),
            // EMFILE and EADDRNOTAVAIL: this process has no descriptor or no port left.
            (io::Error::from_raw_os_error(24), None),
            (io::Error::from_raw_os_error(99), None),
            (io::Error::other("the name does not resolve"), None),
        ] {
            assert_eq!(suspicion(&error), expected, "{error}");
        }
    }
}
