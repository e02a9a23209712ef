//! Does what the renewal machine says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tradewind_base::{Clock, Monotonic, Rng, Tasks};
use tradewind_http::Limits;

use super::{RegisterError, presence};
use crate::machine::renewal::{Act, Outcome, Renewal};
use crate::peers::{Peers, encoded, limits};
use crate::source::registry::chain;
use crate::{Instance, Status};

/// A wish to leave: until when, and whom to tell how it went.
pub(super) struct Leave {
    pub(super) end: Instant,
    pub(super) done: oneshot::Sender<bool>,
}

/// What a driver is made of.
pub(super) struct Parts {
    pub(super) peers: Arc<Peers>,
    pub(super) instance: Instance,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Rng,
    pub(super) heartbeat: Duration,
    pub(super) lease: Duration,
    pub(super) status: watch::Receiver<Status>,
    pub(super) renewed: watch::Sender<Option<Monotonic>>,
}

/// The owner of one registration.
pub(super) struct Driver {
    parts: Parts,
    renewal: Renewal,
    /// The peer that took the last act; the presence stream goes there.
    holder: watch::Sender<Option<usize>>,
    /// The status of the last refusal.
    refused: Option<StatusCode>,
    silent: bool,
}

enum Next {
    Act,
    Status,
    Leave(Leave),
    End,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        let (now, wall) = (parts.clock.monotonic(), parts.clock.now());
        let renewal = Renewal::new(parts.heartbeat, parts.peers.len(), now, wall);
        let holder = watch::Sender::new(None);
        Self { parts, renewal, holder, refused: None, silent: false }
    }

    /// Asks every peer once, until one takes the registration.
    pub(super) async fn first(&mut self) -> Result<(), RegisterError> {
        let mut all_refused = true;
        while !self.renewal.all_failed() {
            let peer = self.renewal.peer();
            match self.act().await {
                Outcome::Accepted => return Ok(()),
                Outcome::Refused => {}
                Outcome::Unknown | Outcome::Failed => all_refused = false,
            }
            if self.renewal.all_failed() && all_refused {
                let url = self.parts.peers.url(peer);
                return Err(RegisterError::Refused {
                    url: url.map_or_else(String::new, ToString::to_string),
                    instance: self.parts.instance.id.to_string(),
                    status: self.refused.map_or(0, |it| it.as_u16()),
                });
            }
        }
        Ok(())
    }

    pub(super) fn spawn(self, leave: oneshot::Receiver<Leave>, tasks: &Tasks) {
        let presence = presence::Presence {
            peers: Arc::clone(&self.parts.peers),
            service: self.parts.instance.service.clone(),
            id: self.parts.instance.id.clone(),
            holder: self.holder.subscribe(),
            rng: Rng::from_entropy(),
        };
        tasks.spawn("registration presence", |cancel| async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = presence.run() => {}
            }
        });
        // However this ends, the presence ends after it, with the sender of `holder`: a stream that
        // closes before the instance has left would make the registry probe it.
        tasks.spawn("registration", |cancel| self.run(leave, cancel));
    }

    async fn run(mut self, mut leave: oneshot::Receiver<Leave>, cancel: CancellationToken) {
        loop {
            let pause = self.renewal.due().since(self.parts.clock.monotonic());
            let next = tokio::select! {
                biased;
                leave = &mut leave => leave.map_or(Next::End, Next::Leave),
                () = cancel.cancelled() => Next::End,
                Ok(()) = self.parts.status.changed() => Next::Status,
                () = sleep(pause) => Next::Act,
            };
            match next {
                // Not interrupted by a wish to leave: a registration still under way could reach
                // the registry after the good-bye.
                Next::Act => drop(self.act().await),
                Next::Status => {
                    self.parts.instance.status = *self.parts.status.borrow_and_update();
                    let (now, wall) = (self.parts.clock.monotonic(), self.parts.clock.now());
                    self.renewal.changed(now, wall);
                }
                Next::Leave(leave) => {
                    let gone = timeout_at(leave.end, self.cancel()).await.is_ok();
                    if leave.done.send(gone).is_err() {
                        tracing::debug!("nobody waited for the good-bye");
                    }
                    return;
                }
                Next::End => return,
            }
        }
    }

    /// Registers or renews, as is due.
    async fn act(&mut self) -> Outcome {
        let (peer, act) = (self.renewal.peer(), self.renewal.act());
        let request = match act {
            Act::Register => self.register_request(),
            Act::Renew => self.renew_request(),
        };
        let outcome = self.send(peer, request).await;
        let (now, wall) = (self.parts.clock.monotonic(), self.parts.clock.now());
        let random = self.parts.rng.unit();
        self.renewal.done(now, wall, random, outcome);
        if outcome == Outcome::Accepted {
            self.parts.renewed.send_replace(Some(now));
            self.holder.send_if_modified(|it| it.replace(peer) != Some(peer));
            if act == Act::Register {
                let instance = &self.parts.instance;
                let url = self.parts.peers.url(peer).map(ToString::to_string);
                let (app, id, status) = (&instance.service, &instance.id, instance.status);
                tracing::info!(%app, instance.id = %id, %status, url, "registered");
            }
            self.silent = false;
        }
        outcome
    }

    async fn send(&mut self, peer: usize, request: Option<Request<Bytes>>) -> Outcome {
        let Some(request) = request else { return Outcome::Failed };
        let sent = self.parts.peers.send(peer, request, &self.limits()).await;
        let url = self.parts.peers.url(peer).map(ToString::to_string);
        let (outcome, reason) = match sent {
            Some(Ok(answer)) => {
                let status = answer.status();
                (outcome(status), format!("status {}", status.as_u16()))
            }
            Some(Err(error)) => (Outcome::Failed, chain(&error)),
            None => (Outcome::Failed, "no registry".to_owned()),
        };
        match outcome {
            Outcome::Accepted => {}
            Outcome::Unknown => {
                tracing::info!(url, "the registry does not know this instance");
            }
            Outcome::Refused | Outcome::Failed if self.silent => {
                tracing::debug!(url, reason, "the registry did not take the registration");
            }
            Outcome::Refused | Outcome::Failed => {
                self.silent = true;
                tracing::warn!(url, reason, "the registry did not take the registration");
            }
        }
        if outcome == Outcome::Refused {
            self.refused = reason.strip_prefix("status ").and_then(|it| it.parse().ok());
        }
        outcome
    }

    /// Says good-bye, to one peer after the other, until one confirms.
    async fn cancel(&mut self) {
        let first = self.holder.borrow().unwrap_or_else(|| self.renewal.peer());
        for peer in first.. {
            let uri = self.path();
            let request = Request::delete(uri).body(Bytes::new()).ok();
            let outcome = self.send(peer, request).await;
            if matches!(outcome, Outcome::Accepted | Outcome::Unknown) {
                let Instance { service, id, .. } = &self.parts.instance;
                tracing::info!(app = %service, instance.id = %id, "left the registry");
                return;
            }
            if peer.wrapping_sub(first) % self.parts.peers.len().max(1)
                == self.parts.peers.len() - 1
            {
                sleep(self.parts.heartbeat / 4).await;
            }
        }
    }

    /// A heartbeat that takes longer than the next one is due is as good as none.
    fn limits(&self) -> Limits {
        let span = self.parts.heartbeat.max(Duration::from_millis(200));
        limits(span / 2, span)
    }

    fn path(&self) -> String {
        let Instance { service, id, .. } = &self.parts.instance;
        let app = service.eureka_app();
        format!("/eureka/apps/{}/{}", encoded(&app), encoded(id.as_str()))
    }

    fn register_request(&self) -> Option<Request<Bytes>> {
        let app = self.parts.instance.service.eureka_app();
        let mut body = String::new();
        tradewind_eureka::json::instance(&mut body, &self.eureka_instance());
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("/eureka/apps/{}", encoded(&app)).parse().ok()?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json.clone());
        request.headers_mut().insert(ACCEPT, json);
        Some(request)
    }

    fn renew_request(&self) -> Option<Request<Bytes>> {
        let (status, dirty) = (self.parts.instance.status, self.renewal.dirty());
        let uri = format!("{}?status={status}&lastDirtyTimestamp={dirty}", self.path());
        Request::put(uri).header(ACCEPT, "application/json").body(Bytes::new()).ok()
    }

    fn eureka_instance(&self) -> tradewind_eureka::Instance {
        use tradewind_eureka::{DataCenter, LeaseInfo, Metadata, Port};
        let Instance { id, service, host, port, secure, status, metadata } = &self.parts.instance;
        let mut pairs = Metadata::new();
        for (key, value) in metadata {
            pairs.insert(key.as_str(), value.as_str());
        }
        let at = |enabled: bool, other: i32| Port {
            number: if enabled { i32::from(*port) } else { other },
            enabled,
        };
        let dirty = Some(self.renewal.dirty());
        tradewind_eureka::Instance {
            instance_id: Some(id.to_string()),
            host_name: host.clone(),
            app: service.eureka_app(),
            ip_addr: host.clone(),
            status: eureka_status(*status),
            port: at(!secure, 80),
            secure_port: at(*secure, 443),
            data_center: Some(DataCenter::MyOwn),
            lease: LeaseInfo {
                renewal_interval_secs: whole_seconds(self.parts.heartbeat),
                duration_secs: whole_seconds(self.parts.lease),
                ..LeaseInfo::default()
            },
            metadata: pairs,
            // Spring finds a service by this, exactly as written.
            vip_address: Some(service.to_string()),
            secure_vip_address: Some(service.to_string()),
            last_updated_ts: dirty,
            last_dirty_ts: dirty,
            ..tradewind_eureka::Instance::default()
        }
    }
}

fn outcome(status: StatusCode) -> Outcome {
    match status {
        it if it.is_success() => Outcome::Accepted,
        StatusCode::NOT_FOUND => Outcome::Unknown,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Outcome::Failed,
        it if it.is_client_error() => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// Rounded up, at least one: Eureka's leases have no fractions.
fn whole_seconds(span: Duration) -> i32 {
    let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    i32::try_from(seconds.max(1)).unwrap_or(i32::MAX)
}

const fn eureka_status(status: Status) -> tradewind_eureka::Status {
    match status {
        Status::Up => tradewind_eureka::Status::Up,
        Status::Down => tradewind_eureka::Status::Down,
        Status::Starting => tradewind_eureka::Status::Starting,
        Status::OutOfService => tradewind_eureka::Status::OutOfService,
        Status::Unknown => tradewind_eureka::Status::Unknown,
    }
}
