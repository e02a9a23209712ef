//! Asking producers how undecided messages ended.

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Uri};
use serde::Deserialize;
use tradewind_base::Rng;
use tradewind_base::id::Xid;
use tradewind_message::wire::{Ask, Ending, Told};

use super::Core;
use super::courier::Sent;
use crate::machine::message::Word;
use crate::store::{Branch, Changed, Question, shorten};

/// How many questions one turn takes at most.
const BATCH: u32 = 16;

/// How a distributed transaction ended, as its initiator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Decision {
    Committed,
    Aborted,
    Undecided,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    decision: Decision,
}

impl Core {
    /// Asks about what is due. What was committed because of it is handed back.
    pub(super) async fn check_back(&self) -> Vec<Changed> {
        let now = self.clock.now();
        let again = now + self.lease;
        let questions = match self.store.questions(now, again, BATCH).await {
            Ok(questions) => questions,
            Err(error) => {
                tracing::warn!(error = %error, "cannot look for undecided messages");
                return Vec::new();
            }
        };
        let asked = join_all(questions.iter().map(|it| self.ask(it))).await;
        asked.into_iter().flatten().collect()
    }

    async fn ask(&self, it: &Question) -> Option<Changed> {
        let told = match it.branch {
            Some((xid, _)) => self.ask_initiator(&it.service, xid).await,
            None => self.ask_producer(it).await,
        };
        let (ending, reason) = told;
        metrics::counter!("broker_checks_total", "answer" => match ending {
            Ending::Committed => "committed",
            Ending::RolledBack => "rolled-back",
            Ending::Unknown => "unknown",
        })
        .increment(1);
        match ending {
            Ending::Committed => self.decided(it, Word::Commit).await,
            Ending::RolledBack => self.decided(it, Word::RollBack).await,
            Ending::Unknown => self.not_known(it, &reason).await,
        }
    }

    async fn decided(&self, it: &Question, word: Word) -> Option<Changed> {
        let now = self.clock.now();
        let id = it.id;
        tracing::info!(msg.id = %id, ?word, checks = it.checks, "message decided by asking");
        let done = match it.branch {
            None => self.store.say(id, word, now).await.map(Some).map_err(|it| it.to_string()),
            Some((xid, branch)) => {
                let at = Branch { xid, branch, initiator: it.service.clone() };
                if word == Word::Commit {
                    self.store.branch_confirm(at, now).await.map_err(|it| it.to_string())
                } else {
                    let done = self.store.branch_cancel(at, now).await;
                    done.map(|()| None).map_err(|it| it.to_string())
                }
            }
        };
        done.unwrap_or_else(|error| {
            tracing::error!(msg.id = %id, ?word, error, "the answer about a message does not fit");
            None
        })
    }

    async fn not_known(&self, it: &Question, reason: &str) -> Option<Changed> {
        let now = self.clock.now();
        let share = Rng::from_entropy().unit();
        let checks = if it.branch.is_some() { self.checks.for_branches() } else { self.checks };
        let Some(pause) = checks.pause(it.checks, share) else {
            tracing::error!(msg.id = %it.id, checks = it.checks, reason, "message parked undecided");
            let done = self.store.say(it.id, Word::GiveUpAsking, now).await;
            if let Err(error) = done {
                tracing::warn!(msg.id = %it.id, error = %error, "message not parked");
            }
            return None;
        };
        tracing::warn!(msg.id = %it.id, checks = it.checks, reason, "message still undecided");
        if let Err(error) = self.store.ask_again(it.id, now + pause, shorten(reason)).await {
            tracing::warn!(msg.id = %it.id, error = %error, "next check not written down");
        }
        None
    }

    async fn ask_producer(&self, it: &Question) -> (Ending, String) {
        let body = serde_json::to_vec(&Ask { id: it.id }).unwrap_or_default();
        let path = it.path.as_deref().unwrap_or("/");
        let sent = self.courier.send(&it.service, None, &json(Method::POST, path, body)).await;
        read(sent, |it: Told| it.state)
    }

    async fn ask_initiator(&self, service: &str, xid: Xid) -> (Ending, String) {
        let path = format!("/tcc/outcome/{xid}");
        let sent = self.courier.send(service, None, &json(Method::GET, &path, Vec::new())).await;
        read(sent, |it: Outcome| match it.decision {
            Decision::Committed => Ending::Committed,
            Decision::Aborted => Ending::RolledBack,
            Decision::Undecided => Ending::Unknown,
        })
    }
}

fn json(method: Method, path: &str, body: Vec<u8>) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::try_from(path).unwrap_or_default();
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}

/// Only a 200 of the expected form is an answer; everything else is "unknown", with the reason.
fn read<T: for<'de> Deserialize<'de>>(
    sent: Sent,
    ending: impl Fn(T) -> Ending,
) -> (Ending, String) {
    let unknown = |why: String| (Ending::Unknown, why);
    match sent {
        Sent::Answer { status: 200, body, .. } => match serde_json::from_slice(&body) {
            Ok(it) => (ending(it), "undecided".to_owned()),
            Err(error) => unknown(format!("the answer cannot be read: {error}")),
        },
        Sent::Answer { status, .. } => unknown(format!("answered {status}")),
        Sent::NoAnswer { error, .. } | Sent::Nothing { error } => unknown(error),
    }
}
