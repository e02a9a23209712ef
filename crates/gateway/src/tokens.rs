//! The keys that tokens are verified with: fetched, kept, refreshed.
//!
//! Keys come as a JSON Web Key Set (RFC 7517) from a service or a fixed URL. They are fetched anew
//! at an interval, and at once when a token names a key nobody knows, though at most once per
//! [`REFRESH_GAP`]: made-up key ids must not become load on the issuer. When the issuer is down
//! the known keys stay in use. Until there are any, tokens are answered 503, not 401.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use jsonwebtoken::{DecodingKey, Validation};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tradewind_base::Tasks;
use tradewind_discovery::{Discovery, ServiceName, View};
use tradewind_http::{Client, Limits, Target, collect};

use crate::machine::auth::{Algorithm, Claims, Verdict};

/// The least time between two fetches because of unknown key ids.
pub const REFRESH_GAP: Duration = Duration::from_secs(1);
/// How long a request with an unknown key id waits for a fetch under way.
const REFRESH_WAIT: Duration = Duration::from_secs(2);
/// How long the first fetch waits for an instance of the issuer to appear.
const FIRST_WAIT: Duration = Duration::from_secs(3);
/// The first pause after a failed fetch, doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Bytes of a key set, and keys in it, that are looked at.
const SET_BYTES_MAX: usize = 256 * 1024;
const KEYS_MAX: usize = 64;

/// Where keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySource {
    /// Any instance of a service, at a path.
    Service(ServiceName, String),
    /// A fixed address, at a path.
    Fixed(Target, String),
}

impl KeySource {
    /// Reads `service://NAME/path` or `http://host:port/path`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("is no URL")?;
        let (authority, path) = rest.split_once('/').ok_or("has no path")?;
        let path = format!("/{path}");
        if !path.bytes().all(|it| it.is_ascii_graphic()) {
            return Err("has a path with characters that must be escaped".to_owned());
        }
        match scheme {
            "service" => {
                let name = ServiceName::parse(authority).map_err(|it| it.to_string())?;
                Ok(Self::Service(name, path))
            }
            "http" | "https" => {
                let target = Target::parse(&format!("{scheme}://{authority}"))
                    .map_err(|it| it.to_string())?;
                Ok(Self::Fixed(target, path))
            }
            _ => Err("must start with service://, http:// or https://".to_owned()),
        }
    }
}

impl Default for KeySource {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant that the tests read")]
        Self::parse("service://order/.well-known/jwks.json").expect("a service and a path")
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name, path) => write!(f, "service://{name}{path}"),
            Self::Fixed(target, path) => write!(f, "{target}{path}"),
        }
    }
}

/// One public key.
struct PublicKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The keys of an issuer.
pub(crate) struct KeySet(Vec<PublicKey>);

/// The members of a JSON Web Key that are read.
#[derive(Deserialize)]
struct RawKey {
    kty: String,
    crv: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a key set. Keys for other uses and of other kinds are left out.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let set: RawSet = serde_json::from_slice(bytes)?;
        let keys = set.keys.into_iter().take(KEYS_MAX).filter_map(|it| {
            let raw: RawKey = serde_json::from_value(it).ok()?;
            public_key(raw)
        });
        Ok(Self(keys.collect()))
    }

    fn find(&self, id: Option<&str>) -> Option<&PublicKey> {
        match id {
            Some(id) => self.0.iter().find(|it| it.id.as_deref() == Some(id)),
            // A token without a key id can mean only one key.
            None => self.0.first().filter(|_| self.0.len() == 1),
        }
    }
}

fn public_key(raw: RawKey) -> Option<PublicKey> {
    if raw.usage.as_deref().is_some_and(|it| it != "sig") {
        return None;
    }
    let algorithm = Algorithm::of(&raw.kty, raw.crv.as_deref(), raw.alg.as_deref())?;
    let key = match algorithm {
        Algorithm::EdDsa => DecodingKey::from_ed_components(&raw.x?),
        Algorithm::Es256 => DecodingKey::from_ec_components(&raw.x?, &raw.y?),
        Algorithm::Rs256 => DecodingKey::from_rsa_components(&raw.n?, &raw.e?),
    };
    Some(PublicKey { id: raw.kid, algorithm, key: key.ok()? })
}

/// Tokens whose signature was found good, with the keys that found it so: a signature costs far
/// more to verify than a request to pass on. Their times are judged anew at each use.
#[derive(Default)]
struct Seen {
    keys: Option<Arc<KeySet>>,
    good: HashMap<Box<str>, Claims>,
}

/// Most tokens that are remembered; then all are forgotten, and come back as they are used.
const SEEN_MAX: usize = 4096;
/// Longer ones are not remembered: some megabytes in all.
const SEEN_BYTES_MAX: usize = 1024;

