//! The routes in force: an immutable snapshot, swapped whole.
//!
//! A request takes the snapshot once and keeps it to its end, so a change never tears one. What
//! must outlive a change (counters, the turn among instances, the retry budget) is carried over by
//! the route's id. A row that was good and is now nonsense keeps serving as it was: a typo in a
//! table that is edited by hand must not take a route down. It is reported as such.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::Serialize;
use tradewind_discovery::{Discovery, ServiceName, View};
use tradewind_http::{Scheme, Target};

use crate::machine::retry::Budget;
use crate::machine::route::{self, Rejected, Route, RouteRow, Table, Upstream};
use crate::stats::{RouteNumbers, RouteStats};

/// Where the instances of a route come from.
#[derive(Clone, Debug)]
pub(crate) enum Instances {
    /// Whoever is registered.
    Service(View),
    /// One address.
    Fixed(Target),
}

/// What a route needs beside its definition.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) instances: Instances,
    pub(crate) turn: AtomicUsize,
    pub(crate) budget: Mutex<Budget>,
    pub(crate) stats: Arc<RouteStats>,
}

/// The routes in force.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Counts the changes since the gateway started.
    pub(crate) revision: u64,
    table: Table,
    live: Vec<Arc<Live>>,
    pub(crate) reports: Vec<Report>,
}

/// A row that cannot be served as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// What is wrong.
    #[serde(flatten)]
    pub(crate) rejected: Rejected,
    /// Whether the row still serves as it was before.
    pub(crate) kept_previous: bool,
}

impl Snapshot {
    /// The route for a normalised path.
    pub(crate) fn find(&self, path: &str) -> Option<(&Arc<Route>, &Arc<Live>)> {
        let (at, route) = self.table.find(path)?;
        self.live.get(at).map(|live| (route, live))
    }

    /// All routes in force.
    pub(crate) fn routes(&self) -> &[Arc<Route>] {
        self.table.routes()
    }
}

#[derive(Default)]
struct Memory {
    /// The last good form of each row, by id.
    good: BTreeMap<String, RouteRow>,
    stats: BTreeMap<String, Arc<RouteStats>>,
}

/// Holds the snapshot and makes new ones.
pub(crate) struct Routing {
    snapshot: ArcSwap<Snapshot>,
    discovery: Discovery,
    memory: Mutex<Memory>,
}

impl fmt::Debug for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revision = self.snapshot.load().revision;
        f.debug_struct("Routing").field("revision", &revision).finish_non_exhaustive()
    }
}

impl Routing {
    pub(crate) fn new(discovery: Discovery) -> Self {
        Self { snapshot: ArcSwap::default(), discovery, memory: Mutex::default() }
    }

    /// The routes in force now.
    pub(crate) fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub(crate) const fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts rows in force; `unreadable` are rows whose columns could not even be read.
    /// Answers the rows that serve now.
    pub(crate) fn apply(&self, rows: &[RouteRow], unreadable: &[Rejected]) -> Vec<RouteRow> {
        let mut memory = self.memory();
        let (effective, mut reports) = memory.settle(rows, unreadable);
        let compiled = route::compile(&effective);
        reports.extend(
            compiled.rejected.into_iter().map(|rejected| Report { rejected, kept_previous: false }),
        );
        for report in &reports {
            let Rejected { id, field, reason } = &report.rejected;
            tracing::warn!(route = id, field, reason, kept = report.kept_previous, "route refused");
        }
        let before = self.snapshot.load();
        let old = before.table.routes().iter().zip(&before.live);
        let old: HashMap<&str, _> = old.map(|(route, live)| (&*route.id, (route, live))).collect();
        let routes = compiled.table.routes();
        let live = routes.iter().map(|it| self.live(it, &old, &mut memory)).collect();
        if STATS_MAX < memory.stats.len() {
            let in_force: HashSet<&str> = routes.iter().map(|it| &*it.id).collect();
            memory.stats.retain(|id, _| in_force.contains(&**id));
        }
        let revision = before.revision + 1;
        let count = compiled.table.routes().len();
        self.snapshot.store(Arc::new(Snapshot { revision, table: compiled.table, live, reports }));
        tracing::info!(revision, count, "routes in force");
        let gauge = u32::try_from(revision).unwrap_or(u32::MAX);
        metrics::gauge!("gw_config_revision").set(f64::from(gauge));
        effective
    }

    fn live(
        &self,
        route: &Route,
        before: &HashMap<&str, (&Arc<Route>, &Arc<Live>)>,
        memory: &mut Memory,
    ) -> Arc<Live> {
        if let Some((old, live)) = before.get(&*route.id)
            && old.upstream == route.upstream
        {
            return Arc::clone(live);
        }
        let label = route.service_label();
        let stats = match memory.stats.get(&*route.id) {
            Some(stats) => Arc::clone(stats),
            None => Arc::new(RouteStats::new(&route.id, label)),
        };
        memory.stats.insert(route.id.to_string(), Arc::clone(&stats));
        Arc::new(Live {
            instances: self.instances(&route.upstream),
            turn: AtomicUsize::new(0),
            budget: Mutex::new(Budget::new()),
            stats,
        })
    }

