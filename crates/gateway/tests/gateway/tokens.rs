//! R3.3: tokens, their keys and who is vouched for.

use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tradewind_base::identity::User;
use tradewind_base::{Clock as _, SystemClock, seal};
use tradewind_gateway::tokens::KeySource;

use tokio::time::Instant;

use super::rig::{Answer, Rig, SECRET, until};

/// A key pair of an issuer.
struct Issuer {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: &'static str,
    jwk: Value,
    public: Vec<u8>,
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    fn ed25519(kid: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "alg": "EdDSA", "x": b64(&public)});
        let key = EncodingKey::from_ed_der(der.as_ref());
        Self { key, algorithm: Algorithm::EdDSA, kid, jwk, public }
    }

    fn p256(kid: &'static str) -> Self {
        let der = EcdsaKeyPair::generate_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &aws_lc_rs::rand::SystemRandom::new(),
        )
        .unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref()).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(&public[1..33]), "y": b64(&public[33..])});
        let key = EncodingKey::from_ec_der(der.as_ref());
        Self { key, algorithm: Algorithm::ES256, kid, jwk, public }
    }

    fn rsa(kid: &'static str) -> Self {
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let text = STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        let public = pair.public_key();
        let modulus = b64(public.modulus().big_endian_without_leading_zero());
        let exponent = b64(public.exponent().big_endian_without_leading_zero());
        let jwk = json!({"kty": "RSA", "kid": kid, "alg": "RS256", "n": modulus, "e": exponent});
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        let public = public.as_ref().to_vec();
        Self { key, algorithm: Algorithm::RS256, kid, jwk, public }
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.to_owned());
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

fn now() -> i64 {
    SystemClock::new().now().seconds()
}

fn claims() -> Value {
    json!({"sub": "usr_1", "name": "Alice", "roles": ["buyer"], "iss": "tradewind", "aud": "shop", "exp": now() + 600})
}

fn with(change: &Value) -> Value {
    let mut all = claims();
    let all_fields = all.as_object_mut().unwrap();
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            all_fields.remove(name);
        } else {
            all_fields.insert(name.clone(), value.clone());
        }
    }
    all
}

async fn rig(issuers: &[&Issuer]) -> Rig {
    let rig = Rig::with(1, |it| {
        it.jwks = KeySource::parse("service://order/keys").unwrap();
        it.jwks_interval = Duration::from_secs(3600);
    })
    .await;
    publish(&rig, issuers);
    rig
}

fn publish(rig: &Rig, issuers: &[&Issuer]) {
    let keys: Vec<&Value> = issuers.iter().map(|it| &it.jwk).collect();
    *rig.backend().recorded.jwks.lock().unwrap() = json!({ "keys": keys }).to_string();
}

async fn known(rig: &Rig) {
    let start = Instant::now();
    while rig.admin("GET", "/routes/status", None).await.json()["tokens"] != "keys known" {
        assert!(start.elapsed() < Duration::from_secs(20), "the keys are not fetched");
    }
}

async fn ask(rig: &Rig, authorization: &str) -> Answer {
    let text =
        format!("GET /order/me HTTP/1.1\r\nHost: shop\r\nAuthorization: {authorization}\r\n\r\n");
    rig.ask(&text).await
}

#[tokio::test]
async fn a_good_token_becomes_a_sealed_user_and_goes_no_further() {
    let issuers = [Issuer::ed25519("ed"), Issuer::p256("ec"), Issuer::rsa("rsa")];
    let rig = rig(&issuers.iter().collect::<Vec<_>>()).await;
    known(&rig).await;
    for issuer in &issuers {
        let answer = ask(&rig, &format!("Bearer {}", issuer.sign(&claims()))).await;
        assert_eq!(answer.status, 200, "{} {}", issuer.kid, answer.text());
        let seen = rig.backend().recorded.last();
        assert_eq!(seen.one("authorization"), None, "the token stays at the gateway");
        let sealed = seen.one("x-tradewind-user").expect("a sealed user");
        let key = seal::Key::from_secret(&SECRET).unwrap();
        let clock = SystemClock::new();
        let user = User::open(&key, sealed, clock.now()).unwrap();
        assert_eq!((&*user.id, &*user.name, &*user.roles[0]), ("usr_1", "Alice", "buyer"));
        assert!(User::open(&key, sealed, clock.now() + Duration::from_secs(61)).is_err());
    }
    let log = rig.log(3).await;
    assert_eq!(log[0]["consumer"], "usr_1");
    rig.stop().await;
}

