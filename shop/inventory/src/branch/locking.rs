//! The locks around a Try: of all its products, in one acquisition.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tradewind::base::id::Xid;
use tradewind::lock::{AcquireError, Guard, Locks as _, Names, SqlLocks};
use tradewind::transaction::{BranchError, Call, Entered};

use super::LOCK_WAIT;

/// The fencing token of each product that a Try holds.
pub(super) type Tokens = BTreeMap<i64, i64>;

type Branch = (Xid, u16);
type Held = Arc<Mutex<HashMap<Branch, Tokens>>>;

/// Takes the locks, if there are any. A call carries one token; a Try of many products has one for
/// each, which wait here for it.
#[derive(Debug)]
pub(super) struct Locking {
    locks: Option<SqlLocks>,
    held: Held,
}

/// Forgets the tokens, then lets the lock go: fields are dropped after `drop` ran.
struct Hold {
    held: Held,
    branch: Branch,
    _guard: Guard,
}

impl Locking {
    pub(super) fn none() -> Self {
        Self { locks: None, held: Held::default() }
    }

    pub(super) fn sql(locks: SqlLocks) -> Self {
        Self { locks: Some(locks), held: Held::default() }
    }

    /// Holds the locks of `products` until what it returns is dropped.
    pub(super) async fn enter(
        &self,
        call: &Call,
        products: impl Iterator<Item = i64> + Send,
    ) -> Result<Entered, BranchError> {
        let Some(locks) = &self.locks else { return Ok(Entered::nothing()) };
        let products: Vec<i64> = products.collect();
        let names = Names::several(products.iter().map(|it| name(*it)));
        let names = names.map_err(|error| BranchError::Failed(Box::new(error)))?;
        let guard = locks.acquire(names, LOCK_WAIT).await.map_err(|it| refused(&it))?;
        let token = |it: &i64| Some((*it, guard.token_of(&name(*it))?.number()));
        let tokens: Tokens = products.iter().filter_map(token).collect();
        let branch = (call.xid, call.branch);
        lock(&self.held).insert(branch, tokens);
        let highest = guard.token().number();
        Ok(Entered::locked(highest, Hold { held: Arc::clone(&self.held), branch, _guard: guard }))
    }

    /// The tokens of a call that entered; `None` without locks.
    pub(super) fn tokens(&self, call: &Call) -> Option<Tokens> {
        self.locks.as_ref()?;
        Some(lock(&self.held).get(&(call.xid, call.branch)).cloned().unwrap_or_default())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.held).remove(&self.branch);
    }
}

fn name(product: i64) -> String {
    format!("stock:{product}")
}

/// A lock that cannot be had for now is no refusal: the Try is repeated.
fn refused(error: &AcquireError) -> BranchError {
    tracing::debug!(error = tradewind::service::answer::chain(error), "no lock for now");
    BranchError::NotYet(LOCK_WAIT)
}

/// Each change under this lock leaves the map whole.
fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}
