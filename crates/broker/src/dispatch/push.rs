//! One attempt to deliver one message, or several of one lane in one request.

use futures_util::future::join_all;
use tradewind_base::{Rng, fault};
use tradewind_message::batch::{Answered, Answers, BYTES_MAX, FRAME_BYTES_MAX};

use super::Core;
use super::courier::Sent;
use super::lanes::Showed;
use crate::machine::company::{self, Limits};
use crate::machine::delivery::{Cause, Next, Verdict};
use crate::store::{Claimed, Lane, Outcome, Settled, SubscriptionRow, shorten};

/// What an attempt showed of the subscriber.
pub(super) struct Pushed {
    /// By each delivery.
    pub(super) showed: Vec<Showed>,
    /// It did not take several in one request.
    pub(super) apart: bool,
}

/// What of `claimed` goes in one request when a request may have `together` of them.
pub(super) fn companies(claimed: Vec<Claimed>, together: usize) -> Vec<Vec<Claimed>> {
    let (mut able, alone): (Vec<_>, Vec<_>) =
        claimed.into_iter().partition(|it| 1 < together && it.attempt <= company::ATTEMPTS);
    let mut all: Vec<Vec<Claimed>> = alone.into_iter().map(|it| vec![it]).collect();
    // Each next attempt goes rather to another instance than its last.
    able.sort_by(|one, other| one.last_instance.cmp(&other.last_instance));
    let limits = Limits { events: together, bytes: BYTES_MAX };
    for same in able.chunk_by(|one, other| one.last_instance == other.last_instance) {
        let sizes: Vec<_> = same.iter().map(|it| it.data.len() + FRAME_BYTES_MAX).collect();
        let mut rest = same.iter().cloned();
        all.extend(
            company::cut(&sizes, limits).into_iter().map(|it| rest.by_ref().take(it).collect()),
        );
    }
    all
}

impl Core {
    /// Sends claimed deliveries of one lane in one request and writes down what came of each.
    pub(super) async fn push(&self, all: &[Claimed], to: &SubscriptionRow) -> Pushed {
        let mut rng = Rng::from_entropy();
        for it in all {
            fault::point(format_args!("message.{}.claimed", it.topic));
        }
        let (sent, apart) = match all {
            [it] => (vec![self.send(it, to, &mut rng).await], false),
            _ => self.send_together(all, to, &mut rng).await,
        };
        for it in all {
            fault::point(format_args!("message.{}.delivered", it.topic));
        }
        let now = self.clock.now();
        let mut settled = Vec::with_capacity(all.len());
        let mut showed = Vec::with_capacity(all.len());
        let mut off = false;
        for (it, sent) in all.iter().zip(sent) {
            let (verdict, outcome, shows) = self.judge(it, sent);
            let next = self.rules.settle(it.attempt, verdict, now, rng.unit());
            let outcome = Outcome { next, ..outcome };
            self.note(it, to, &outcome);
            off |= next == Next::Dead(Cause::Off);
            settled.push(Settled::of(it, outcome));
            showed.push(shows);
        }
        if off {
            let lane = Lane { subscriber: to.subscriber.clone(), topic: to.topic.clone() };
            if let Err(error) = self.store.unsubscribe(lane, now).await {
                tracing::warn!(error = %error, "subscription not turned off");
            }
        }
        self.settle(settled).await;
        Pushed { showed, apart }
    }

    /// Gives claims back that were not used.
    pub(super) async fn put_back(&self, all: &[Claimed]) {
        let due = self.clock.now();
        let unused = |it: &Claimed| {
            let next = Next::Again { due, attempts: it.attempt.saturating_sub(1) };
            let instance = it.last_instance.clone();
            Settled::of(it, Outcome { next, status: None, error: None, instance })
        };
        self.settle(all.iter().map(unused).collect()).await;
    }

    async fn settle(&self, all: Vec<Settled>) {
        let ids: Vec<_> = all.iter().map(|it| it.key.message).collect();
        if let Err(error) = self.store.settle(all, self.clock.now()).await {
            // The leases run out, and the deliveries are tried again.
            for id in ids {
                tracing::warn!(msg.id = %id, error = %error, "delivery not written down");
            }
        }
    }

    async fn send(&self, it: &Claimed, to: &SubscriptionRow, rng: &mut Rng) -> Sent {
        metrics::counter!("broker_requests_total", "events" => "one").increment(1);
        let request = self.single(it, to, rng);
        self.courier.send(&to.service, it.last_instance.as_deref(), &request).await
    }

    /// What came of each, and whether the subscriber did not take them together.
    async fn send_together(
        &self,
        all: &[Claimed],
        to: &SubscriptionRow,
        rng: &mut Rng,
    ) -> (Vec<Sent>, bool) {
        let Some(request) = self.several(all, to, rng) else {
            return (self.send_each(all, to, rng).await, false);
        };
        metrics::counter!("broker_requests_total", "events" => "several").increment(1);
        // The same for all of them.
        let avoid = all.first().and_then(|it| it.last_instance.as_deref());
        let sent = self.courier.send(&to.service, avoid, &request).await;
        let answers = match &sent {
            Sent::Answer { status: 200, body, .. } => Answers::read(body, all.len()),
            _ => None,
        };
        match (sent, answers) {
            (Sent::Answer { instance, body, .. }, Some(answers)) => {
                let of = |Answered { status, retry_after }| {
                    let (instance, body) = (instance.clone(), body.clone());
                    Sent::Answer { status, retry_after, body, instance }
                };
                (answers.into_iter().map(of).collect(), false)
            }
            (Sent::Answer { status, .. }, None) if !company::is_for_all(status) => {
                let (subscriber, topic) = (&to.subscriber, &to.topic);
                tracing::warn!(subscriber, topic, status, "deliveries not taken together");
                (self.send_each(all, to, rng).await, true)
            }
            (sent, _) => (vec![sent; all.len()], false),
        }
    }

