//! Who asks, and is that good enough: everything about tokens but the signature itself.
//!
//! | `Authorization` | policy `optional` | policy `required` |
//! |---|---|---|
//! | absent | anonymous | 401, `Bearer` |
//! | a good bearer token | the user | the user |
//! | anything else | 401, `Bearer error="invalid_token"` | the same |
//! | a bearer token, no keys known yet | 503 | 503 |
//!
//! With policy `passthrough` the gateway does not look. Every kind of bad token gets the same
//! answer, so that nothing can be learnt by trying; the reason is in the log only.
//!
//! The key decides the algorithm ([`Algorithm::of`]); the header of a token is only compared with
//! it. A token that names another algorithm, `none` or an HMAC one, has no key that fits.

use serde::Deserialize;
use tradewind_base::Timestamp;
use tradewind_base::identity::User;

use super::head::Head;
use super::route::AuthPolicy;

/// How far clocks may differ unless it is set otherwise, in seconds.
pub const LEEWAY_SECONDS: i64 = 30;
/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What the head says about the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials<'h> {
    /// Nothing.
    None,
    /// A bearer token.
    Bearer(&'h str),
    /// Something else: several fields, another scheme, not text.
    Unusable,
}

/// Reads the credentials of a head.
pub fn credentials(head: &impl Head) -> Credentials<'_> {
    let mut values = head.values("authorization");
    let (Some(value), rest) = (values.next(), values.next()) else { return Credentials::None };
    let Ok(text) = std::str::from_utf8(value) else { return Credentials::Unusable };
    let token = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return Credentials::Unusable,
    };
    let shaped = token.len() <= TOKEN_BYTES_MAX
        && token.split('.').count() == 3
        && token.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'));
    if rest.is_some() || !shaped { Credentials::Unusable } else { Credentials::Bearer(token) }
}

/// What was found out about a bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The signature fits a known key; these are the claims.
    Signed(Claims),
    /// It does not.
    Bad(&'static str),
    /// No keys are known yet.
    NoKeys,
}

/// The claims that are read. Everything else in a token is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// The user's stable id.
    pub sub: Option<String>,
    /// What to show.
    pub name: Option<String>,
    /// What the user may do.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The issuer.
    pub iss: Option<String>,
    /// For whom the token is: one name or several.
    #[serde(default)]
    pub aud: Audience,
    /// Seconds since the epoch when it ends.
    pub exp: Option<i64>,
    /// Seconds since the epoch when it begins.
    pub nbf: Option<i64>,
}

/// `aud`: a string or a list of strings (RFC 7519 §4.1.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// No audience.
    #[default]
    None,
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Audience {
    fn names(&self, wanted: &str) -> bool {
        match self {
            Self::None => false,
            Self::One(it) => it == wanted,
            Self::Many(them) => them.iter().any(|it| it == wanted),
        }
    }
}

/// What tokens must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectations {
    /// `iss` must be this.
    pub issuer: String,
    /// `aud` must name this; `None` when it is not looked at.
    pub audience: Option<String>,
    /// How far the issuer's clock and ours may be apart, in seconds.
    pub leeway_seconds: i64,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Nobody in particular, or the gateway did not look.
    Anonymous,
    /// A user, and when its token ends.
    User(User, Timestamp),
}

/// Why the caller is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The route needs a token.
    Missing,
    /// The token is not good; the reason is for the log.
    Invalid(&'static str),
    /// The token cannot be judged yet.
    NoKeys,
}

