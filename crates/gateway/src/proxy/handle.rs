//! One request: from its head to the head of its answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, VIA};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use tradewind_base::context::{REQUEST_ID_HEADER, TRACE_HEADER};
use tradewind_base::identity::USER_HEADER;
use tradewind_base::{Rng, TraceContext, seal};

use super::body::{DownBody, UpBody, Upload};
use super::forward::{self, Way};
use super::gate::Gate;
use super::inbound::{Arrival, Side};
use super::pool::Pool;
use super::record::{Opening, Record};
use super::refuse::{self, Refused};
use super::tunnel;
use crate::machine::auth::{self, Asker, Credentials, Denial};
use crate::machine::framing::{Facts, fingerprint};
use crate::machine::head::Head;
use crate::machine::headers::{self, Origin, RequestRules, ResponseRules};
use crate::machine::path;
use crate::machine::route::{AuthPolicy, Route, Upstream};

/// How long a service accepts the user this gateway vouches for.
const USER_LIFE: std::time::Duration = std::time::Duration::from_secs(60);

/// A worker: what its requests need.
pub(crate) struct Worker {
    pub(crate) gate: Arc<Gate>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) tasks: tradewind_base::Tasks,
}

/// hyper's head, seen as the machine wants it.
struct View<'a>(&'a http::request::Parts);

impl Head for View<'_> {
    fn method(&self) -> &str {
        self.0.method.as_str()
    }
    fn path(&self) -> &str {
        self.0.uri.path()
    }
    fn query(&self) -> Option<&str> {
        self.0.uri.query()
    }
    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }
}

/// What is known of a request before its head is looked at.
pub(crate) struct About {
    pub(crate) id: String,
    pub(crate) peer: SocketAddr,
    pub(crate) rng: Rng,
}

/// What came from the client, taken apart.
pub(crate) struct Inquiry {
    pub(crate) parts: http::request::Parts,
    pub(crate) incoming: Incoming,
    pub(crate) facts: Facts,
}

impl Worker {
    /// Answers a request, whatever it is.
    pub(crate) async fn handle(
        self: Arc<Self>,
        arrival: Option<Arrival>,
        request: Request<Incoming>,
        about: About,
        side: Side,
    ) -> Response<DownBody> {
        let About { id, peer, mut rng } = about;
        let (parts, incoming) = request.into_parts();
        // A refused head was replaced: nothing of what hyper saw is the client's.
        let refused = matches!(arrival, Some(Arrival::Refused(_) | Arrival::TooSlow));
        let shown = |text| if refused { "" } else { text };
        let host = parts.headers.get(HOST).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let opening = Opening {
            request_id: id,
            client: peer.ip().to_canonical(),
            method: shown(parts.method.as_str()),
            host: shown(host),
            path: shown(parts.uri.path()),
            protocol: if parts.version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
        };
        let mut record = Record::open(&self.gate, side.clone(), opening);
        let facts = match arrival {
            Some(Arrival::Head(facts)) if same_reading(&facts, &parts) => facts,
            other => return own_answer(refuse::arrival(other), record),
        };
        let upgrade = facts.upgrade;
        let inquiry = Inquiry { parts, incoming, facts };
        match self.route(inquiry, peer, &mut record, &mut rng).await {
            Ok(reply) => {
                if upgrade {
                    side.switched(matches!(reply, forward::Reply::Switched(_)));
                }
                self.answer(reply, record)
            }
            Err(refused) => {
                if upgrade {
                    side.switched(false);
                }
                own_answer(refused, record)
            }
        }
    }

