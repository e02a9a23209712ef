//! Standard Webhooks 1.0 signatures with a secret of the estate.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tradewind_base::{Timestamp, seal};

/// How far a signature's time may be from ours, in either direction.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Header with the id that is signed: the message id.
pub const ID_HEADER: &str = "webhook-id";
/// Header with the time of the attempt, in seconds since the Unix epoch.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Header with the signatures, separated by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// The key deliveries are signed with. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

/// Why a delivery is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The time is no number, or too far from now.
    #[error("the time of the signature is missing or more than five minutes away")]
    Time,
    /// No signature of a known version fits.
    #[error("no signature fits")]
    Forged,
}

impl SigningKey {
    /// The key that every server with the estate's secret derives alike.
    #[must_use]
    pub fn derive(secret: &seal::Key) -> Self {
        // A seal over a fixed text is a keyed hash of it: a secret that tells nothing of the
        // estate's own and serves no other purpose. Sealing an empty object has nothing to fail on.
        let nothing = serde_json::Map::new();
        let end = Timestamp::from_millis(0);
        let derived = secret.seal("webhook-signature", &nothing, end).unwrap_or_default();
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_bytes()))
    }

    /// The value of [`SIGNATURE_HEADER`].
    #[must_use]
    pub fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }

    /// Checks a delivery, in constant time for every wrong signature.
    ///
    /// # Errors
    /// When the time is too far away or no signature fits.
    pub fn verify(
        &self,
        id: &str,
        timestamp: &str,
        signatures: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        let seconds: i64 = timestamp.parse().map_err(|_| SignatureError::Time)?;
        let tolerance = i64::try_from(TOLERANCE.as_secs()).unwrap_or(i64::MAX);
        if tolerance < now.seconds().saturating_sub(seconds).saturating_abs() {
            return Err(SignatureError::Time);
        }
        let mut signed = format!("{id}.{seconds}.").into_bytes();
        signed.extend_from_slice(body);
        // Several are there while a secret is changed; more than a few nobody sends.
        let fits = |it: &str| {
            let tag = it.strip_prefix("v1,").and_then(|it| STANDARD.decode(it).ok());
            tag.is_some_and(|it| hmac::verify(&self.0, &signed, &it).is_ok())
        };
        if signatures.split(' ').take(8).any(fits) { Ok(()) } else { Err(SignatureError::Forged) }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::derive(&seal::Key::from_secret(&[byte; 32]).unwrap())
    }

    #[test]
    fn what_was_signed_is_believed_and_nothing_else() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let time = now.seconds().to_string();
        let good = key(1).sign("msg_1", now.seconds(), b"{}");
        let check = |id: &str, time: &str, signature: &str, body: &[u8], now| {
            key(1).verify(id, time, signature, body, now)
        };
        assert_eq!(check("msg_1", &time, &good, b"{}", now), Ok(()));
        let two = format!("v1a,zzz v1,AAAA {good}");
        assert_eq!(check("msg_1", &time, &two, b"{}", now), Ok(()), "one of several fits");
        let forged = Err(SignatureError::Forged);
        assert_eq!(check("msg_2", &time, &good, b"{}", now), forged);
        assert_eq!(check("msg_1", &time, &good, b"{} ", now), forged);
        assert_eq!(check("msg_1", &(now.seconds() + 1).to_string(), &good, b"{}", now), forged);
        assert_eq!(
            check("msg_1", &time, &key(2).sign("msg_1", now.seconds(), b"{}"), b"{}", now),
            forged
        );
        for signature in ["", "v1,", "v1", good.trim_start_matches("v1,")] {
            assert_eq!(check("msg_1", &time, signature, b"{}", now), forged, "{signature}");
        }
    }

    #[test]
    fn an_old_or_future_signature_is_refused() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let signature = key(1).sign("m", at.seconds(), b"x");
        let check = |now| key(1).verify("m", &at.seconds().to_string(), &signature, b"x", now);
        assert_eq!(check(at + TOLERANCE), Ok(()));
        assert_eq!(check(at + TOLERANCE + Duration::from_secs(1)), Err(SignatureError::Time));
        let early = Timestamp::from_millis(at.millis() - 301_000);
        assert_eq!(check(early), Err(SignatureError::Time));
        for bad in ["", "x", "9223372036854775807", "-9223372036854775808"] {
            let refused = key(1).verify("m", bad, &signature, b"x", at);
            assert_eq!(refused, Err(SignatureError::Time), "{bad}");
        }
    }
}
