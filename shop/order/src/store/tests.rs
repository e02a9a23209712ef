use tradewind::base::{Clock as _, ManualClock};
use tradewind::sql::{DatabaseUrl, Options};

use super::*;
use crate::schema::{MIGRATIONS, SET};

fn open(url: &DatabaseUrl) -> Store {
    Store::new(Database::open(url, Options::default(), SET, MIGRATIONS).unwrap())
}

fn account(id: u128) -> Account {
    // The form is what counts here; what it was made of is not.
    let hash = format!("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ${}", "A".repeat(43));
    Account {
        id: UserId::from_u128(id),
        name: "Zoë 🙂".into(),
        password_hash: Hash::parse(&hash).unwrap(),
        roles: vec!["buyer".into()],
    }
}

/// What holds on every database.
async fn an_account_is_kept_once(store: &Store) {
    let now = ManualClock::new().now();
    assert_eq!(store.account("zoë".into()).await.unwrap(), None);
    assert!(store.add("zoë".into(), account(1), now).await.unwrap());
    assert!(!store.add("zoë".into(), account(2), now).await.unwrap(), "the name is taken");
    assert_eq!(store.account("zoë".into()).await.unwrap(), Some(account(1)));
    assert_eq!(store.account("zoe".into()).await.unwrap(), None, "accents count");
    let injected = "x' OR '1'='1".to_owned();
    assert_eq!(store.account(injected).await.unwrap(), None);
}

#[tokio::test]
async fn accounts_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite(&folder.path().join("order.db"));
    an_account_is_kept_once(&open(&url)).await;
    assert!(open(&url).account("zoë".into()).await.unwrap().is_some(), "it is still there");
}

#[cfg(feature = "services")]
#[tokio::test]
async fn accounts_on_mysql() {
    let url = tradewind::host::testing::fresh_mysql("tradewind_test_order");
    an_account_is_kept_once(&open(&url)).await;
}
