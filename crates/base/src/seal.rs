//! Sealed header values: small JSON documents that only the servers of one estate can write.
//!
//! A sealed value is `base64url(payload) "." base64url(HMAC-SHA-256(key, purpose "." payload))`
//! (RFC 2104, RFC 4648 §5, no padding). The purpose is part of what is authenticated, so a value
//! sealed for one use is refused in another. Every payload carries an end, after which it is
//! refused. The key is the estate's shared secret, `data/secret`.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Timestamp;

/// The longest sealed value that is looked at, in bytes.
pub const LEN_MAX: usize = 4096;

/// The shared secret of an estate. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Key(hmac::Key);

/// Why a sealed value was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is not of the form of a sealed value, or too long.
    #[error("not a sealed value")]
    Malformed,
    /// It was sealed with another key or for another purpose, or was changed.
    #[error("the seal does not fit")]
    Forged,
    /// Its end has passed.
    #[error("the sealed value has expired")]
    Expired,
}

/// A secret was too short to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret needs at least {} bytes", Key::LEN_MIN)]
pub struct ShortSecret;

#[derive(Serialize, Deserialize)]
struct Payload<T> {
    exp: i64,
    #[serde(flatten)]
    content: T,
}

impl Key {
    /// The shortest accepted secret, in bytes.
    pub const LEN_MIN: usize = 32;

    /// A key from the bytes of the shared secret.
    ///
    /// # Errors
    /// When the secret has fewer than 32 bytes.
    pub fn from_secret(secret: &[u8]) -> Result<Self, ShortSecret> {
        if secret.len() < Self::LEN_MIN {
            return Err(ShortSecret);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// Seals `content` for `purpose` until `end`.
    ///
    /// # Errors
    /// When `content` does not serialise to a JSON object.
    pub fn seal<T: Serialize>(
        &self,
        purpose: &str,
        content: &T,
        end: Timestamp,
    ) -> Result<String, serde_json::Error> {
        let payload = serde_json::to_vec(&Payload { exp: end.millis(), content })?;
        let body = URL_SAFE_NO_PAD.encode(payload);
        let tag = hmac::sign(&self.0, message(purpose, &body).as_bytes());
        Ok(format!("{body}.{}", URL_SAFE_NO_PAD.encode(tag)))
    }

    /// Opens a value that was sealed for `purpose`.
    ///
    /// # Errors
    /// When the value is malformed, was not sealed by this key for this purpose, or has expired.
    pub fn open<T: DeserializeOwned>(
        &self,
        purpose: &str,
        sealed: &str,
        now: Timestamp,
    ) -> Result<T, OpenError> {
        if LEN_MAX < sealed.len() {
            return Err(OpenError::Malformed);
        }
        let (body, tag) = sealed.split_once('.').ok_or(OpenError::Malformed)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| OpenError::Malformed)?;
        hmac::verify(&self.0, message(purpose, body).as_bytes(), &tag)
            .map_err(|_| OpenError::Forged)?;
        let payload = URL_SAFE_NO_PAD.decode(body).map_err(|_| OpenError::Malformed)?;
        let payload: Payload<T> =
            serde_json::from_slice(&payload).map_err(|_| OpenError::Malformed)?;
        if payload.exp <= now.millis() {
            return Err(OpenError::Expired);
        }
        Ok(payload.content)
    }
}

fn message(purpose: &str, body: &str) -> String {
    format!("{purpose}.{body}")
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Content {
        sub: String,
    }

    fn key(byte: u8) -> Key {
        Key::from_secret(&[byte; 32]).unwrap()
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn what_was_sealed_opens_until_its_end() {
        let content = Content { sub: "alice".into() };
        let sealed = key(1).seal("user", &content, at(100)).unwrap();
        assert_eq!(key(1).open::<Content>("user", &sealed, at(99)), Ok(content));
        assert_eq!(key(1).open::<Content>("user", &sealed, at(100)), Err(OpenError::Expired));
    }

    #[test]
    fn another_key_purpose_or_content_is_refused() {
        let sealed = key(1).seal("user", &Content { sub: "alice".into() }, at(100)).unwrap();
        assert_eq!(key(2).open::<Content>("user", &sealed, at(1)), Err(OpenError::Forged));
        assert_eq!(key(1).open::<Content>("caller", &sealed, at(1)), Err(OpenError::Forged));
        let (body, tag) = sealed.split_once('.').unwrap();
        let other = URL_SAFE_NO_PAD.encode(br#"{"exp":100,"sub":"bob"}"#);
        assert_ne!(body, other);
        let forged = format!("{other}.{tag}");
        assert_eq!(key(1).open::<Content>("user", &forged, at(1)), Err(OpenError::Forged));
    }

    #[test]
    fn nonsense_is_malformed() {
        for bad in ["", "abc", "a.b.c", "!!.??", &"a".repeat(LEN_MAX + 1)] {
            assert_eq!(
                key(1).open::<Content>("user", bad, at(1)),
                Err(OpenError::Malformed),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_short_secret_is_refused_and_debug_hides_the_key() {
        assert_eq!(Key::from_secret(&[0; 31]).err(), Some(ShortSecret));
        assert_eq!(format!("{:?}", key(7)), "Key(…)");
    }
}
