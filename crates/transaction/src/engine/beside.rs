//! Trys beside the begin: sent when it has run, while its commit is on the way to the disk.
//!
//! What is awaited in the worst case stays the same: nothing is decided, and nobody is answered,
//! before the begin is durable. What changes is what a death in between leaves behind:
//!
//! | the process dies | left behind | who ends it |
//! |---|---|---|
//! | before the begin has run | nothing | – |
//! | after it, before the commit | reservations for an xid that no log has | each participant asks after the deadline; the answer, durable first, is that it is aborted |
//! | after the commit | a transaction in the log | whoever resumes it, or the deadline |
//!
//! The second row takes as long as the third where nobody resumes. It cannot end as a commit: a
//! decision needs the begin's row, and the answer to the first who asks keeps that row from being
//! written.

use std::borrow::Cow;

use tokio::sync::oneshot;
use tradewind_base::fault;
use tradewind_sql::{Dialect, Transaction};

use super::Engine;
use super::declaration::Declaration;
use super::tries::Tried;

/// Told by the local transaction that begins, at its end, that it has run: see
/// [`Engine::try_beside`].
#[derive(Debug)]
pub struct Ran {
    sender: Option<oneshot::Sender<()>>,
    name: Cow<'static, str>,
}

impl Ran {
    /// The begin has run and nothing of its local transaction can fail any more but the commit.
    /// Telling it again, when the local transaction is run again, means nothing.
    ///
    /// On MySQL nobody hears it. There a transaction that has run may well have to run again (a
    /// deadlock), and then find that another attempt has the key; SQLite's one writer runs one after
    /// the other, and runs them again only where a statement failed.
    pub fn tell(&mut self, tx: &Transaction<'_>) {
        if tx.dialect() == Dialect::MySql {
            return;
        }
        let Some(sender) = self.sender.take() else { return };
        // Who began may have gone away.
        let _gone = sender.send(());
        fault::hold(format_args!("tcc.{}.begin", self.name));
    }
}

impl Engine {
    /// Begins and tries beside each other: `begin` runs the caller's local transaction with
    /// [`Engine::begin`], and hands on the [`Ran`] that its closure [tells](Ran::tell). From then
    /// on the Trys are on their way, as in [`Engine::try_all`]; what came of them is known when both
    /// have ended. `None` when no Try was sent: the begin failed, began or resumed something else, or
    /// the declaration is a coordinator's, which hears of nothing that is not durable here. Whoever
    /// has begun then goes on with [`Engine::try_all`].
    ///
    /// When `begin` fails after all, whatever was reserved is given back: each participant asks for
    /// the outcome after the deadline.
    ///
    /// # Cancel safety
    /// As [`Engine::try_all`]. A begin that is queued runs all the same.
    pub async fn try_beside<B>(
        &self,
        declaration: &Declaration,
        begin: impl AsyncFnOnce(Ran) -> B,
    ) -> (B, Option<Tried>) {
        let name = declaration.name.as_ref();
        let (sender, told) = oneshot::channel();
        let embedded = declaration.coordinator.is_none();
        let ran = Ran { sender: embedded.then_some(sender), name: declaration.name.clone() };
        let trys = async {
            told.await.ok()?;
            fault::point(format_args!("tcc.{name}.begun"));
            Some(self.try_each(declaration).await)
        };
        let (begun, tried) = tokio::join!(begin(ran), trys);
        if tried.is_some() {
            fault::point(format_args!("tcc.{name}.tried"));
        }
        (begun, tried)
    }
}
