//! How an engine is made.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tradewind_base::id::Xid;
use tradewind_base::{Clock, Rng, Tasks};
use tradewind_sql::{Database, Transaction};

use super::lease::Held;
use super::{Engine, Inner, driver, own};
use crate::Peers;
use crate::machine::backoff::Backoff;
use crate::participant::{self, BranchError};

/// Confirms or cancels the initiator's own branch, inside the local transaction that decides.
pub type Hook =
    Arc<dyn Fn(&mut Transaction<'_>, Xid, &Value) -> Result<(), BranchError> + Send + Sync>;

/// The hooks by the names of transactions.
#[derive(Clone, Default)]
pub(super) struct Hooks {
    pub(super) commit: BTreeMap<&'static str, Hook>,
    pub(super) abort: BTreeMap<&'static str, Hook>,
}

/// The bounds of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Between the end of trying and the deadline: time to decide.
    pub decide: Duration,
    /// The longest time for the answer of one Confirm or Cancel.
    pub answer: Duration,
    /// Between attempts on a branch in the second phase.
    pub backoff: Backoff,
    /// After a branch's "not yet".
    pub not_yet: Duration,
    /// How long a shard stays with an instance that says nothing.
    pub lease: Duration,
    /// How often the log is looked through for what is due.
    pub poll: Duration,
    /// How long finished transactions are kept; never shorter than the longest transaction.
    pub keep: Duration,
    /// Most transactions that are driven at a time.
    pub at_once: usize,
    /// How own branches of transactions that a coordinator decides are kept and asked about.
    pub own: participant::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            decide: Duration::from_secs(1),
            answer: Duration::from_secs(10),
            backoff: Backoff::default(),
            not_yet: Duration::from_millis(200),
            lease: Duration::from_secs(5),
            poll: Duration::from_millis(250),
            keep: Duration::from_secs(24 * 3600),
            at_once: 256,
            // It is the one who began that asks, and somebody may be waiting for the answer.
            own: participant::Settings {
                resolve_after: Duration::from_secs(1),
                ..participant::Settings::default()
            },
        }
    }
}

/// An engine in the making.
pub struct Setup {
    database: Database,
    clock: Arc<dyn Clock>,
    peers: Peers,
    settings: Settings,
    hooks: Hooks,
    coordinator: Option<Arc<str>>,
}

/// Transactions that may wait to be handed over; others are found in the log.
const WAKE_MAX: usize = 1024;

impl Setup {
    /// An engine over the database that holds [the log](super::migrations), calling through
    /// `peers` in the name of the initiating service.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>, peers: Peers) -> Self {
        let (settings, hooks) = (Settings::default(), Hooks::default());
        Self { database, clock, peers, settings, hooks, coordinator: None }
    }

    /// Other bounds.
    #[must_use]
    pub const fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// How the own branch of transactions named `name` is cancelled, from the payload it was
    /// declared with. It runs inside the local transaction that aborts, perhaps in another
    /// instance, perhaps after a restart.
    #[must_use]
    pub fn on_abort<F>(mut self, name: &'static str, cancel: F) -> Self
    where
        F: Fn(&mut Transaction<'_>, Xid, &Value) -> Result<(), BranchError> + Send + Sync + 'static,
    {
        self.hooks.abort.insert(name, Arc::new(cancel));
        self
    }

    /// How the own branch of transactions named `name` is confirmed, with the same payload. It runs
    /// exactly once, inside the local transaction that commits: [`Engine::commit`], or, when a
    /// coordinator decides and was faster, the coordinator's Confirm.
    ///
    /// With it the database must hold [the fence](crate::fence::migrations) too, and
    /// [`Engine::mount`] has the endpoints of the own branch: this service can be moved between the
    /// embedded engine and a coordinator at any restart, and what had begun the other way ends as
    /// it began. The fence is then this engine's alone: no
    /// [`Participants`](crate::Participants) of the same database may be started beside it.
    #[must_use]
    pub fn on_commit<F>(mut self, name: &'static str, confirm: F) -> Self
    where
        F: Fn(&mut Transaction<'_>, Xid, &Value) -> Result<(), BranchError> + Send + Sync + 'static,
    {
        self.hooks.commit.insert(name, Arc::new(confirm));
        self
    }

    /// Lets the coordinator that is found under the name `service` decide and drive what begins
    /// from now on. Only for transactions whose names have both hooks.
    #[must_use]
    pub fn coordinator(mut self, service: &str) -> Self {
        self.coordinator = Some(service.into());
        self
    }

    /// Starts the engine; `tasks` own its background work and end it. Must be called within a
    /// tokio runtime.
    #[must_use]
    pub fn start(self, tasks: &Tasks) -> Engine {
        let Self { database, clock, peers, settings, hooks, coordinator } = self;
        let own = own::participants(&database, &clock, &settings, &hooks);
        if !hooks.commit.is_empty() {
            own.start(peers.clone(), tasks);
        }
        let mut rng = Rng::from_entropy();
        let owner = format!("{:032x}", rng.u128());
        let (wake, woken) = mpsc::channel(WAKE_MAX);
        let engine = Engine {
            inner: Arc::new(Inner {
                database,
                clock,
                peers,
                settings,
                hooks: Arc::new(hooks),
                own,
                coordinator,
                owner,
                rng: Mutex::new(rng),
                held: Mutex::new(Held::new()),
                running: Mutex::new(HashSet::new()),
                finished: Mutex::new(Vec::new()),
                commits: AtomicBool::new(false),
                wake,
                #[cfg(any(test, feature = "faults"))]
                faults: super::faults::Faults::default(),
            }),
        };
        driver::start(&engine.inner, woken, tasks);
        engine
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("peers", &self.peers)
            .field("settings", &self.settings)
            .field("coordinator", &self.coordinator)
            .field("hooks", &self.hooks.abort.keys())
            .finish_non_exhaustive()
    }
}
