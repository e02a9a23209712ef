//! What every server starts with: configuration, telemetry, HTTP edge, health, ordered shutdown.
//!
//! - [`config`]: settings from defaults, file, environment and flags; every mistake at once.
//! - [`telemetry`]: structured logs on standard error and metrics for Prometheus.
//! - [`edge`]: the HTTP server that a router is put into. It bounds everything a client can make
//!   large, slow or many, opens the context of each request and answers every refusal with a
//!   problem document.
//! - [`interfaces`]: counters and timings of each interface, live at `/interfaces`.
//! - [`extract`] and [`answer`]: what handlers take and give.
//! - [`health`]: what is up and what is not, and why.
//! - [`lifecycle`]: when to stop, and what the servers of one estate share.
//! - [`runtime`]: the threads that run tasks.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use tradewind_base::{Problem, SystemClock, Tasks};
//! use tradewind_service::axum::{Router, http::StatusCode, routing::get};
//! use tradewind_service::edge::{EdgeConfig, Server};
//! use tradewind_service::{Answer, Health, Json, Path};
//!
//! async fn double(Path(number): Path<u32>) -> Answer<u32> {
//!     let Some(doubled) = number.checked_mul(2) else {
//!         let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "demo.too-large", "");
//!         return Err(problem.field("path:number", "must fit in 31 bits").into());
//!     };
//!     Ok(Json(doubled))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let router = Router::new().route("/double/{number}", get(double));
//! let server = Server::bind(EdgeConfig::new("127.0.0.1:0".parse()?)).await?;
//! let (clock, tasks) = (Arc::new(SystemClock::new()), Tasks::new());
//! let serving = server.serve("demo", router, Health::new(), None, clock, &tasks);
//! // … until told to stop
//! let drained = serving.drain(Duration::from_secs(5)).await;
//! assert_eq!(drained.cut, 0);
//! # Ok(())
//! # }
//! ```

pub mod answer;
pub mod config;
pub mod edge;
pub mod extract;
pub mod health;
pub mod interfaces;
pub mod lifecycle;
pub mod runtime;
pub mod telemetry;

pub use answer::{Answer, Failure};
pub use axum;
pub use extract::{Caller, Json, MaybeUser, Path, Query, User};
pub use health::{Component, Health};
pub use lifecycle::{AdminToken, Keys, Shared, SharedConfig, Stop};