/// Decides who asks. `verify` is called only when there is a token that is looked at.
///
/// # Errors
/// Why the caller is turned away.
pub fn decide<'h>(
    credentials: Credentials<'h>,
    policy: AuthPolicy,
    wanted: &Expectations,
    now: Timestamp,
    verify: impl FnOnce(&'h str) -> Verdict,
) -> Result<Asker, Denial> {
    match (policy, credentials) {
        (AuthPolicy::Passthrough, _) | (AuthPolicy::Optional, Credentials::None) => {
            Ok(Asker::Anonymous)
        }
        (AuthPolicy::Required, Credentials::None) => Err(Denial::Missing),
        (AuthPolicy::Optional | AuthPolicy::Required, Credentials::Unusable) => {
            Err(Denial::Invalid("not one bearer token"))
        }
        (AuthPolicy::Optional | AuthPolicy::Required, Credentials::Bearer(token)) => {
            match verify(token) {
                Verdict::Signed(claims) => accept(claims, wanted, now).map_err(Denial::Invalid),
                Verdict::Bad(reason) => Err(Denial::Invalid(reason)),
                Verdict::NoKeys => Err(Denial::NoKeys),
            }
        }
    }
}

fn accept(claims: Claims, wanted: &Expectations, now: Timestamp) -> Result<Asker, &'static str> {
    let (now, leeway) = (now.seconds(), wanted.leeway_seconds);
    let end = claims.exp.ok_or("no exp")?;
    if end.saturating_add(leeway) <= now {
        return Err("expired");
    }
    if claims.nbf.is_some_and(|it| now.saturating_add(leeway) < it) {
        return Err("not valid yet");
    }
    if claims.iss.as_deref() != Some(&wanted.issuer) {
        return Err("another issuer");
    }
    if wanted.audience.as_ref().is_some_and(|it| !claims.aud.names(it)) {
        return Err("another audience");
    }
    let id = claims.sub.filter(|it| !it.is_empty() && it.len() <= 256).ok_or("no usable sub")?;
    let name = claims.name.filter(|it| it.len() <= 256).unwrap_or_else(|| id.clone());
    if 64 < claims.roles.len() || claims.roles.iter().any(|it| 64 < it.len()) {
        return Err("too many roles");
    }
    let end = Timestamp::from_millis(end.saturating_add(leeway).saturating_mul(1000));
    Ok(Asker::User(User { id, name, roles: claims.roles }, end))
}

/// A signature algorithm, as a key has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSA with SHA-256, PKCS #1 v1.5.
    Rs256,
}

impl Algorithm {
    /// The one algorithm of a key, by its members of a JSON Web Key (RFC 7517, RFC 8037).
    #[must_use]
    pub fn of(kty: &str, curve: Option<&str>, alg: Option<&str>) -> Option<Self> {
        let algorithm = match (kty, curve) {
            ("OKP", Some("Ed25519")) => Self::EdDsa,
            ("EC", Some("P-256")) => Self::Es256,
            ("RSA", _) => Self::Rs256,
            _ => return None,
        };
        (alg.is_none_or(|it| it == algorithm.name())).then_some(algorithm)
    }

    /// Its name in token headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::Slices;
    use super::*;

    fn wanted() -> Expectations {
        Expectations {
            issuer: "tradewind".into(),
            audience: Some("shop".into()),
            leeway_seconds: LEEWAY_SECONDS,
        }
    }

    fn claims() -> Claims {
        Claims {
            sub: Some("u1".into()),
            iss: Some("tradewind".into()),
            aud: Audience::One("shop".into()),
            exp: Some(1000),
            ..Claims::default()
        }
    }

    fn judge(claims: Claims, seconds: i64) -> Result<Asker, Denial> {
        decide(
            Credentials::Bearer("a.b.c"),
            AuthPolicy::Optional,
            &wanted(),
            Timestamp::from_millis(seconds * 1000),
            |_| Verdict::Signed(claims),
        )
    }

    #[test]
    fn a_good_token_is_its_user() {
        let Ok(Asker::User(user, end)) = judge(claims(), 500) else { panic!("accepted") };
        assert_eq!((&*user.id, &*user.name, end.seconds()), ("u1", "u1", 1030));
    }