    /// Decides where the request goes and sends it there.
    async fn route(
        &self,
        inquiry: Inquiry,
        peer: SocketAddr,
        record: &mut Record,
        rng: &mut Rng,
    ) -> Result<forward::Reply, Refused> {
        let gate = &self.gate;
        let head = View(&inquiry.parts);
        let path = path::normalise(head.path()).map_err(refuse::path)?.into_owned();
        let snapshot = gate.routing.load();
        if snapshot.revision == 0 {
            return Err(refuse::no_routes_yet());
        }
        let (route, live) = snapshot.find(&path).ok_or_else(refuse::no_route)?;
        record.routed(route, &live.stats);
        if gate.client.requests < gate.inflight.load(Ordering::Relaxed) {
            return Err(refuse::overloaded());
        }
        let passthrough = route.auth == AuthPolicy::Passthrough;
        let rules = RequestRules::new(&head, passthrough).map_err(refuse::headers)?;
        let asker = self.asker(&head, route.auth).await?;
        if let Asker::User(user, _) = &asker {
            record.consumer = Some(user.id.clone());
        }
        if inquiry.facts.content_length.is_some_and(|it| gate.client.body_bytes < it) {
            return Err(refuse::body(super::body::Fault::TooLarge));
        }
        let origin = Origin::of(&head, peer.ip(), false, &gate.trusted);
        record.client = origin.client;
        let trace = head.text(TRACE_HEADER).and_then(TraceContext::parse);
        let trace = match trace {
            Some(parent) => parent.child(rng),
            None => TraceContext::start(rng, true),
        };
        record.trace_id = Some(format!("{:032x}", trace.trace_id()));
        let target = target(route, &path, head.query())?;
        let Inquiry { parts, incoming, facts } = inquiry;
        let mut fields = parts.headers;
        keep(&mut fields, &rules);
        write_origin(&mut fields, &origin, route, gate.local.port());
        set(&mut fields, REQUEST_ID_HEADER, &record.request_id);
        set(&mut fields, TRACE_HEADER, &trace.to_string());
        // A fixed address may be anybody's: the estate's word on a user is for its services alone.
        if matches!(route.upstream, Upstream::Service(_)) {
            self.write_user(&mut fields, &asker)?;
        }
        fields.append(VIA, HeaderValue::from_static(headers::VIA));
        if facts.upgrade {
            fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            fields.insert(http::header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if facts.chunked {
            // Said explicitly: hyper assumes that a GET has no body.
            fields.insert(http::header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let upload = Upload::new(!facts.has_body());
        record.upload = Some(Arc::clone(&upload));
        let body = if facts.has_body() {
            let limit = gate.client.body_bytes;
            UpBody::Client { incoming, upload: Arc::clone(&upload), limit }
        } else {
            UpBody::Empty
        };
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.uri_mut() = target;
        *request.headers_mut() = fields;
        let way = Way { worker: self, route, live, upload, upgrade: facts.upgrade };
        let client = facts.upgrade.then(|| parts.extensions.get().cloned()).flatten();
        forward::forward(&way, request, client, record).await
    }

    async fn asker(&self, head: &View<'_>, policy: AuthPolicy) -> Result<Asker, Refused> {
        let gate = &self.gate;
        let credentials = auth::credentials(head);
        if let (Credentials::Bearer(token), false) =
            (credentials, policy == AuthPolicy::Passthrough)
        {
            gate.tokens.prepare(token).await;
        }
        let now = gate.clock.now();
        auth::decide(credentials, policy, &gate.wanted, now, |it| gate.tokens.verify(it))
            .map_err(refuse::denial)
    }

    /// Vouches for the user, no longer than its token is good.
    fn write_user(&self, fields: &mut HeaderMap, asker: &Asker) -> Result<(), Refused> {
        let Asker::User(user, token_end) = asker else { return Ok(()) };
        let end = (self.gate.clock.now() + USER_LIFE).min(*token_end);
        match user.seal(&self.gate.seal, end) {
            Ok(sealed) if sealed.len() <= seal::LEN_MAX => {
                set(fields, USER_HEADER, &sealed);
                Ok(())
            }
            // Services would refuse it as malformed: better said here.
            _ => Err(refuse::denial(Denial::Invalid("the user does not fit into a header"))),
        }
    }

    /// Passes a service's answer on.
    fn answer(&self, reply: forward::Reply, mut record: Record) -> Response<DownBody> {
        let (mut response, lease, upload) = match reply {
            forward::Reply::Answer { response, lease, upload } => (response, lease, upload),
            forward::Reply::Switched(switched) => {
                record.answering(http::StatusCode::SWITCHING_PROTOCOLS.as_u16());
                return tunnel::start(self, switched, record);
            }
        };
        record.answering(response.status().as_u16());
        let connection = response.headers().get_all(CONNECTION);
        let rules = ResponseRules::new(connection.iter().map(HeaderValue::as_bytes));
        drop_fields(response.headers_mut(), |name| rules.keeps(name));
        set(response.headers_mut(), REQUEST_ID_HEADER, &record.request_id);
        response.headers_mut().append(VIA, HeaderValue::from_static(headers::VIA));
        let idle = self.gate.upstream.body_timeout;
        response.map(|incoming| DownBody::service(incoming, lease, upload, idle, record))
    }
}

/// Whether hyper read the same request line and as many fields as the tracker.
fn same_reading(facts: &Facts, parts: &http::request::Parts) -> bool {
    let target = parts.uri.path_and_query().map_or("", |it| it.as_str());
    parts.uri.authority().is_none()
        && facts.headers == parts.headers.len()
        && facts.fingerprint == fingerprint(parts.method.as_str(), target)
}

/// The target the service sees: the routed path and the query as it came.
fn target(route: &Route, path: &str, query: Option<&str>) -> Result<Uri, Refused> {
    let path = route.target(path);
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    // Both parts came out of a URI; putting them together can only make it too long.
    Uri::try_from(text)
        .map_err(|_| refuse::framing(crate::machine::framing::Refusal::TargetTooLong))
}

/// Sets one field of the gateway's own.
pub(crate) fn set(fields: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(HeaderName::from_static(name), value);
    }
}

fn keep(fields: &mut HeaderMap, rules: &RequestRules) {
    drop_fields(fields, |name| rules.keeps(name));
}

fn drop_fields(fields: &mut HeaderMap, keeps: impl Fn(&str) -> bool) {
    let dropped: Vec<HeaderName> =
        fields.keys().filter(|it| !keeps(it.as_str())).cloned().collect();
    for name in dropped {
        fields.remove(name);
    }
}

fn write_origin(fields: &mut HeaderMap, origin: &Origin, route: &Route, port: u16) {
    set(fields, "x-forwarded-for", &origin.chain);
    set(fields, "x-forwarded-proto", origin.proto);
    set(fields, "x-forwarded-host", &origin.host);
    set(fields, "x-forwarded-port", &port.to_string());
    set(fields, "x-real-ip", &origin.client.to_string());
    set(fields, "forwarded", &origin.forwarded());
    if !route.strip.is_empty() {
        set(fields, "x-forwarded-prefix", &route.strip);
    }
}

/// Sets the one `Host` of a request to a service.
pub(crate) fn set_host(fields: &mut HeaderMap, authority: &str) {
    if let Ok(value) = HeaderValue::from_str(authority) {
        fields.insert(HOST, value);
    }
}

/// An answer of the gateway itself.
pub(crate) fn own_answer(refused: Refused, mut record: Record) -> Response<DownBody> {
    record.error_code = Some(refused.problem.code.clone());
    record.error_phase = Some(refused.phase);
    record.error_reason.clone_from(&refused.reason);
    record.answering(refused.problem.status.as_u16());
    let id = record.request_id.clone();
    refused.into_response(id, |bytes| DownBody::whole(bytes, record))
}