/// Verifies tokens; shared by all workers.
pub(crate) struct Tokens {
    keys: ArcSwapOption<KeySet>,
    seen: Mutex<Seen>,
    wanted: Notify,
    last: Mutex<Option<Instant>>,
    /// Counts fetches, good or bad.
    fetched: watch::Sender<u64>,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self {
            keys: ArcSwapOption::empty(),
            seen: Mutex::default(),
            wanted: Notify::new(),
            last: Mutex::new(None),
            fetched: watch::Sender::new(0),
        }
    }

    /// Starts fetching and refreshing.
    pub(crate) fn start(
        self: &Arc<Self>,
        source: KeySource,
        interval: Duration,
        discovery: &Discovery,
        client: Client,
        tasks: &Tasks,
    ) {
        let mut view = match &source {
            KeySource::Service(name, _) => Some(discovery.view(name)),
            KeySource::Fixed(..) => None,
        };
        let this = Arc::clone(self);
        tasks.spawn("jwks", move |cancel| async move {
            let mut pause = RETRY_MIN;
            let mut turn = 0_usize;
            if let Some(view) = &mut view {
                // At a start of the whole estate the issuer is a moment behind: asking nobody
                // would only cost a warning and a pause.
                let somebody = view.wait_for(|list| list.up().next().is_some());
                let somebody = tokio::time::timeout(FIRST_WAIT, somebody);
                let _ = cancel.run_until_cancelled(somebody).await;
            }
            loop {
                let fetch = fetch(&client, &source, view.as_ref(), turn);
                let result = tokio::select! {
                    result = fetch => result,
                    () = cancel.cancelled() => return,
                };
                turn = turn.wrapping_add(1);
                let wait = match result {
                    Ok(keys) => {
                        this.keys.store(Some(Arc::new(keys)));
                        pause = RETRY_MIN;
                        interval
                    }
                    Err(error) => {
                        tracing::warn!(error, source = %source, "failed to fetch the keys of tokens");
                        pause = (pause * 2).min(RETRY_MAX);
                        pause
                    }
                };
                this.fetched.send_modify(|it| *it += 1);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = this.wanted.notified() => {}
                    () = cancel.cancelled() => return,
                }
            }
        });
    }

    /// Waits for the first keys, at most `limit`: so that a gateway that opens can verify, and one
    /// whose issuer is away opens all the same.
    pub(crate) async fn opened(&self, limit: Duration) {
        let mut fetched = self.fetched.subscribe();
        let first = fetched.wait_for(|_| self.keys.load().is_some());
        drop(tokio::time::timeout(limit, first).await);
    }

    /// Waits for a fetch when the token names a key that is not known.
    pub(crate) async fn prepare(&self, token: &str) {
        if self.remembered(token).is_some() {
            return;
        }
        let Ok(header) = jsonwebtoken::decode_header(token) else { return };
        let known = |set: &KeySet| set.find(header.kid.as_deref()).is_some();
        if self.keys.load().as_deref().is_some_and(known) {
            return;
        }
        let mut fetched = self.fetched.subscribe();
        if self.may_refresh() {
            self.wanted.notify_one();
        } else if self.keys.load().is_some() {
            // A fetch of a moment ago did not bring it, or one is under way.
            let recent = tokio::time::timeout(REFRESH_WAIT / 8, fetched.changed());
            drop(recent.await);
            return;
        }
        drop(tokio::time::timeout(REFRESH_WAIT, fetched.changed()).await);
    }

    fn may_refresh(&self) -> bool {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|it| now < it + REFRESH_GAP) {
            return false;
        }
        *last = Some(now);
        true
    }

    /// Whether any keys are known.
    pub(crate) fn ready(&self) -> bool {
        self.keys.load().is_some()
    }

    /// Verifies the signature of a token with the key it names.
    pub(crate) fn verify(&self, token: &str) -> Verdict {
        if let Some(claims) = self.remembered(token) {
            return Verdict::Signed(claims);
        }
        let Some(keys) = self.keys.load_full() else { return Verdict::NoKeys };
        let verdict = verify(&keys, token);
        if let Verdict::Signed(claims) = &verdict
            && token.len() <= SEEN_BYTES_MAX
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let same = seen.keys.as_ref().is_some_and(|it| Arc::ptr_eq(it, &keys));
            if !same || SEEN_MAX <= seen.good.len() {
                seen.good.clear();
                seen.keys = Some(keys);
            }
            seen.good.insert(token.into(), claims.clone());
        }
        verdict
    }

    /// The claims of a token that the keys of now were found to have signed.
    fn remembered(&self, token: &str) -> Option<Claims> {
        let keys = self.keys.load();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let same = matches!((&*keys, &seen.keys), (Some(a), Some(b)) if Arc::ptr_eq(a, b));
        if same { seen.good.get(token).cloned() } else { None }
    }
}

