//! Which route took a request, and how long it was in work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::interfaces::Interfaces;

/// Which route took the request; filled in from inside the router, read by the edge.
#[derive(Clone, Debug, Default)]
pub(super) struct Template(Arc<OnceLock<MatchedPath>>);

/// Prepares a router for the edge.
pub(super) fn prepare(router: Router) -> Router {
    router
        .layer(axum::middleware::from_fn(note_template))
        // The edge has a bound of its own, which is set by configuration.
        .layer(axum::extract::DefaultBodyLimit::disable())
}

async fn note_template(request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    if let (Some(path), Some(Template(slot))) = (path, request.extensions().get()) {
        let _first = slot.set(path);
    }
    next.run(request).await
}

/// Counts a request once, however it ends.
pub(super) struct Measured {
    interfaces: Arc<Interfaces>,
    method: Method,
    template: Template,
    start: Instant,
    done: AtomicBool,
}

impl Measured {
    pub(super) fn start(interfaces: Arc<Interfaces>, method: Method, template: Template) -> Self {
        let (start, done) = (Instant::now(), AtomicBool::new(false));
        Self { interfaces, method, template, start, done }
    }

    /// Whether a route took the request.
    pub(super) fn matched(&self) -> bool {
        self.template.0.get().is_some()
    }

    /// Does not count the request at all.
    pub(super) fn leave_out(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    pub(super) fn record(&self, code: StatusCode) {
        if !self.done.swap(true, Ordering::Relaxed) {
            let template = self.template.0.get().map(MatchedPath::as_str);
            self.interfaces.record(&self.method, template, code, self.start.elapsed());
        }
    }
}

/// A handler was dropped before it answered: its client has left.
impl Drop for Measured {
    fn drop(&mut self) {
        // nginx's code for it; no status of HTTP says that nobody was there to get one.
        self.record(StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST));
    }
}
