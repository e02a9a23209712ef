//! Counters and timings of every interface: how often, how well, how fast, and the peak.
//!
//! An interface is a method and the template of its path (`GET /products/{id}`), never the path
//! itself, so their number is bounded by the router; what matches nothing shares one entry, and so
//! does what would exceed [`INTERFACES_MAX`]. Each entry has a lock of its own, held for the few
//! additions of one record. The same numbers go to Prometheus as
//! `tradewind_http_requests_total` and `tradewind_http_request_duration_seconds`.

mod window;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use tradewind_base::Clock;

use window::Window;
pub use window::{Latency, Numbers};

/// The most entries there can be.
pub const INTERFACES_MAX: usize = 256;

/// The name of the entry for what no route matches.
pub const UNMATCHED: &str = "unmatched";

/// The name of the entry for what no longer has room for one of its own.
const OVERFLOW: &str = "other";

/// The interfaces of one service.
pub struct Interfaces {
    service: &'static str,
    clock: Arc<dyn Clock>,
    by_template: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    /// Template, then method: found without building a name.
    entries: HashMap<Box<str>, HashMap<Method, Arc<Entry>>>,
    count: usize,
}

struct Entry {
    name: String,
    window: Mutex<Window>,
    /// One for each status that has been answered.
    answers: Mutex<Vec<(StatusCode, metrics::Counter)>>,
    seconds: metrics::Histogram,
}

/// The numbers of one interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Interface {
    /// The method and the template of the path.
    pub interface: String,
    /// The numbers.
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// The numbers of all interfaces of a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The service.
    pub service: &'static str,
    /// The wall time of the report, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The interfaces by name.
    pub interfaces: Vec<Interface>,
}

impl Interfaces {
    /// No interfaces yet.
    #[must_use]
    pub fn new(service: &'static str, clock: Arc<dyn Clock>) -> Self {
        Self { service, clock, by_template: RwLock::default() }
    }

    /// Counts one answer of the interface `method` `template`, which took `took` from the head of
    /// the request to the head of the answer.
    pub fn record(
        &self,
        method: &Method,
        template: Option<&str>,
        code: StatusCode,
        took: Duration,
    ) {
        let entry = self.entry(method, template);
        let (now, wall) = (self.clock.monotonic(), self.clock.now());
        entry.window.lock().unwrap_or_else(PoisonError::into_inner).record(now, wall, code, took);
        entry.seconds.record(took.as_secs_f64());
        self.count(&entry, code);
    }

    /// Counts for Prometheus; the counter is looked up by its labels only the first time.
    fn count(&self, entry: &Entry, code: StatusCode) {
        let mut answers = entry.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = answers.iter().find(|it| it.0 == code) {
            counter.increment(1);
            return;
        }
        let counter = metrics::counter!(
            "tradewind_http_requests_total",
            "service" => self.service,
            "interface" => entry.name.clone(),
            "code" => code.as_str().to_owned(),
        );
        counter.increment(1);
        answers.push((code, counter));
    }

    /// The numbers at this moment.
    #[must_use]
    pub fn report(&self) -> Report {
        let entries: Vec<Arc<Entry>> = {
            let table = self.by_template.read().unwrap_or_else(PoisonError::into_inner);
            table.entries.values().flat_map(HashMap::values).map(Arc::clone).collect()
        };
        let now = self.clock.monotonic();
        let mut interfaces: Vec<Interface> = entries
            .iter()
            .map(|entry| {
                let window = entry.window.lock().unwrap_or_else(PoisonError::into_inner);
                Interface { interface: entry.name.clone(), numbers: window.numbers(now) }
            })
            .collect();
        interfaces.sort_by(|a, b| a.interface.cmp(&b.interface));
        Report { service: self.service, at_ms: self.clock.now().millis(), interfaces }
    }

    fn entry(&self, method: &Method, template: Option<&str>) -> Arc<Entry> {
        // A client can invent methods and paths; neither may make an entry.
        let standard = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ];
        let (method, template) = match template {
            Some(template) if standard.contains(method) => (method, template),
            _ => (&Method::TRACE, UNMATCHED),
        };
        let found = {
            let table = self.by_template.read().unwrap_or_else(PoisonError::into_inner);
            table.entries.get(template).and_then(|it| it.get(method)).map(Arc::clone)
        };
        found.unwrap_or_else(|| self.insert(method, template))
    }

    fn insert(&self, method: &Method, template: &str) -> Arc<Entry> {
        let mut table = self.by_template.write().unwrap_or_else(PoisonError::into_inner);
        let full = INTERFACES_MAX <= table.count + 1;
        let (method, template) = if full { (&Method::TRACE, OVERFLOW) } else { (method, template) };
        let Table { entries, count } = &mut *table;
        let methods = entries.entry(template.into()).or_default();
        let entry = methods.entry(method.clone()).or_insert_with(|| {
            *count += 1;
            Arc::new(self.new_entry(method, template))
        });
        Arc::clone(entry)
    }

    fn new_entry(&self, method: &Method, template: &str) -> Entry {
        let name = if *method == Method::TRACE {
            template.to_owned()
        } else {
            format!("{method} {template}")
        };
        let seconds = metrics::histogram!(
            "tradewind_http_request_duration_seconds",
            "service" => self.service,
            "interface" => name.clone(),
        );
        let window = Mutex::new(Window::new(self.clock.monotonic()));
        Entry { name, window, answers: Mutex::default(), seconds }
    }
}

impl fmt::Debug for Interfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interfaces").field("service", &self.service).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tradewind_base::ManualClock;

    /// R8.1
    #[test]
    fn interfaces_are_told_apart_by_method_and_template() {
        let interfaces = Interfaces::new("order", Arc::new(ManualClock::new()));
        let took = Duration::from_millis(3);
        for (method, template) in [
            (Method::GET, Some("/orders/{id}")),
            (Method::POST, Some("/orders/{id}")),
            (Method::GET, Some("/orders/{id}")),
            (Method::GET, None),
            (Method::from_bytes(b"BREW").unwrap(), Some("/orders/{id}")),
        ] {
            interfaces.record(&method, template, StatusCode::OK, took);
        }
        let report = interfaces.report();
        let counts: Vec<_> =
            report.interfaces.iter().map(|it| (it.interface.as_str(), it.numbers.count)).collect();
        assert_eq!(counts, [("GET /orders/{id}", 2), ("POST /orders/{id}", 1), ("unmatched", 2)]);
    }

    #[test]
    fn their_number_is_bounded_and_none_is_lost() {
        let interfaces = Interfaces::new("order", Arc::new(ManualClock::new()));
        for number in 0..1000 {
            let template = format!("/{number}");
            interfaces.record(&Method::GET, Some(&template), StatusCode::OK, Duration::ZERO);
        }
        let report = interfaces.report();
        assert_eq!(report.interfaces.len(), INTERFACES_MAX);
        assert_eq!(report.interfaces.iter().map(|it| it.numbers.count).sum::<u64>(), 1000);
    }
}
