//! Open-loop load: arrivals on a schedule, latency from the scheduled instant.
//!
//! A *closed* loop (so many workers, each sending its next request after the last answer) cannot
//! show an overload: as soon as the server is slow, the workers ask less. The buyers of a shop do
//! not. Here requests arrive when the [`Plan`] says so, whatever the server does, and a response
//! time counts from the instant the request was *due*; so a server that stands still for a second
//! is charged for every request that would have come in that second (no coordinated omission).
//!
//! - **[`machine`]** is the schedule and the accounting: synchronous, time as an argument.
//! - **[`fn@run`]** drives it: it starts what is due, as long as fewer than
//!   [`Plan::in_flight_max`] requests are in flight; the rest waits, at most
//!   [`Plan::queue_max`]; what comes then is dropped and counted. Nothing is ever left out of
//!   the sum: `offered = served + failed + dropped + unfinished`.
//! - **[`Work`]** is one request. [`http::Target`] is the one of `tradewind load`.
//! - **[`Report`]** has two times for each request: *response*, from the scheduled instant, which
//!   is what the buyer sees, and *service*, from the instant it was sent.
//!
//! Limits: one process, one task that starts the requests; it wakes by a timer of the kernel, some
//! tens of microseconds late. How late it really was is in [`Report::lag`]: trust no percentile
//! below that.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use tradewind_load::{Outcome, Plan, Work, run};
//!
//! struct Nothing;
//! impl Work for Nothing {
//!     async fn once(&self, _sequence: u64) -> Outcome {
//!         Outcome::Ok
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let plan = Plan::flat(1000.0, Duration::from_millis(50));
//! let report = run(&plan, Arc::new(Nothing), |_tick| {}).await;
//! assert_eq!((report.offered, report.served), (50, 50));
//! # });
//! ```

pub mod http;
pub mod machine;
mod pace;
mod plan;
mod report;
mod run;
pub mod svg;
pub mod text;

pub use plan::{Arrivals, Plan, PlanError, Stage, StageError, parse_duration, parse_rate};
pub use report::{Histogram, Report, Tick};
pub use run::{Outcome, Work, run, run_until};
