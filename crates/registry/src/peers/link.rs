//! Keeps one peer up to date.
//!
//! The link greets the peer (which tells what kind of server it is, and whether it is this node
//! itself), exchanges the whole table with it, and then sends what changes. When anything fails it
//! begins anew, after a pause that grows; a peer that was cut off is therefore always brought up
//! to date by a full exchange, in both directions. The same exchange runs every
//! [`Config::resync`](crate::Config::resync), so that nothing that was lost stays lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tradewind_base::Rng;
use tradewind_discovery::wire::STATUS_PATH;
use tradewind_eureka::{ReplicationList, ReplicationResult, json};
use tradewind_http::{Client, SendError, collect};
use tradewind_service::answer::chain;

use super::items::{Sent, Taken, reply, written};
use super::wire::{self, Beside, SyncAnswer, SyncPage};
use super::{First, Peer, Standing, limits};
use crate::machine::{Origin, Outbox, Replica, Respects};
use crate::state::Registry;

/// The most items of one batch, as a stock server sends them.
const BATCH_MAX: usize = 250;
/// About how many bytes of a batch; the peer's edge takes a mebibyte by default.
const BATCH_BYTES: usize = 400 << 10;
/// How long changes are gathered; a batch leaves within 100 ms of its oldest change.
const GATHER: Duration = Duration::from_millis(20);
/// Names of one page of the full exchange.
const PAGE: usize = 1000;
/// The largest answer of a peer: a page of copies with their metadata at its limit.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// How often a silent peer is greeted.
const GREETING: Duration = Duration::from_secs(2);
/// Pauses after failures.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long the last changes have to leave at a stop.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a link broke.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("failed to reach the peer")]
    Send(#[source] SendError),
    #[error("the peer answered {0}")]
    Status(StatusCode),
    #[error("the peer's answer is not one")]
    Malformed,
    #[error("the peer started anew")]
    Restarted,
}

/// The link to one peer.
#[derive(Debug)]
pub(crate) struct Link {
    registry: Arc<Registry>,
    peer: Arc<Peer>,
    client: Client,
    authorization: Option<HeaderValue>,
    /// The peer, once greeted.
    kind: Origin,
    epoch: String,
    /// Whether it knows every living instance, as it says itself.
    warm: bool,
    rng: Rng,
}

/// What a greeting told.
enum Greeted {
    Itself,
    Other,
}

#[derive(Deserialize)]
struct PeerStatus {
    node: String,
    epoch: String,
    #[serde(default)]
    warm: bool,
}

impl Link {
    pub(crate) fn new(
        registry: Arc<Registry>,
        peer: Arc<Peer>,
        client: Client,
        authorization: Option<HeaderValue>,
    ) -> Self {
        let rng = Rng::from_entropy();
        let (kind, epoch) = (Origin::Tradewind, String::new());
        Self { registry, peer, client, authorization, kind, epoch, warm: false, rng }
    }

