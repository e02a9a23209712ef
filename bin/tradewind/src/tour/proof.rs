//! What must hold, and what was seen instead.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use super::story::span;

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(10);

/// Something that did not come as it must.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("wanted {wanted}; saw {saw}")]
pub(super) struct Unmet {
    pub(super) wanted: String,
    pub(super) saw: String,
}

/// What came as it must, or what did not.
pub(super) type Held<T = ()> = Result<T, Unmet>;

impl Unmet {
    pub(super) fn new(wanted: impl Display, saw: impl Display) -> Self {
        Self { wanted: wanted.to_string(), saw: saw.to_string() }
    }
}

/// Holds that `it` is so.
pub(super) fn hold(it: bool, wanted: impl Display, saw: impl Display) -> Held {
    if it { Ok(()) } else { Err(Unmet::new(wanted, saw)) }
}

/// Holds that two values are equal.
pub(super) fn same<T: PartialEq + Display + ?Sized>(what: &str, wanted: &T, saw: &T) -> Held {
    hold(wanted == saw, format!("{what} {wanted}"), format!("{what} {saw}"))
}

/// Looks until something is as it must be; hands back what was seen then. Whatever is wrong before
/// the limit counts as not yet.
pub(super) async fn until<T>(limit: Duration, mut look: impl AsyncFnMut() -> Held<T>) -> Held<T> {
    let end = Instant::now() + limit;
    loop {
        match look().await {
            Ok(it) => return Ok(it),
            Err(unmet) if end <= Instant::now() => {
                let wanted = format!("{} within {}", unmet.wanted, span(limit));
                return Err(Unmet { wanted, ..unmet });
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
