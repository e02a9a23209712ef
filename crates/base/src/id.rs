//! Ids whose text says what they name: `ord_0192f3…`, `req_…`, `txn_…`.
//!
//! An id is 128 bits, made as UUID version 7 (RFC 9562 §5.7): its first 48 bits are the wall time
//! in milliseconds, so ids of one process are roughly in order of creation and index well. The
//! text is a prefix, an underscore and 32 lower-case hexadecimal digits.

use std::fmt;

use crate::{Rng, Timestamp};

/// Why a text is not an id of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `{prefix}_` and 32 hexadecimal digits")]
pub struct ParseIdError {
    /// The prefix of the wanted kind.
    pub prefix: &'static str,
}

fn generate(now: Timestamp, rng: &mut Rng) -> u128 {
    let millis = u64::try_from(now.millis()).unwrap_or(0);
    let random = rng.u128().to_be_bytes();
    let mut tail = [0_u8; 10];
    for (to, from) in tail.iter_mut().zip(random) {
        *to = from;
    }
    uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid().as_u128()
}

fn parse(text: &str, prefix: &'static str) -> Result<u128, ParseIdError> {
    let digits = text.strip_prefix(prefix).and_then(|it| it.strip_prefix('_'));
    let error = ParseIdError { prefix };
    let Some(digits) = digits else { return Err(error) };
    let lower = digits.bytes().all(|it| it.is_ascii_digit() || matches!(it, b'a'..=b'f'));
    if digits.len() != 32 || !lower {
        return Err(error);
    }
    u128::from_str_radix(digits, 16).map_err(|_| error)
}

fn made(bits: u128) -> Timestamp {
    // 48 bits.
    Timestamp::from_millis(i64::try_from(bits >> 80).unwrap_or(i64::MAX))
}

/// Declares an id type: its name, its prefix and what it names.
#[macro_export]
macro_rules! id_type {
    ($(#[$meta:meta])* $name:ident, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            /// What the text of every such id starts with, before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, unique with overwhelming probability.
            #[must_use]
            pub fn generate(now: $crate::Timestamp, rng: &mut $crate::Rng) -> Self {
                Self($crate::id::__private::generate(now, rng))
            }

            /// From its 128 bits, as a database column keeps them.
            #[must_use]
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// When it was made, by the clock of who made it.
            #[must_use]
            pub fn made(self) -> $crate::Timestamp {
                $crate::id::__private::made(self.0)
            }

            /// Its 128 bits.
            #[must_use]
            pub const fn as_u128(self) -> u128 {
                self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::write!(f, "{}_{:032x}", Self::PREFIX, self.0)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(self, f)
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::id::ParseIdError;
            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> {
                $crate::id::__private::parse(text, Self::PREFIX).map(Self)
            }
        }

        impl $crate::id::__private::serde::Serialize for $name {
            fn serialize<S: $crate::id::__private::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> $crate::id::__private::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::id::__private::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::std::result::Result<Self, D::Error> {
                let text = <::std::borrow::Cow<'_, str> as
                    $crate::id::__private::serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err($crate::id::__private::serde::de::Error::custom)
            }
        }
    };
}

/// For the expansion of [`id_type!`] alone.
#[doc(hidden)]
pub mod __private {
    pub use serde;

    use super::{ParseIdError, Rng, Timestamp};

    #[must_use]
    pub fn generate(now: Timestamp, rng: &mut Rng) -> u128 {
        super::generate(now, rng)
    }

    pub fn parse(text: &str, prefix: &'static str) -> Result<u128, ParseIdError> {
        super::parse(text, prefix)
    }

    #[must_use]
    pub fn made(bits: u128) -> Timestamp {
        super::made(bits)
    }
}

id_type! {
    /// One request, from the edge to the last service it touches; carried in `x-request-id`.
    RequestId, "req"
}

id_type! {
    /// One distributed transaction (in Seata's words: the xid).
    Xid, "txn"
}

/// A text that came from outside and is kept as it came, within bounds: a foreign request id.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestText(Box<str>);

impl RequestText {
    /// The longest accepted text, in bytes.
    pub const LEN_MAX: usize = 128;

    /// Takes a text of 1 to 128 visible ASCII characters; anything else is not usable in a log.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let usable = !text.is_empty()
            && text.len() <= Self::LEN_MAX
            && text.bytes().all(|it| it.is_ascii_graphic());
        usable.then(|| Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<RequestId> for RequestText {
    fn from(id: RequestId) -> Self {
        Self(id.to_string().into())
    }
}

impl fmt::Display for RequestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_names_its_kind() {
        let id =
            RequestId::generate(Timestamp::from_millis(1_700_000_000_000), &mut Rng::seeded(1));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(
            serde_json::from_str::<RequestId>(&serde_json::to_string(&id).unwrap()).unwrap(),
            id
        );
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        let now = Timestamp::from_millis(1_700_000_000_123);
        assert_eq!(Xid::generate(now, &mut Rng::seeded(1)).made(), now);
        assert!(Xid::from_u128(u128::MAX).made() > now, "a foreign one is some time");
    }

    #[test]
    fn later_ids_sort_later() {
        let mut rng = Rng::seeded(1);
        let early = Xid::generate(Timestamp::from_millis(1), &mut rng);
        assert!(early < Xid::generate(Timestamp::from_millis(2), &mut rng));
    }

    #[test]
    fn another_kind_a_short_and_an_upper_case_text_are_refused() {
        let id = Xid::from_u128(0xabc);
        let text = id.to_string();
        for bad in
            [text.replace("txn", "req"), text.replace('0', ""), text.to_uppercase(), String::new()]
        {
            assert!(bad.parse::<Xid>().is_err(), "{bad}");
        }
        assert!(format!("txn_+{:031x}", 5).parse::<Xid>().is_err(), "a sign is not a digit");
    }

    #[test]
    fn a_foreign_request_id_is_bounded_and_visible() {
        assert!(RequestText::parse("abc-123").is_some());
        for bad in ["", "a b", "a\nb", "é", &"x".repeat(129)] {
            assert!(RequestText::parse(bad).is_none());
        }
    }
}