    /// Sends each alone, as it would have been without company.
    async fn send_each(&self, all: &[Claimed], to: &SubscriptionRow, rng: &mut Rng) -> Vec<Sent> {
        join_all(all.iter().map(|it| {
            let mut rng = rng.split();
            async move { self.send(it, to, &mut rng).await }
        }))
        .await
    }

    fn judge(&self, it: &Claimed, sent: Sent) -> (Verdict, Outcome, Showed) {
        // Replaced by the caller.
        let next = Next::Done;
        match sent {
            Sent::Answer { status, retry_after, instance, .. } => {
                let verdict = self.rules.verdict(status, retry_after);
                let showed = if status < 500 { Showed::Alive } else { Showed::Faulty };
                let error = (verdict != Verdict::Ack).then(|| format!("answered {status}"));
                let instance = Some(instance);
                (verdict, Outcome { next, status: Some(status), error, instance }, showed)
            }
            Sent::NoAnswer { error, instance } => {
                let (error, instance) = (Some(shorten(&error)), Some(instance));
                let outcome = Outcome { next, status: None, error, instance };
                (Verdict::Failed(None), outcome, Showed::Faulty)
            }
            Sent::Nothing { error } => {
                let (error, instance) = (Some(shorten(&error)), it.last_instance.clone());
                let outcome = Outcome { next, status: None, error, instance };
                (Verdict::Unreachable, outcome, Showed::Faulty)
            }
        }
    }

    fn note(&self, it: &Claimed, to: &SubscriptionRow, outcome: &Outcome) {
        let word = match outcome.next {
            Next::Done => "acknowledged",
            Next::Again { .. } => "again",
            Next::Dead(_) => "dead",
        };
        metrics::counter!("broker_deliveries_total", "outcome" => word).increment(1);
        let (subscriber, attempt, status) = (&to.subscriber, it.attempt, outcome.status);
        let trace = it.trace.map(|it| format!("{:032x}", it.trace_id()));
        let (topic, error) = (&it.topic, outcome.error.as_deref());
        let id = it.key.message;
        if matches!(outcome.next, Next::Dead(_)) {
            tracing::error!(
                msg.id = %id, subscriber, topic, attempt, status, error, trace, "dead letter"
            );
        } else {
            tracing::debug!(
                msg.id = %id, subscriber, topic, attempt, status, error, trace, word, "delivery"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use tradewind_base::Timestamp;
    use tradewind_message::MessageId;
    use tradewind_message::batch::EVENTS_MAX;
    use tradewind_message::wire::DATA_BYTES_MAX;

    use super::*;
    use crate::store::Key;

    fn claimed(id: u128, attempt: u32, last_instance: Option<&str>, bytes: usize) -> Claimed {
        Claimed {
            key: Key { message: MessageId::from_u128(id), subscriber: "warehouse".into() },
            token: 1,
            attempt,
            last_instance: last_instance.map(str::to_owned),
            topic: "order.placed".into(),
            subject: "k".into(),
            kind: "t".into(),
            source: "order".into(),
            data: "1".repeat(bytes),
            trace: None,
            xid: None,
            committed: Timestamp::from_millis(0),
        }
    }

    fn ids(companies: &[Vec<Claimed>]) -> Vec<Vec<u128>> {
        let id = |it: &Claimed| it.key.message.as_u128();
        companies.iter().map(|it| it.iter().map(id).collect()).collect()
    }

    #[test]
    fn company_is_what_avoids_the_same_instance_and_has_not_failed_often() {
        let all = vec![
            claimed(1, 2, Some("b"), 1),
            claimed(2, 1, None, 1),
            claimed(3, company::ATTEMPTS + 1, None, 1),
            claimed(4, company::ATTEMPTS, None, 1),
            claimed(5, 2, Some("b"), 1),
            claimed(6, 2, Some("a"), 1),
            claimed(7, 1, None, 1),
        ];
        let together = ids(&companies(all.clone(), 32));
        assert_eq!(together, [vec![3], vec![2, 4, 7], vec![6], vec![1, 5]]);
        let pairs = ids(&companies(all.clone(), 2));
        assert_eq!(pairs, [vec![3], vec![2, 4], vec![7], vec![6], vec![1, 5]]);
        assert!(companies(all, 1).iter().all(|it| it.len() == 1), "one at a time");
    }

    #[test]
    fn large_messages_share_the_bytes_of_a_request() {
        let all: Vec<_> = (0..20).map(|id| claimed(id, 1, None, DATA_BYTES_MAX)).collect();
        let companies = companies(all, EVENTS_MAX as usize);
        assert_eq!(companies.iter().map(Vec::len).sum::<usize>(), 20);
        for it in companies {
            let bytes: usize = it.iter().map(|it| it.data.len() + FRAME_BYTES_MAX).sum();
            assert!(bytes <= BYTES_MAX && 6 <= it.len());
        }
    }
}
