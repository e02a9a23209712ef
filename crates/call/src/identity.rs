//! Who calls: the sealed name of this service.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use tradewind_base::Timestamp;
use tradewind_base::identity::{CALLER_LIFE, Caller};
use tradewind_base::seal::Key;
use tradewind_discovery::ServiceName;

/// This service's own name with the key that proves it. Clones share the sealed value.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    service: ServiceName,
    key: Key,
    sealed: Mutex<Option<(Timestamp, HeaderValue)>>,
}

impl Identity {
    /// The identity of the service that calls (not the one that is called).
    #[must_use]
    pub fn new(service: ServiceName, key: Key) -> Self {
        Self(Arc::new(Inner { service, key, sealed: Mutex::default() }))
    }

    /// The service that calls.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.0.service
    }

    /// The header value, sealed at most half its life ago: the other half is for the way and for
    /// clocks that differ. Also sealed anew when wall time has stepped back.
    pub(crate) fn header(&self, now: Timestamp) -> Option<HeaderValue> {
        let mut sealed = self.0.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, value)) = &*sealed
            && *at <= now
            && now.since(*at) < CALLER_LIFE / 2
        {
            return Some(value.clone());
        }
        let caller = Caller { service: self.0.service.as_str().to_owned() };
        let text = caller.seal(&self.0.key, now).ok()?;
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        *sealed = Some((now, value.clone()));
        Some(value)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("service", &self.0.service).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_value_serves_half_its_life_and_survives_a_clock_that_steps_back() {
        let key = Key::from_secret(&[7; 32]).unwrap();
        let identity = Identity::new(ServiceName::parse("order").unwrap(), key.clone());
        let start = Timestamp::from_millis(1_000_000);
        let first = identity.header(start).unwrap();
        assert!(first.is_sensitive());
        assert_eq!(identity.header(start + Duration::from_millis(29_999)), Some(first.clone()));
        let later = start + Duration::from_secs(30);
        let second = identity.header(later).unwrap();
        assert_ne!(first, second);
        let opened = Caller::open(&key, second.to_str().unwrap(), later).unwrap();
        assert_eq!(opened.service, "order");
        let back = Timestamp::from_millis(0);
        let third = identity.header(back).unwrap();
        assert!(Caller::open(&key, third.to_str().unwrap(), back).is_ok());
        assert_ne!(second, third);
    }
}
