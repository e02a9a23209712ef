//! Metrics of the process, for Prometheus.

use std::fmt;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::process;

/// Upper bounds of the buckets of durations, in seconds: fine where a call inside one machine
/// lies, coarse where only "too slow" matters.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The metrics of this process; there is one set, whatever the number of servers in it.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// The metrics of this process, recorded from the first call on.
    #[must_use]
    pub fn of_process() -> Self {
        static METRICS: OnceLock<Metrics> = OnceLock::new();
        METRICS.get_or_init(Self::install).clone()
    }

    fn install() -> Self {
        let mut builder = PrometheusBuilder::new();
        // Fails only for an empty list of buckets; without them a duration is a summary.
        let suffix = Matcher::Suffix("_seconds".to_owned());
        if let Ok(with_buckets) = PrometheusBuilder::new().set_buckets_for_metric(suffix, &SECONDS)
        {
            builder = with_buckets;
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another recorder of metrics is installed; /metrics will lack most");
        }
        process::describe();
        Self { handle }
    }

    /// The text that Prometheus reads, with the state of the process at this moment.
    #[must_use]
    pub fn render(&self) -> String {
        process::observe();
        self.handle.render()
    }

    /// Moves recorded durations into their buckets; without it they pile up while nobody reads.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