    /// Runs until told to end.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        cancel.run_until_cancelled(self.keep()).await;
        if self.peer.is_up() {
            // What this node was told last should not have to wait for a heartbeat elsewhere.
            let _lost_if_late = timeout(LAST_WORDS, self.flush()).await;
        }
    }

    async fn keep(&mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let greeted = self.greet().await;
            let outcome = match greeted {
                Ok(Greeted::Itself) => {
                    self.peer.set_standing(Standing::Itself, None);
                    self.peer.with_outbox(Outbox::clear);
                    self.peer.first.send_replace(First::Failed);
                    return;
                }
                Ok(Greeted::Other) => self.serve(&mut pause).await,
                Err(error) => error,
            };
            let error = chain(&outcome);
            self.peer.set_standing(Standing::Down { error }, None);
            self.peer.first.send_if_modified(|first| {
                let trying = *first == First::Trying;
                if trying {
                    *first = First::Failed;
                }
                trying
            });
            sleep(self.rng.jitter(pause, 0.25)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Exchanges everything, then sends what changes; ends when the link breaks.
    async fn serve(&mut self, pause: &mut Duration) -> LinkError {
        if let Err(error) = self.exchange().await {
            return error;
        }
        // Two nodes that start together have nothing to give each other: what they lack is not
        // known to be gone.
        if self.warm {
            self.registry.change(|table, _| table.set_synced());
        }
        self.peer.first.send_replace(First::Synced);
        *pause = PAUSE_MIN;
        loop {
            if let Err(error) = self.follow().await {
                return error;
            }
        }
    }

    /// Sends what changes until the next full exchange, and makes that.
    async fn follow(&mut self) -> Result<(), LinkError> {
        let end = Instant::now() + self.rng.jitter(self.registry.config.resync, 0.25);
        while Instant::now() < end {
            let greeting = Instant::now() + GREETING;
            tokio::select! {
                () = self.peer.news.notified() => sleep(GATHER).await,
                () = sleep_until(greeting.min(end)) => {
                    let epoch = self.epoch.clone();
                    self.greet().await?;
                    if self.epoch != epoch {
                        return Err(LinkError::Restarted);
                    }
                }
            }
            self.flush().await?;
            if self.peer.with_outbox(Outbox::take_overflow) {
                break;
            }
        }
        match self.kind {
            Origin::Tradewind => self.exchange().await,
            // Its list does not say how old its leases are: taking it again and again would keep
            // alive what is dead.
            Origin::Stock => Ok(()),
        }
    }

    // === greeting ===

    async fn greet(&mut self) -> Result<Greeted, LinkError> {
        let answer = self.ask(Method::GET, STATUS_PATH, Bytes::new(), &[]).await?;
        let status = answer.status();
        let body = whole(answer).await?;
        let told = serde_json::from_slice::<PeerStatus>(&body).ok();
        let (kind, node, epoch) = match (status, told) {
            (StatusCode::OK, Some(told)) => {
                self.warm = told.warm;
                (Origin::Tradewind, told.node, told.epoch)
            }
            // A stock server does not know the path; Spring's may show a page instead.
            (StatusCode::NOT_FOUND | StatusCode::OK, _) => {
                (Origin::Stock, String::new(), String::new())
            }
            (status, _) => return Err(LinkError::Status(status)),
        };
        if kind == Origin::Tradewind && node == self.registry.node {
            return Ok(Greeted::Itself);
        }
        (self.kind, self.epoch) = (kind, epoch);
        self.seen(node);
        Ok(Greeted::Other)
    }

    fn seen(&self, node: String) {
        let standing = Standing::Up { kind: self.kind, node, epoch: self.epoch.clone() };
        self.peer.set_standing(standing, Some(self.registry.now().mono));
    }

    // === the full exchange ===

    async fn exchange(&mut self) -> Result<(), LinkError> {
        match self.kind {
            Origin::Tradewind => self.exchange_pages().await,
            Origin::Stock => self.fetch_all().await,
        }
    }

    async fn exchange_pages(&self) -> Result<(), LinkError> {
        // What is queued by now is part of what is exchanged.
        self.peer.with_outbox(|outbox| {
            outbox.clear();
            outbox.take_overflow();
        });
        let mut after = None;
        loop {
            let digest = self.registry.read(|table, now| table.digest(after, PAGE, now));
            let page = serde_json::to_vec(&SyncPage::new(&digest));
            let page = page.map_err(|_| LinkError::Malformed)?;
            let answer = self.ask(Method::POST, wire::SYNC_PATH, page.into(), &[]).await?;
            if answer.status() != StatusCode::OK {
                return Err(LinkError::Status(answer.status()));
            }
            let body = whole(answer).await?;
            let answer: SyncAnswer =
                serde_json::from_slice(&body).map_err(|_| LinkError::Malformed)?;
            if answer.epoch != self.epoch {
                return Err(LinkError::Restarted);
            }
            let reply = answer.into_reply().ok_or(LinkError::Malformed)?;
            let want = self.registry.change(|table, now| table.take_answer(&reply, now));
            let want: Vec<_> = want.into_iter().map(|key| (key, Respects::ALL)).collect();
            self.peer.tell(&want, self.registry.now().mono);
            let next = reply.upto.or(digest.upto);
            // A peer that answers with a place not further on would keep this going for ever.
            if next.is_none() || next <= digest.after {
                return Ok(());
            }
            after = next;
        }
    }

    /// A stock server gives what it has; what it lacks it asks for when it sees heartbeats.
    async fn fetch_all(&mut self) -> Result<(), LinkError> {
        let path = format!("{}/apps/", self.peer.url.prefix);
        let answer = self.ask(Method::GET, &path, Bytes::new(), &[]).await?;
        match answer.status() {
            StatusCode::OK => {}
            // It warms up, and has nothing yet.
            StatusCode::FORBIDDEN => return Ok(()),
            status => return Err(LinkError::Status(status)),
        }
        let body = whole(answer).await?;
        let all = json::read_applications(&body).map_err(|_| LinkError::Malformed)?;
        for instance in all.applications.into_iter().flat_map(|it| it.instances) {
            if instance.validate(&instance.app).is_ok() {
                let replica = Replica::stock(instance);
                self.registry.change(|table, now| table.merge(&replica, Origin::Stock, now));
            }
        }
        self.warm = true;
        Ok(())
    }

    // === batches ===

    /// Sends all that is queued.
    async fn flush(&self) -> Result<(), LinkError> {
        loop {
            let mut taken = Taken::take(&self.peer, BATCH_MAX);
            if taken.notes.is_empty() {
                return Ok(());
            }
            let items = self.items(&mut taken);
            if !items.is_empty() {
                self.send(&items).await?;
            }
            taken.delivered();
        }
    }

    /// The items of the notes; notes beyond the size of a batch are given back.
    fn items(&self, taken: &mut Taken<'_>) -> Vec<Sent> {
        let mut sent = Vec::new();
        let (mut bytes, mut done) = (0, 0);
        self.registry.read(|table, now| {
            for (key, respects) in &taken.notes {
                if BATCH_BYTES < bytes {
                    break;
                }
                done += 1;
                for item in table.items(key, *respects, self.kind, now) {
                    let (item, aside, size) = written(key, &item);
                    bytes += size;
                    sent.push(Sent { key: key.clone(), item, aside });
                }
            }
        });
        taken.give_back_from(done);
        sent
    }

    async fn send(&self, sent: &[Sent]) -> Result<(), LinkError> {
        let items = sent.iter().map(|it| it.item.clone()).collect();
        let mut body = String::new();
        json::replication_list(&mut body, &ReplicationList { items });
        let asides = sent.iter().map(|it| it.aside).collect::<Vec<_>>();
        let asides = HeaderValue::from_str(&wire::write_asides(&asides));
        let path = format!("{}/peerreplication/batch/", self.peer.url.prefix);
        let extra: Vec<_> = match (self.kind, asides) {
            (Origin::Tradewind, Ok(value)) => vec![(wire::ASIDES_HEADER, value)],
            _ => Vec::new(),
        };
        let answer = self.ask(Method::POST, &path, body.into(), &extra).await?;
        match answer.status() {
            StatusCode::OK => {}
            status @ (StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE) => {
                // The same batch would fail again.
                tracing::warn!(peer = %self.peer.url, %status, "the peer refuses a batch");
                return Ok(());
            }
            status => return Err(LinkError::Status(status)),
        }
        let headers = answer.headers();
        let beside = headers.get(wire::REPLIES_HEADER).and_then(|it| it.to_str().ok());
        let beside = beside.and_then(wire::read_replies).unwrap_or_default();
        if let Some(epoch) = headers.get(wire::EPOCH_HEADER)
            && epoch.as_bytes() != self.epoch.as_bytes()
        {
            return Err(LinkError::Restarted);
        }
        let body = whole(answer).await?;
        let response = json::read_replication_response(&body).map_err(|_| LinkError::Malformed)?;
        if response.results.len() != sent.len() {
            return Err(LinkError::Malformed);
        }
        self.heard(sent, response.results, &beside);
        Ok(())
    }

    fn heard(&self, sent: &[Sent], results: Vec<ReplicationResult>, beside: &[Beside]) {
        self.peer.set_standing(self.peer.standing().0, Some(self.registry.now().mono));
        for (n, (sent, result)) in sent.iter().zip(results).enumerate() {
            let beside = beside.get(n).copied().unwrap_or(Beside::Nothing);
            let Some(reply) = reply(sent.item.action, result, beside) else { continue };
            let again =
                self.registry.change(|table, now| table.on_reply(&sent.key, reply, self.kind, now));
            if let Some(respects) = again {
                self.peer.tell(&[(sent.key.clone(), respects)], self.registry.now().mono);
            }
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        extra: &[(&'static str, HeaderValue)],
    ) -> Result<Response<tradewind_http::Body>, LinkError> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| LinkError::Malformed)?;
        let headers = request.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(ACCEPT, json.clone());
        headers.insert(CONTENT_TYPE, json);
        if let Some(value) = &self.authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        wire::identify(headers, &self.registry.node, &self.registry.epoch);
        for (name, value) in extra {
            headers.insert(*name, value.clone());
        }
        let answer = self.client.send(&self.peer.url.target, request, &limits()).await;
        answer.map_err(LinkError::Send)
    }
}

/// The whole body of an answer.
async fn whole(answer: Response<tradewind_http::Body>) -> Result<Bytes, LinkError> {
    collect(answer.into_body(), ANSWER_BYTES_MAX, &limits()).await.map_err(LinkError::Send)
}
