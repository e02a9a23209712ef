//! A closure on its way through a queue, with the sender of its answer.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, TransactionError};
use crate::transaction::Transaction;

/// How a run of a closure ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    /// It returned `Ok`: its writes are to be kept.
    Kept,
    /// It returned `Err` or panicked: its writes are to be undone.
    Refused,
}

/// What becomes of a closure.
#[derive(Debug)]
pub(crate) enum Fate {
    /// Its own result stands.
    Own,
    /// It did not happen; if a reason was [noted](Job::note), that is the reason, else this.
    Failed(Error),
    /// It may have happened.
    Unknown(Error),
    /// It was not run.
    Closed,
}

pub(crate) trait Job: Send {
    fn name(&self) -> &'static str;
    /// Runs the closure once more; the result of the last run counts.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Ran;
    /// Keeps a failure of the engine that the closure may have swallowed.
    fn note(&mut self, error: Error);
    fn answer(self: Box<Self>, fate: Fate);
    /// Whether nobody waits for the answer any more.
    fn abandoned(&self) -> bool;
}

pub(crate) type Answer<T, E> = oneshot::Receiver<Result<T, TransactionError<E>>>;

struct Closure<T, E, F> {
    name: &'static str,
    work: F,
    result: Option<Result<T, TransactionError<E>>>,
    noted: Option<Error>,
    sender: oneshot::Sender<Result<T, TransactionError<E>>>,
}

pub(crate) fn closure<T, E, F>(name: &'static str, work: F) -> (Box<dyn Job>, Answer<T, E>)
where
    F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    (Box::new(Closure { name, work, result: None, noted: None, sender }), receiver)
}

impl<T, E, F> Job for Closure<T, E, F>
where
    F: FnMut(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Ran {
        self.noted = None;
        let (work, last) = (&mut self.work, &mut self.result);
        // The closure is not used again by this run's caller before its next run starts from the
        // beginning, and the transaction it may have left half-way is undone: nothing broken can
        // be seen through them.
        let run = || {
            // Inside, as a value may panic when it is dropped.
            *last = None;
            work(transaction)
        };
        let (result, ran) = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(value)) => (Ok(value), Ran::Kept),
            Ok(Err(error)) => (Err(TransactionError::Refused(error)), Ran::Refused),
            Err(panic) => {
                let text = panic_text(&*panic);
                tracing::error!(transaction = self.name, panic = text, "transaction panicked");
                let error = Error::new(ErrorKind::Panic, "").detail(text);
                (Err(TransactionError::Database(error)), Ran::Refused)
            }
        };
        self.result = Some(result);
        ran
    }

    fn note(&mut self, error: Error) {
        self.noted = Some(error);
    }

    fn answer(self: Box<Self>, fate: Fate) {
        let name = self.name;
        // Where nobody waits any more, the result is dropped here, and so is the closure. If that
        // panics, it must not take the thread along; the outcome stands all the same.
        let send = move || {
            let answer = match fate {
                Fate::Own => self.result.unwrap_or(Err(TransactionError::Closed)),
                Fate::Failed(error) => Err(TransactionError::Database(self.noted.unwrap_or(error))),
                Fate::Unknown(source) => Err(TransactionError::Unknown { source }),
                Fate::Closed => Err(TransactionError::Closed),
            };
            drop(self.sender.send(answer));
        };
        if catch_unwind(AssertUnwindSafe(send)).is_err() {
            tracing::error!(
                transaction = name,
                "the result of a transaction panicked when dropped"
            );
        }
    }

    fn abandoned(&self) -> bool {
        self.sender.is_closed()
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("not a text")
}