#[tokio::test]
async fn every_bad_token_gets_the_same_answer_and_reaches_no_service() {
    let good = Issuer::ed25519("ed");
    let rsa = Issuer::rsa("rsa");
    let stranger = Issuer::ed25519("ed");
    let other = Issuer::ed25519("other");
    let rig = rig(&[&good, &rsa]).await;
    known(&rig).await;
    let token = good.sign(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    let unsigned = |alg: &str, kid: &str| {
        let head = b64(json!({"alg": alg, "kid": kid, "typ": "JWT"}).to_string().as_bytes());
        format!("{head}.{}", b64(claims().to_string().as_bytes()))
    };
    // The old trick: the public key, taken for an HMAC secret.
    let confused = |issuer: &Issuer, kid: &str| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid.to_owned());
        let key = EncodingKey::from_secret(&issuer.public);
        jsonwebtoken::encode(&header, &claims(), &key).unwrap()
    };
    let swapped = b64(with(&json!({"sub": "admin"})).to_string().as_bytes());
    let table = [
        ("expired", good.sign(&with(&json!({"exp": now() - 31})))),
        ("not yet", good.sign(&with(&json!({"nbf": now() + 100})))),
        ("no end", good.sign(&with(&json!({"exp": null})))),
        ("another issuer", good.sign(&with(&json!({"iss": "evil"})))),
        ("no issuer", good.sign(&with(&json!({"iss": null})))),
        ("another audience", good.sign(&with(&json!({"aud": ["bank"]})))),
        ("no user", good.sign(&with(&json!({"sub": null})))),
        ("odd user", good.sign(&with(&json!({"sub": 7})))),
        ("a stranger's key under a known id", stranger.sign(&claims())),
        ("unknown key id", other.sign(&claims())),
        ("other content", format!("{}.{swapped}.{}", parts[0], parts[2])),
        ("other head", format!("{}.{}.{}", b64(br#"{"alg":"EdDSA"}"#), parts[1], parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("none", format!("{}.", unsigned("none", "ed"))),
        ("None", format!("{}.x", unsigned("None", "ed"))),
        ("HS256 with the Ed25519 key", confused(&good, "ed")),
        ("HS256 with the RSA key", confused(&rsa, "rsa")),
        ("another algorithm for the key", format!("{}.{}", unsigned("RS256", "ed"), parts[2])),
        ("too much user", good.sign(&with(&json!({"roles": vec!["r".repeat(64); 64]})))),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("nonsense", "x".to_owned()),
        ("huge", format!("{}.b.c", "a".repeat(10_000))),
    ];
    let mut bodies = std::collections::BTreeSet::new();
    for (name, token) in table {
        let answer = ask(&rig, &format!("Bearer {token}")).await;
        assert_eq!((answer.status, &*answer.problem()), (401, "auth.invalid"), "{name}");
        assert_eq!(
            answer.one("www-authenticate"),
            Some("Bearer error=\"invalid_token\""),
            "{name}"
        );
        let mut body = answer.json();
        body.as_object_mut().unwrap().remove("request_id");
        bodies.insert(body.to_string());
    }
    assert_eq!(bodies.len(), 1, "no answer tells more than another: {bodies:?}");
    for authorization in
        ["Basic dTpw", "Bearer", &token, &format!("Bearer {token}, Bearer {token}")]
    {
        assert_eq!(ask(&rig, authorization).await.status, 401, "{authorization}");
    }
    let twice = format!("Bearer {token}\r\nAuthorization: Bearer {token}");
    assert_eq!(ask(&rig, &twice).await.status, 401);
    let targets = rig.backend().recorded.targets();
    assert!(targets.iter().all(|it| it == "/keys"), "{targets:?}");
    rig.stop().await;
}

#[tokio::test]
async fn the_route_says_whether_a_token_is_needed() {
    let issuer = Issuer::ed25519("ed");
    let rig = rig(&[&issuer]).await;
    known(&rig).await;
    let policy = async |auth: &str| {
        let row = json!({"path": "/order/**", "service_id": "order", "auth": auth});
        assert_eq!(rig.admin("PUT", "/routes/order-service", Some(row)).await.status, 200);
    };
    let bearer = format!("Bearer {}", issuer.sign(&claims()));
    assert_eq!(rig.get("/order/me").await.status, 200, "anonymous");
    policy("required").await;
    let answer = rig.get("/order/me").await;
    assert_eq!((answer.status, &*answer.problem()), (401, "auth.missing"));
    assert_eq!(answer.one("www-authenticate"), Some("Bearer"));
    assert_eq!(ask(&rig, &bearer).await.status, 200);
    policy("passthrough").await;
    assert_eq!(ask(&rig, "Basic dTpw").await.status, 200);
    let seen = rig.backend().recorded.last();
    assert_eq!(seen.one("authorization"), Some("Basic dTpw"));
    assert_eq!(seen.one("x-tradewind-user"), None);
    rig.stop().await;
}

/// Keys that are not there yet are the gateway's trouble, not the caller's.
#[tokio::test]
async fn without_keys_tokens_are_503_and_everything_else_works() {
    let issuer = Issuer::ed25519("ed");
    let rig = rig(&[]).await;
    let bearer = format!("Bearer {}", issuer.sign(&claims()));
    let answer = ask(&rig, &bearer).await;
    assert_eq!((answer.status, &*answer.problem()), (503, "auth.no-keys"));
    assert_eq!(rig.get("/order/me").await.status, 200);
    publish(&rig, &[&issuer]);
    known(&rig).await;
    assert_eq!(ask(&rig, &bearer).await.status, 200);
    rig.stop().await;
}

/// A new key is fetched when the first token names it; made-up ids are no load on the issuer; keys
/// stay in use when the issuer is gone.
#[tokio::test]
async fn new_keys_are_found_and_old_ones_survive_their_issuer() {
    let (old, new) = (Issuer::ed25519("old"), Issuer::ed25519("new"));
    let rig = rig(&[&old]).await;
    known(&rig).await;
    publish(&rig, &[&old, &new]);
    let fetches = || rig.backend().recorded.targets().iter().filter(|it| *it == "/keys").count();
    let start = Instant::now();
    while ask(&rig, &format!("Bearer {}", new.sign(&claims()))).await.status != 200 {
        assert!(start.elapsed() < Duration::from_secs(5), "the new key is not found");
    }
    let before = fetches();
    let begin = Instant::now();
    for _ in 0..12 {
        let made_up = Issuer::ed25519("made-up");
        assert_eq!(ask(&rig, &format!("Bearer {}", made_up.sign(&claims()))).await.status, 401);
    }
    let most = 2 + usize::try_from(begin.elapsed().as_secs()).unwrap();
    assert!(fetches() - before <= most, "{} fetches", fetches() - before);
    *rig.backend().recorded.jwks.lock().unwrap() = "broken".to_owned();
    let made_up = Issuer::ed25519("made-up-2");
    let start = Instant::now();
    let count = fetches();
    while fetches() == count {
        ask(&rig, &format!("Bearer {}", made_up.sign(&claims()))).await;
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(ask(&rig, &format!("Bearer {}", old.sign(&claims()))).await.status, 200);
    until("no request in work", || rig.gateway.in_flight() == 0).await;
    rig.stop().await;
}
