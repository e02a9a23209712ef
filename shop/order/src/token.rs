//! Tokens: JWTs (RFC 7519) signed with Ed25519 (RFC 8037), and the key set that verifies them.
//!
//! The key pair is made once, by whoever starts first, and kept in the data folder. Its id is the
//! thumbprint of the public key (RFC 7638), so the same key has the same id everywhere.

mod key_file;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use tradewind::base::Timestamp;

pub use self::key_file::KeyFileError;

/// Who a token is about; the rest of its claims is the issuer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    subject: String,
    name: String,
    roles: Vec<String>,
}

/// Signs tokens.
pub(crate) struct Issuer {
    key: jsonwebtoken::EncodingKey,
    key_set: KeySet,
    settings: Settings,
}

/// What every token of an issuer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Who signs: the claim `iss`.
    pub(crate) issuer: String,
    /// Whom it is for: the claim `aud`.
    pub(crate) audience: String,
    /// How long it is good for.
    pub(crate) lifetime: Duration,
}

/// A token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("failed to sign a token")]
pub(crate) struct SignError(#[source] jsonwebtoken::errors::Error);

/// The public keys that verify this issuer's tokens (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    /// The keys: one for now.
    pub keys: Vec<PublicKey>,
}

/// A public Ed25519 key (RFC 8037 §2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// Always `OKP`.
    pub kty: String,
    /// Always `Ed25519`.
    pub crv: String,
    /// The key's id: the one in the head of the tokens it verifies.
    pub kid: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    /// Always `EdDSA`.
    pub alg: String,
    /// The key: 32 bytes in base64url.
    pub x: String,
}

#[derive(Serialize)]
struct Body<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    name: &'a str,
    roles: &'a [String],
    iat: i64,
    nbf: i64,
    exp: i64,
}

impl Claims {
    pub(crate) const fn new(subject: String, name: String, roles: Vec<String>) -> Self {
        Self { subject, name, roles }
    }
}

impl Issuer {
    /// An issuer with the key pair in `path`, which is made if there is none. Blocking.
    pub(crate) fn open(path: &Path, settings: Settings) -> Result<Self, KeyFileError> {
        let pkcs8 = key_file::read_or_create(path)?;
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8)
            .map_err(|_| KeyFileError::NoKey { path: path.to_owned() })?;
        let public = PublicKey::new(pair.public_key().as_ref());
        Ok(Self {
            key: jsonwebtoken::EncodingKey::from_ed_der(&pkcs8),
            key_set: KeySet { keys: vec![public] },
            settings,
        })
    }

    pub(crate) const fn lifetime(&self) -> Duration {
        self.settings.lifetime
    }

    pub(crate) const fn key_set(&self) -> &KeySet {
        &self.key_set
    }

    /// A token about `claims`, good from `now` on.
    pub(crate) fn sign(&self, claims: &Claims, now: Timestamp) -> Result<String, SignError> {
        let body = Body {
            iss: &self.settings.issuer,
            aud: &self.settings.audience,
            sub: &claims.subject,
            name: &claims.name,
            roles: &claims.roles,
            iat: now.seconds(),
            nbf: now.seconds(),
            exp: (now + self.settings.lifetime).seconds(),
        };
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = self.key_set.keys.first().map(|it| it.kid.clone());
        jsonwebtoken::encode(&header, &body, &self.key).map_err(SignError)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl PublicKey {
    fn new(public: &[u8]) -> Self {
        let x = URL_SAFE_NO_PAD.encode(public);
        // RFC 8037 §2: the thumbprint covers crv, kty and x, in this order, without spaces.
        let thumbprint = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, thumbprint.as_bytes()));
        Self {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            kid,
            usage: "sig".to_owned(),
            alg: "EdDSA".to_owned(),
            x,
        }
    }
}

#[cfg(test)]
mod tests;
