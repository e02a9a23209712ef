//! The declared client of the broker, and subscriptions declared at the start.

use std::time::Duration;

use serde_json::Value;
use tradewind_base::{Rng, Tasks};
use tradewind_call::CallError;

use crate::batch::EVENTS_MAX;
use crate::wire::{Half, MessageId, Publish, PublishAll, Published, Receipt, Subscribe};

/// The broker, as a producer and a subscriber see it.
#[tradewind_call::client(service = "broker", crate = "tradewind_call")]
pub trait Broker {
    /// Stores a message and sends it out. A repeat with the same id changes nothing.
    #[post("/messages/v1/publish", idempotent)]
    async fn publish(&self, #[json] message: &Publish) -> Result<Receipt, CallError>;

    /// Stores several messages and sends them out.
    #[post("/messages/v1/publish-all", idempotent)]
    async fn publish_all(&self, #[json] messages: &PublishAll) -> Result<Published, CallError>;

    /// Stores a half message. A repeat with the same id changes nothing.
    #[post("/messages/v1/half", idempotent)]
    async fn prepare(&self, #[json] message: &Half) -> Result<Receipt, CallError>;

    /// The local transaction is durable: send the message out.
    #[post("/messages/v1/half/{id}/commit", idempotent)]
    async fn commit(&self, #[path] id: &MessageId) -> Result<Receipt, CallError>;

    /// The local transaction did not happen: discard the message.
    #[post("/messages/v1/half/{id}/rollback", idempotent)]
    async fn roll_back(&self, #[path] id: &MessageId) -> Result<Receipt, CallError>;

    /// Subscribes a service to a topic, durably.
    #[put("/messages/v1/subscriptions/{subscriber}/{topic}")]
    async fn subscribe(
        &self,
        #[path] subscriber: &str,
        #[path] topic: &str,
        #[json] subscription: &Subscribe,
    ) -> Result<Value, CallError>;
}

/// One subscription of a service, declared in its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Who consumes; each subscriber of a topic gets every message once.
    pub subscriber: String,
    /// The topic.
    pub topic: String,
    /// The service whose instances get the deliveries.
    pub service: String,
    /// The path the deliveries are sent to.
    pub path: String,
    /// The most deliveries that one request may have; 0 for a subscriber that takes them one by
    /// one.
    pub together: u32,
}

/// The shortest and the longest pause between two attempts to declare a subscription.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

impl Subscription {
    /// A service's subscription under its own name, taken by a [`crate::Consumer`]: which takes
    /// many deliveries together.
    #[must_use]
    pub fn new(service: &str, topic: &str, path: &str) -> Self {
        Self {
            subscriber: service.to_owned(),
            topic: topic.to_owned(),
            service: service.to_owned(),
            path: path.to_owned(),
            together: EVENTS_MAX,
        }
    }

    /// Declares all of `subscriptions` in the background, until the broker has taken each. They
    /// are durable there, so this matters for the first start only; messages committed before it
    /// wait parked.
    pub fn declare(broker: BrokerClient, subscriptions: Vec<Self>, tasks: &Tasks) {
        tasks.spawn("declare subscriptions", |cancel| async move {
            let mut rng = Rng::from_entropy();
            for it in subscriptions {
                let mut pause = PAUSE.0;
                let (service, path) = (it.service.clone(), it.path.clone());
                let mut wanted = Subscribe { service, path, together: it.together };
                loop {
                    let asked = tokio::select! {
                        () = cancel.cancelled() => return,
                        asked = broker.subscribe(&it.subscriber, &it.topic, &wanted) => asked,
                    };
                    let Err(error) = asked else { break };
                    if wanted.together != 0 && invalid(&error) {
                        // An older broker, which knows of single deliveries only.
                        wanted.together = 0;
                        continue;
                    }
                    tracing::warn!(
                        subscriber = it.subscriber,
                        topic = it.topic,
                        error = tradewind_service::answer::chain(&error),
                        "subscription not declared yet"
                    );
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = tokio::time::sleep(rng.jitter(pause, 0.5)) => {}
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
                tracing::info!(subscriber = it.subscriber, topic = it.topic, "subscribed");
            }
        });
    }
}

fn invalid(error: &CallError) -> bool {
    let status = error.status();
    status.is_some_and(|it| matches!(it.as_u16(), 400 | 422))
}
