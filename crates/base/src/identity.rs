//! Who asks: the end user, vouched for by the gateway, and the calling service, vouched for by
//! itself. Both travel as sealed header values ([`crate::seal`]).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::seal::{Key, OpenError};

/// Header with the end user, sealed by the gateway: services accept no other word on who asks.
pub const USER_HEADER: &str = "x-tradewind-user";
/// Header with the calling service, sealed by that service.
pub const CALLER_HEADER: &str = "x-tradewind-caller";
/// Every header whose name starts so belongs to the estate; the gateway strips it from clients.
pub const INTERNAL_PREFIX: &str = "x-tradewind-";

/// How long a sealed caller is good for: longer than any call, short enough to be worthless later.
pub const CALLER_LIFE: Duration = Duration::from_secs(60);

/// An authenticated end user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The stable id of the user: the `sub` of its token.
    pub id: String,
    /// What to show for the user.
    pub name: String,
    /// What the user may do, in the estate's own words; may be empty.
    #[serde(default)]
    pub roles: Vec<String>,
}

impl User {
    /// Seals the user for the header [`USER_HEADER`].
    ///
    /// # Errors
    /// Never for this type; the signature is the serialiser's.
    pub fn seal(&self, key: &Key, end: Timestamp) -> Result<String, serde_json::Error> {
        key.seal("user", self, end)
    }

    /// Opens a sealed user.
    ///
    /// # Errors
    /// When the value is malformed, forged or expired.
    pub fn open(key: &Key, sealed: &str, now: Timestamp) -> Result<Self, OpenError> {
        key.open("user", sealed, now)
    }
}

/// An authenticated service of the estate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The name of the service, as it registers.
    pub service: String,
}

impl Caller {
    /// Seals the caller for the header [`CALLER_HEADER`]; good for [`CALLER_LIFE`] from `now`.
    ///
    /// # Errors
    /// Never for this type; the signature is the serialiser's.
    pub fn seal(&self, key: &Key, now: Timestamp) -> Result<String, serde_json::Error> {
        key.seal("caller", self, now + CALLER_LIFE)
    }

    /// Opens a sealed caller.
    ///
    /// # Errors
    /// When the value is malformed, forged or expired.
    pub fn open(key: &Key, sealed: &str, now: Timestamp) -> Result<Self, OpenError> {
        key.open("caller", sealed, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_caller_is_no_user() {
        let key = Key::from_secret(&[3; 32]).unwrap();
        let now = Timestamp::from_millis(1000);
        let sealed = Caller { service: "order".into() }.seal(&key, now).unwrap();
        assert_eq!(Caller::open(&key, &sealed, now).unwrap().service, "order");
        assert_eq!(User::open(&key, &sealed, now), Err(OpenError::Forged));
        assert_eq!(Caller::open(&key, &sealed, now + CALLER_LIFE), Err(OpenError::Expired));
    }
}
