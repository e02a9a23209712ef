use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;
use tradewind::base::{Clock as _, SystemClock};

use super::*;

fn settings() -> Settings {
    Settings {
        issuer: "tradewind".into(),
        audience: "shop".into(),
        lifetime: Duration::from_secs(3600),
    }
}

fn claims() -> Claims {
    Claims::new("usr_1".into(), "Alice".into(), vec!["buyer".into()])
}

fn verify(token: &str, keys: &KeySet) -> Result<Value, jsonwebtoken::errors::Error> {
    let keys: JwkSet = serde_json::from_value(serde_json::to_value(keys).unwrap()).unwrap();
    let kid = jsonwebtoken::decode_header(token)?.kid.unwrap();
    let jwk: &Jwk = keys.find(&kid).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&["tradewind"]);
    validation.set_audience(&["shop"]);
    validation.validate_nbf = true;
    let key = DecodingKey::from_jwk(jwk)?;
    Ok(jsonwebtoken::decode::<Value>(token, &key, &validation)?.claims)
}

/// R3.3: what is published verifies what is signed, with another implementation's reader.
#[test]
fn the_published_key_set_verifies_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::open(&folder.path().join("key.pk8"), settings()).unwrap();
    let now = SystemClock::new().now();
    let token = issuer.sign(&claims(), now).unwrap();
    let verified = verify(&token, issuer.key_set()).unwrap();
    let expected = serde_json::json!({
        "iss": "tradewind", "aud": "shop", "sub": "usr_1", "name": "Alice", "roles": ["buyer"],
        "iat": now.seconds(), "nbf": now.seconds(), "exp": now.seconds() + 3600,
    });
    assert_eq!(verified, expected);
}

#[test]
fn an_expired_a_changed_and_a_foreign_token_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::open(&folder.path().join("key.pk8"), settings()).unwrap();
    let other = Issuer::open(&folder.path().join("other.pk8"), settings()).unwrap();
    let now = SystemClock::new().now();
    let past = Timestamp::from_millis(now.millis() - 2 * 3600 * 1000);
    assert!(verify(&issuer.sign(&claims(), past).unwrap(), issuer.key_set()).is_err());
    let token = issuer.sign(&claims(), now).unwrap();
    let foreign = other.sign(&claims(), now).unwrap();
    let body = |it: &str| it.split('.').nth(1).unwrap().to_owned();
    let signature = token.rsplit('.').next().unwrap();
    let head = token.split('.').next().unwrap();
    let admin = URL_SAFE_NO_PAD.encode(
        String::from_utf8(URL_SAFE_NO_PAD.decode(body(&token)).unwrap())
            .unwrap()
            .replace("buyer", "admin"),
    );
    assert!(verify(&format!("{head}.{admin}.{signature}"), issuer.key_set()).is_err());
    let stolen = format!("{head}.{}.{}", body(&foreign), foreign.rsplit('.').next().unwrap());
    assert!(verify(&stolen, issuer.key_set()).is_err());
}

#[test]
fn the_key_id_is_the_thumbprint_and_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pk8");
    let before = Issuer::open(&path, settings()).unwrap().key_set().clone();
    assert_eq!(Issuer::open(&path, settings()).unwrap().key_set(), &before);
    // The example of RFC 8037, appendix A.3.
    let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    assert_eq!(PublicKey::new(&x).kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn what_is_no_key_is_refused_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pk8");
    Issuer::open(&path, settings()).unwrap();
    std::fs::write(&path, b"not a key").unwrap();
    let error = Issuer::open(&path, settings()).unwrap_err();
    assert!(matches!(error, KeyFileError::NoKey { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"not a key");
}
