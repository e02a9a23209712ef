//! A service with a ceiling: so many requests a second, one after the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// What the service can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Requests per second.
    pub(crate) rate: f64,
    /// Most requests that may wait for their turn; more are refused at once with 503.
    pub(crate) queue: usize,
}

/// When the service will have done everything that it has accepted.
#[derive(Debug)]
struct Till {
    capacity: Capacity,
    free: Mutex<Instant>,
}

impl Till {
    /// A turn: the instant at which it will be done, or `None` if too many wait.
    fn turn(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = now.max(*free);
        let waiting = begins.duration_since(now).as_secs_f64() * self.capacity.rate;
        // The number of requests before this one, as far as they are not done.
        if self.capacity.queue as f64 <= waiting {
            return None;
        }
        *free = begins + Duration::from_secs_f64(1.0 / self.capacity.rate);
        Some(*free)
    }
}

async fn work(State(till): State<Arc<Till>>) -> Response {
    match till.turn() {
        Some(done) => {
            tokio::time::sleep_until(done).await;
            "done\n".into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response(),
    }
}

/// Serves every path until `stop` is there.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    capacity: Capacity,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let till = Arc::new(Till { capacity, free: Mutex::new(Instant::now()) });
    let app = Router::new().fallback(work).with_state(till);
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}
