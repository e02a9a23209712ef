//! Keys that were used here lately.
//!
//! Under a key that was used before an order hardly ever begins: that is what the key is for. Who
//! knows that before the database says so need not set anything out beside the begin.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use tradewind::idempotency::Attempt;

/// Keys of one generation, of which two are kept: half a minute or more of a thousand orders a
/// second, and a megabyte.
const GENERATION: usize = 32_768;

/// The keys. Clones are handles to the same ones. They are forgotten with the process, and other
/// instances have their own, so a key that is not known may have been used all the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    hasher: RandomState,
    known: Arc<Mutex<Generations>>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Recent {
    /// Notes the key of an attempt; whether it was not known. Two keys with one hash are taken
    /// for one, which costs the second some time.
    pub(super) fn note(&self, attempt: &Attempt) -> bool {
        let hash = self.hasher.hash_one((&attempt.scope, &attempt.key));
        // Every change leaves the sets whole.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.young.contains(&hash) || known.old.contains(&hash) {
            return false;
        }
        if GENERATION <= known.young.len() {
            known.old = mem::take(&mut known.young);
        }
        known.young.insert(hash)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tradewind::idempotency::{Fingerprint, Key, Scope};

    use super::*;

    #[test]
    fn a_key_is_new_once_until_it_is_long_ago() {
        let recent = Recent::default();
        let attempt = |user: &str, key: usize| Attempt {
            scope: Scope::new(user, "order.place").unwrap(),
            key: Key::parse(&format!("key-{key}")).unwrap(),
            fingerprint: Fingerprint::of_json(&json!(null)),
        };
        assert!(recent.note(&attempt("a", 0)));
        assert!(!recent.note(&attempt("a", 0)));
        assert!(recent.note(&attempt("b", 0)), "it is another user's");
        for key in 1..GENERATION {
            assert!(recent.note(&attempt("a", key)));
        }
        assert!(!recent.note(&attempt("a", 0)), "there was room for that many");
        for key in GENERATION..3 * GENERATION {
            assert!(recent.note(&attempt("a", key)));
        }
        assert!(recent.note(&attempt("a", 0)), "what is long ago makes room");
        let known = recent.known.lock().unwrap();
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
    }
}