    /// R3.3
    #[test]
    fn claims_must_fit_and_leeway_is_thirty_seconds() {
        assert!(judge(claims(), 1029).is_ok());
        assert_eq!(judge(claims(), 1030), Err(Denial::Invalid("expired")));
        assert!(judge(Claims { nbf: Some(530), ..claims() }, 500).is_ok());
        let bad = [
            Claims { nbf: Some(531), ..claims() },
            Claims { exp: None, ..claims() },
            Claims { sub: None, ..claims() },
            Claims { sub: Some(String::new()), ..claims() },
            Claims { sub: Some("x".repeat(257)), ..claims() },
            Claims { iss: None, ..claims() },
            Claims { iss: Some("other".into()), ..claims() },
            Claims { aud: Audience::None, ..claims() },
            Claims { aud: Audience::Many(vec!["other".into()]), ..claims() },
            Claims { exp: Some(i64::MIN), ..claims() },
            Claims { roles: vec![String::new(); 65], ..claims() },
        ];
        for claims in bad {
            assert!(matches!(judge(claims.clone(), 500), Err(Denial::Invalid(_))), "{claims:?}");
        }
        assert!(judge(Claims { exp: Some(i64::MAX), ..claims() }, 500).is_ok());
    }

    #[test]
    fn the_table_of_policies() {
        use AuthPolicy as P;
        use Credentials as C;
        let ask = |policy, credentials| {
            decide(credentials, policy, &wanted(), Timestamp::default(), |_| Verdict::NoKeys)
        };
        assert_eq!(ask(P::Optional, C::None), Ok(Asker::Anonymous));
        assert_eq!(ask(P::Required, C::None), Err(Denial::Missing));
        for policy in [P::Optional, P::Required] {
            assert!(matches!(ask(policy, C::Unusable), Err(Denial::Invalid(_))));
            assert_eq!(ask(policy, C::Bearer("a.b.c")), Err(Denial::NoKeys));
        }
        for credentials in [C::None, C::Unusable, C::Bearer("a.b.c")] {
            assert_eq!(ask(P::Passthrough, credentials), Ok(Asker::Anonymous));
        }
    }

    #[test]
    fn credentials_are_one_bearer_token_or_unusable() {
        let read = |values: &[&str]| {
            let headers: Vec<(&str, &[u8])> =
                values.iter().map(|it| ("Authorization", it.as_bytes())).collect();
            let head = Slices { method: "GET", path: "/", query: None, headers: &headers };
            match credentials(&head) {
                Credentials::None => "none".to_owned(),
                Credentials::Bearer(it) => it.to_owned(),
                Credentials::Unusable => "unusable".to_owned(),
            }
        };
        assert_eq!(read(&[]), "none");
        assert_eq!(read(&["Bearer a.b.c"]), "a.b.c");
        assert_eq!(read(&["bEaReR   a.b.c "]), "a.b.c");
        let long = format!("Bearer {}.b.c", "a".repeat(TOKEN_BYTES_MAX));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer a.b",
            "Bearer a.b.c.d",
            "Basic dTpw",
            "Bearer a.b.c, Bearer a.b.c",
            "a.b.c",
            "Bearer a.b.é",
            &long,
        ] {
            assert_eq!(read(&[bad]), "unusable", "{bad}");
        }
        assert_eq!(read(&["Bearer a.b.c", "Bearer a.b.c"]), "unusable");
    }

    /// GATE-6
    #[test]
    fn a_key_has_one_algorithm() {
        assert_eq!(Algorithm::of("OKP", Some("Ed25519"), None), Some(Algorithm::EdDsa));
        assert_eq!(Algorithm::of("EC", Some("P-256"), Some("ES256")), Some(Algorithm::Es256));
        assert_eq!(Algorithm::of("RSA", None, Some("RS256")), Some(Algorithm::Rs256));
        for (kty, curve, alg) in [
            ("oct", None, Some("HS256")),
            ("RSA", None, Some("HS256")),
            ("RSA", None, Some("none")),
            ("OKP", Some("X25519"), None),
            ("EC", Some("P-384"), None),
            ("OKP", Some("Ed25519"), Some("RS256")),
        ] {
            assert_eq!(Algorithm::of(kty, curve, alg), None, "{kty}");
        }
    }
}