fn verify(keys: &KeySet, token: &str) -> Verdict {
    let Ok(header) = jsonwebtoken::decode_header(token) else {
        return Verdict::Bad("malformed header");
    };
    if header.crit.is_some() {
        return Verdict::Bad("critical extensions");
    }
    let Some(key) = keys.find(header.kid.as_deref()) else { return Verdict::Bad("unknown key") };
    let algorithm = match key.algorithm {
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
    };
    // The claims are judged by the machine, with the clock that is handed in.
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    match jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
        Ok(data) => Verdict::Signed(data.claims),
        Err(_) => Verdict::Bad("the signature or the claims do not fit"),
    }
}

async fn fetch(
    client: &Client,
    source: &KeySource,
    view: Option<&View>,
    turn: usize,
) -> Result<KeySet, String> {
    let (target, path) = match (source, view) {
        (KeySource::Fixed(target, path), _) => (target.clone(), path),
        (KeySource::Service(name, path), view) => {
            let instances = view.map(View::callable).unwrap_or_default();
            let place = turn.checked_rem(instances.len());
            let instance = place.and_then(|at| instances.get(at));
            let instance = instance.ok_or_else(|| format!("no instance of {name} is known"))?;
            (instance.target(), path)
        }
    };
    let limits = Limits {
        connect: Duration::from_secs(1),
        head: Duration::from_secs(3),
        body_idle: Duration::from_secs(3),
    };
    let request = http::Request::get(path.as_str())
        .header("accept", "application/json")
        .body(Bytes::new())
        .map_err(|it| it.to_string())?;
    let answer = client
        .send(&target, request, &limits)
        .await
        .map_err(|it| tradewind_service::answer::chain(&it))?;
    if answer.status() != http::StatusCode::OK {
        return Err(format!("answered {}", answer.status()));
    }
    let body = collect(answer.into_body(), SET_BYTES_MAX, &limits)
        .await
        .map_err(|it| tradewind_service::answer::chain(&it))?;
    let keys = KeySet::parse(&body).map_err(|it| format!("no key set: {it}"))?;
    if keys.0.is_empty() { Err("no key in the set is usable".to_owned()) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_shown_alike() {
        for text in [
            "service://order/.well-known/jwks.json",
            "http://127.0.0.1:9001/keys",
            "https://issuer.example:443/a/b?c=d",
        ] {
            assert_eq!(KeySource::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(KeySource::default().to_string(), "service://order/.well-known/jwks.json");
        for bad in [
            "",
            "order",
            "service://order",
            "ftp://h/p",
            "service://a b/p",
            "http://u@h/p",
            "http://h/a b",
        ] {
            assert!(KeySource::parse(bad).is_err(), "{bad}");
        }
    }

    /// A key and a token that it signed, made for this test.
    fn signed(seed: u8, subject: &str) -> (String, String) {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        use jsonwebtoken::{EncodingKey, Header};

        let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let x = URL_SAFE_NO_PAD.encode(aws_lc_rs::signature::KeyPair::public_key(&pair));
        let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{x}"}}]}}"#);
        let pkcs8 = pair.to_pkcs8v1().unwrap();
        let mut header = Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = Some("k".to_owned());
        let claims = serde_json::json!({"sub": subject, "exp": 1});
        let key = EncodingKey::from_ed_der(pkcs8.as_ref());
        (set, jsonwebtoken::encode(&header, &claims, &key).unwrap())
    }

    #[test]
    fn a_token_is_remembered_only_as_long_as_the_keys_that_found_it_good() {
        let tokens = Tokens::new();
        let use_keys = |set: &str| {
            tokens.keys.store(Some(Arc::new(KeySet::parse(set.as_bytes()).unwrap())));
        };
        let subject = |verdict| match verdict {
            Verdict::Signed(claims) => claims.sub,
            Verdict::Bad(_) | Verdict::NoKeys => None,
        };
        let ((first, token), (second, _)) = (signed(1, "usr_1"), signed(2, "usr_2"));
        use_keys(&first);
        assert!(tokens.remembered(&token).is_none());
        assert_eq!(subject(tokens.verify(&token)).as_deref(), Some("usr_1"));
        assert!(tokens.remembered(&token).is_some());
        assert_eq!(subject(tokens.verify(&token)).as_deref(), Some("usr_1"));
        let changed = token.replace('.', ".A");
        assert!(matches!(tokens.verify(&changed), Verdict::Bad(_)));
        use_keys(&second);
        assert!(matches!(tokens.verify(&token), Verdict::Bad(_)));
    }

    #[test]
    fn only_usable_signature_keys_are_kept() {
        let set = br#"{"keys":[
            {"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            {"kty":"OKP","crv":"Ed25519","kid":"enc","use":"enc","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            {"kty":"oct","kid":"b","k":"AAAA"},
            {"kty":"EC","crv":"P-521","kid":"c","x":"AA","y":"AA"},
            {"nonsense":true}, 7]}"#;
        let keys = KeySet::parse(set).unwrap();
        assert_eq!(keys.0.len(), 1);
        assert!(keys.find(Some("a")).is_some() && keys.find(None).is_some());
        assert!(keys.find(Some("b")).is_none());
        assert!(KeySet::parse(b"[]").is_err());
    }
}