    fn instances(&self, upstream: &Upstream) -> Instances {
        match upstream {
            Upstream::Service(name) => match ServiceName::parse(name) {
                Ok(name) => Instances::Service(self.discovery.view(&name)),
                Err(_) => Instances::Fixed(nowhere()),
            },
            Upstream::Url(url) => {
                let scheme = if url.secure { Scheme::Https } else { Scheme::Http };
                let target = Target::new(scheme, &url.host, url.port);
                Instances::Fixed(target.unwrap_or_else(|_| nowhere()))
            }
        }
    }

    /// The numbers of all routes that ever served, by id.
    pub(crate) fn numbers(&self, now: tradewind_base::Monotonic) -> Vec<RouteNumbers> {
        self.memory().stats.values().map(|it| it.numbers(now)).collect()
    }
}

/// Numbers of routes that are gone are kept up to this many, so that a route that comes back goes
/// on counting, and a table that is rewritten for ever does not fill the memory.
const STATS_MAX: usize = 4096;

/// Where a name leads that the row check let pass and the client refuses: nowhere.
fn nowhere() -> Target {
    Target::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)))
}

impl Memory {
    /// Replaces rows that became nonsense by their last good form and remembers the good ones.
    fn settle(
        &mut self,
        rows: &[RouteRow],
        unreadable: &[Rejected],
    ) -> (Vec<RouteRow>, Vec<Report>) {
        let mut effective = Vec::with_capacity(rows.len());
        let mut reports = Vec::new();
        let mut good = BTreeMap::new();
        let mut keep = |rejected: Rejected, effective: &mut Vec<RouteRow>| {
            let previous = self.good.get(&rejected.id).cloned();
            reports.push(Report { kept_previous: previous.is_some(), rejected });
            if let Some(row) = previous {
                good.insert(row.id.clone(), row.clone());
                effective.push(row);
            }
        };
        let mut fine = Vec::new();
        for row in rows {
            match route::check(row) {
                Err(rejected) if row.enabled => keep(rejected, &mut effective),
                _ => fine.push(row.clone()),
            }
        }
        for rejected in unreadable {
            keep(rejected.clone(), &mut effective);
        }
        for row in fine {
            if row.enabled {
                good.insert(row.id.clone(), row.clone());
            }
            effective.push(row);
        }
        self.good = good;
        (effective, reports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing() -> Routing {
        Routing::new(Discovery::fixed(Vec::new()))
    }

    fn serves(routing: &Routing, path: &str) -> Option<String> {
        routing.load().find(path).map(|(it, _)| it.id.to_string())
    }

    #[test]
    fn a_row_that_became_nonsense_serves_as_before_and_is_reported() {
        let routing = routing();
        let good = RouteRow::service("a", "/a/**", "order");
        routing.apply(std::slice::from_ref(&good), &[]);
        let bad = RouteRow { path: "oops".into(), ..good.clone() };
        let new_bad = RouteRow { id: "b".into(), ..bad.clone() };
        routing.apply(&[bad, new_bad], &[]);
        assert_eq!(serves(&routing, "/a/x").as_deref(), Some("a"));
        let reports = routing.load().reports.clone();
        let seen: Vec<_> = reports.iter().map(|it| (&*it.rejected.id, it.kept_previous)).collect();
        assert_eq!(seen, [("a", true), ("b", false)]);
        routing.apply(&[], &[]);
        assert_eq!(serves(&routing, "/a/x"), None, "a deleted row is gone");
    }

    #[test]
    fn switching_a_row_off_takes_it_out_even_if_it_is_nonsense() {
        let routing = routing();
        let good = RouteRow::service("a", "/a/**", "order");
        routing.apply(std::slice::from_ref(&good), &[]);
        routing.apply(&[RouteRow { path: "oops".into(), enabled: false, ..good }], &[]);
        assert_eq!(serves(&routing, "/a/x"), None);
    }

    #[test]
    fn numbers_of_routes_that_are_gone_are_dropped_when_there_are_too_many() {
        let routing = routing();
        let row = |id: usize| RouteRow::service(&format!("r{id}"), &format!("/r{id}/**"), "order");
        let rows: Vec<_> = (0..STATS_MAX).map(row).collect();
        routing.apply(&rows, &[]);
        assert_eq!(routing.memory().stats.len(), STATS_MAX);
        routing.apply(&[row(7), row(STATS_MAX)], &[]);
        let kept: Vec<_> = routing.memory().stats.keys().cloned().collect();
        assert_eq!(kept, ["r4096", "r7"]);
    }

    #[test]
    fn counters_and_turns_survive_a_change_elsewhere() {
        let routing = routing();
        let a = RouteRow::service("a", "/a/**", "order");
        routing.apply(std::slice::from_ref(&a), &[]);
        let before = routing.load();
        routing.apply(&[a.clone(), RouteRow::service("b", "/b/**", "order")], &[]);
        let after = routing.load();
        let (Some((_, old)), Some((_, new))) = (before.find("/a/x"), after.find("/a/x")) else {
            panic!("both serve");
        };
        assert!(Arc::ptr_eq(old, new));
        routing.apply(&[RouteRow::service("a", "/a/**", "points")], &[]);
        let moved = routing.load();
        let (_, live) = moved.find("/a/x").unwrap();
        assert!(!Arc::ptr_eq(new, live) && Arc::ptr_eq(&new.stats, &live.stats));
        assert_eq!(moved.revision, 3);
    }
}
