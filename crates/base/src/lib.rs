//! What every other crate of Tradewind stands on: ids, time, randomness, owned tasks, ordered
//! shutdown, the context of a request, sealed header values and problem documents.
//!
//! Nothing here opens a socket, knows a web framework or touches a database. Time and randomness
//! are objects that are handed in ([`Clock`], [`Rng`]), so that protocol machines can be driven
//! through any history by a test.
//!
//! ```
//! use tradewind_base::{Clock, ManualClock, Rng, id::RequestId};
//! use std::time::Duration;
//!
//! let clock = ManualClock::new();
//! let before = clock.monotonic();
//! clock.advance(Duration::from_secs(3));
//! assert_eq!(clock.monotonic() - before, Duration::from_secs(3));
//!
//! let id = RequestId::generate(clock.now(), &mut Rng::seeded(7));
//! assert!(id.to_string().starts_with("req_"));
//! ```

pub mod context;
pub mod fault;
pub mod id;
pub mod identity;
pub mod problem;
pub mod rng;
pub mod seal;
pub mod shutdown;
pub mod tasks;
pub mod time;

pub use context::{Context, Deadline, TraceContext};
pub use problem::Problem;
pub use rng::Rng;
pub use secrecy::{ExposeSecret, SecretString};
pub use tasks::Tasks;
pub use time::{Clock, ManualClock, Monotonic, SystemClock, Timestamp};
