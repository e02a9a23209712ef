//! The services that are called: one channel each, made when first needed.

mod together;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tradewind_base::Context;
use tradewind_base::id::Xid;
use tradewind_call::{Balance, CallError, Channel, Client, Identity, Policy, Request};
use tradewind_discovery::{Discovery, ServiceName, ServiceNameError};

use crate::machine::asked::Asked;
use crate::wire;
use crate::wire::coordinator::View;
use together::Lane;

/// Calls services by name. Clones share the channels.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    discovery: Discovery,
    client: Client,
    identity: Identity,
    policy: Policy,
    channels: Mutex<HashMap<ServiceName, Channel>>,
    /// Of each action of each service.
    lanes: Mutex<HashMap<(String, String), Arc<Lane>>>,
}

/// Most services that are followed; more than any estate's participants.
const PEERS_MAX: usize = 256;

/// Most actions whose calls travel together.
const LANES_MAX: usize = 4096;

/// Why a service cannot be called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Its name is none.
    #[error("`{service}` is no service name")]
    Name {
        /// The text.
        service: String,
        /// What is wrong.
        #[source]
        source: ServiceNameError,
    },
    /// Too many different services.
    #[error("more than {PEERS_MAX} services")]
    TooMany,
    /// The call failed.
    #[error("the call failed")]
    Call(#[from] CallError),
    /// The call that carried it with others failed.
    #[error("the call with others failed")]
    Together(#[source] Arc<Self>),
}

impl Peers {
    /// Peers found by `discovery` and called as `identity`. A call is repeated by whoever decided
    /// on it, with backoff, so a channel itself retries only on another instance.
    #[must_use]
    pub fn new(discovery: Discovery, client: Client, identity: Identity) -> Self {
        // Calls of one action travel together, and at a participant they share a commit with those
        // that came just before.
        let balance = Balance::LeastOutstanding;
        let policy = Policy { balance, read: Duration::from_secs(5), ..Policy::default() };
        Self(Arc::new(Inner {
            discovery,
            client,
            identity,
            policy,
            channels: Mutex::new(HashMap::new()),
            lanes: Mutex::new(HashMap::new()),
        }))
    }

    /// The name of the service that calls.
    #[must_use]
    pub fn own_name(&self) -> &str {
        self.0.identity.service().as_str()
    }

    /// The channel to a service. Following it begins with the first call of this.
    ///
    /// # Errors
    /// When the name is none, or there are too many.
    pub fn channel(&self, service: &str) -> Result<Channel, PeerError> {
        let name = ServiceName::parse(service)
            .map_err(|source| PeerError::Name { service: service.to_owned(), source })?;
        let mut channels = self.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&name) {
            return Ok(channel.clone());
        }
        if PEERS_MAX <= channels.len() {
            return Err(PeerError::TooMany);
        }
        let Inner { discovery, client, identity, policy, .. } = &*self.0;
        let channel = Channel::new(
            discovery,
            client.clone(),
            name.clone(),
            policy.clone(),
            Some(identity.clone()),
        );
        channels.insert(name, channel.clone());
        Ok(channel)
    }

    /// Where the Trys and Confirms of an action wait; none when there are too many actions, whose
    /// calls go alone then.
    fn lane(&self, service: &str, action: &str) -> Option<Arc<Lane>> {
        let mut lanes = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (service.to_owned(), action.to_owned());
        if LANES_MAX <= lanes.len() && !lanes.contains_key(&key) {
            return None;
        }
        Some(Arc::clone(lanes.entry(key).or_insert_with(|| Arc::new(Lane::new()))))
    }

    /// Sends one of the calls of a branch that answer nothing but that they are done.
    pub(crate) async fn branch<B: Serialize + Sync>(
        &self,
        service: &str,
        action: &str,
        step: Step,
        (xid, body): (Xid, &B),
        limit: Duration,
    ) -> Result<(), PeerError> {
        let channel = self.channel(service)?;
        let request = step.request(action, body, limit);
        let context = Context { xid: Some(xid), ..Context::current() };
        Ok(Box::pin(context.scope(channel.run(request))).await?)
    }

    /// Closes a branch: whether it is tried. If it is not, it never will be.
    pub(crate) async fn close(
        &self,
        (service, action): (&str, &str),
        body: &wire::Second,
        limit: Duration,
    ) -> Result<bool, PeerError> {
        let channel = self.channel(service)?;
        let request = Step::Close.request(action, body, limit);
        let context = Context { xid: Some(body.xid), ..Context::current() };
        let closed: wire::Closed = Box::pin(context.scope(channel.call(request))).await?;
        Ok(closed.tried)
    }

    /// Asks a coordinator for one of the three things that an initiator needs of it.
    pub(crate) async fn coordinator<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        service: &str,
        xid: Xid,
        (asked, body): (Asked, &B),
        limit: Duration,
    ) -> Result<T, PeerError> {
        let (endpoint, tail) = match asked {
            Asked::Trys => ("/coordinator/v1/transactions/{xid}/try", "/try"),
            Asked::Commit => ("/coordinator/v1/transactions/{xid}/commit", "/commit"),
            Asked::Abort => ("/coordinator/v1/transactions/{xid}/abort", "/abort"),
        };
        // Each of them may be repeated: the xid says what it is about.
        let request = Request::new(Method::POST, endpoint)
            .literal("/coordinator/v1/transactions/")
            .segment("xid", &xid)
            .literal(tail)
            .json(body)
            .idempotent()
            .timeout(limit);
        let channel = self.channel(service)?;
        let context = Context { xid: Some(xid), ..Context::current() };
        Ok(Box::pin(context.scope(channel.call(request))).await?)
    }

    /// Asks a coordinator how far a transaction of this service is.
    pub(crate) async fn progress(&self, service: &str, xid: Xid) -> Result<View, PeerError> {
        let request = Request::new(Method::GET, "/coordinator/v1/transactions/{xid}")
            .literal("/coordinator/v1/transactions/")
            .segment("xid", &xid);
        self.get(service, request).await
    }

    /// Asks the initiating service what was decided.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn outcome(&self, initiator: &str, xid: Xid) -> Result<wire::Decision, PeerError> {
        let request = Request::new(Method::GET, "/tcc/outcome/{xid}")
            .literal("/tcc/outcome/")
            .segment("xid", &xid);
        let outcome: wire::Outcome = self.get(initiator, request).await?;
        Ok(outcome.decision)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        service: &str,
        request: Request,
    ) -> Result<T, PeerError> {
        let channel = self.channel(service)?;
        Ok(Box::pin(channel.call(request)).await?)
    }
}

/// One of the calls of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Try,
    Confirm,
    Cancel,
    Close,
}

impl Step {
    fn request<B: Serialize>(self, action: &str, body: &B, limit: Duration) -> Request {
        let (endpoint, tail) = match self {
            Self::Try => ("/tcc/{action}/try", "/try"),
            Self::Confirm => ("/tcc/{action}/confirm", "/confirm"),
            Self::Cancel => ("/tcc/{action}/cancel", "/cancel"),
            Self::Close => ("/tcc/{action}/close", "/close"),
        };
        // The fence makes each of them idempotent.
        Request::new(Method::POST, endpoint)
            .literal("/tcc/")
            .segment("action", &action)
            .literal(tail)
            .json(body)
            .idempotent()
            .timeout(limit)
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("as", &self.own_name()).finish_non_exhaustive()
    }
}
