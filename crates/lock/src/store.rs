//! What a back end has to do. Everything else (waiting, renewing, noticing a loss, releasing on
//! drop) is [`crate::Leased`], the same for all of them.

use std::future::Future;
use std::time::Duration;

use crate::error::StoreError;
use crate::name::{LockName, Names, Token};

/// The answer to a [`LeaseStore::take`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// All names are the caller's; one token for each, in the order of the names.
    Granted(Vec<Token>),
    /// None was taken.
    Held {
        /// The first that is another's.
        name: LockName,
        /// When its lease ends, if it is neither renewed nor released.
        remaining: Duration,
    },
}

/// Leases by name in a place that all contenders share.
///
/// `owner` is new for every acquisition, so that whoever presents it means that one grant.
pub trait LeaseStore: Send + Sync + 'static {
    /// Takes all `names` for `lease`, or none. A name is free when it was released or when its
    /// lease has ended. Tokens are higher than all the store ever gave for that name. Asked again
    /// with the same owner (an answer was lost), it answers with the same tokens.
    fn take(
        &self,
        owner: &str,
        names: &Names,
        lease: Duration,
    ) -> impl Future<Output = Result<Take, StoreError>> + Send;

    /// Makes the lease of all names last `lease` from now, if all of them still belong to `owner`
    /// with these tokens; otherwise changes nothing and answers `false`.
    fn renew(
        &self,
        owner: &str,
        names: &Names,
        tokens: &[Token],
        lease: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Frees those names that still belong to `owner`; tells whether all did.
    fn release(
        &self,
        owner: &str,
        names: &Names,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}
