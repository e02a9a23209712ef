//! One batch of closures on SQLite's writer.
//!
//! The driver asks for a [`Step`], does it, and tells how it [ended](Event). Closures are numbered
//! in the order in which they were taken.
//!
//! *Bare* and *guarded*: all in one transaction. Guarded, each in a savepoint, so that what one wrote
//! can be undone. Bare, without: that is far cheaper, as a savepoint keeps a copy of each page that
//! is changed within it, and a refusal is rare, or has written nothing.
//!
//! | after | event | next step |
//! |---|---|---|
//! | Begin | Done | Run(0) |
//! | Begin | Failed | AnswerAll(Failed), End |
//! | Run(i) | Kept, Undone | Choose, or Run(i + 1) where that was taken before |
//! | Run(i) | Mixed, bare | RollBack, then guarded from 0 |
//! | Run(i) | Lost, or Mixed though guarded | RollBack, then alone from 0 (a batch of one: Answer(0)) |
//! | Choose | Waiting, within the bounds | Run(n), a new closure |
//! | Choose | Waiting beyond them, or Empty | Commit |
//! | Commit | Done | AnswerAll(Own), End |
//! | Commit | Failed: surely rolled back | RollBack, then alone from 0 (a batch of one: Answer(0, Failed)) |
//! | Commit | Unknown | AnswerAll(Unknown), End, poisoned |
//!
//! *Alone*: each in its own transaction, in order; nothing new is taken.
//!
//! | after | event | next step |
//! |---|---|---|
//! | Begin(i) | Failed | Answer(i, Failed), next i |
//! | Run(i) | Kept | Commit |
//! | Run(i) | Undone, or Lost after it refused | RollBack, Answer(i, Own), next i |
//! | Run(i) | Lost though it wanted to be kept | RollBack, Answer(i, Failed), next i |
//! | Commit | Done | Answer(i, Own), next i |
//! | Commit | Failed | RollBack, Answer(i, Failed), next i |
//! | Commit | Unknown | Answer(i, Unknown), Answer(j, Closed) for the rest, End, poisoned |
//! | RollBack (also together) | Failed | the rest is answered (i as due, others Failed), End, poisoned |
//!
//! Invariants, kept by the property test below over every history:
//! 1. Every closure taken is answered exactly once, and after End nothing happens.
//! 2. Answered Own with its writes kept ⇔ they are durable; Failed and Closed ⇒ they are not.
//! 3. A closure runs at most three times, once in each way, and the batch takes at most its bound.
//! 4. A refused closure's answer waits for the commit of what it saw.
//! 5. After an unknown commit nothing is begun.

use std::time::Duration;

/// How large a batch may become.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Closures.
    pub closures: usize,
    /// Time since the batch began; whoever waits longer starts the next batch.
    pub time: Duration,
}

/// What the driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Begin a write transaction.
    Begin,
    /// See whether another closure waits; do not take it yet.
    Choose,
    /// Run the closure with this number. A number one above the last takes the next waiting
    /// closure.
    Run {
        /// Which.
        closure: usize,
        /// With whom.
        way: Way,
    },
    /// Commit.
    Commit,
    /// Make sure that no transaction is open.
    RollBack,
    /// Answer one closure.
    Answer(usize, Fate),
    /// Answer every closure of the batch.
    AnswerAll(Fate),
    /// The batch is over. If `poisoned`, no other may follow.
    End {
        /// Whether the outcome of a commit is unknown, or the connection cannot be trusted.
        poisoned: bool,
    },
}

/// How closures share a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With others, nothing between them.
    Bare,
    /// With others, each in a savepoint.
    Guarded,
    /// Each in its own.
    Alone,
}

/// What a closure is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its own result.
    Own,
    /// It did not happen.
    Failed,
    /// Nobody knows.
    Unknown,
    /// It was not run to its end, and will not be.
    Closed,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Begin, Commit, RollBack, Answer: done.
    Done,
    /// Begin, Commit, RollBack: not done, and surely without effect.
    Failed,
    /// Commit: it may be on disk or not.
    Unknown,
    /// Run: the closure's writes are in the transaction.
    Kept,
    /// Run: the closure refused; of its writes there is nothing, and the transaction is open.
    Undone,
    /// Run: the closure refused; its writes are in the transaction among those of others.
    Mixed,
    /// Run: the transaction ended, with everything in it.
    Lost {
        /// Whether the closure itself refused.
        refused: bool,
    },
    /// Choose: another closure waits; the batch began this long ago.
    Waiting(Duration),
    /// Choose: none waits.
    Empty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// Start over in this way.
    Again(Way),
    /// Answer the current closure.
    Answer(Fate),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begin,
    Choose,
    Run,
    Commit,
    RollBack(After),
    Answer(Fate),
    /// All at once, then the end.
    AnswerAll(Fate),
    End,
}

/// The state of one batch.
#[derive(Clone, Debug)]
pub struct Batch {
    bounds: Bounds,
    way: Way,
    /// The closure at work.
    at: usize,
    /// How many were taken.
    taken: usize,
    poisoned: bool,
    state: State,
}

impl Batch {
    /// A batch whose first closure has been taken, and how it goes about it.
    #[must_use]
    pub const fn new(bounds: Bounds, way: Way) -> Self {
        let state = State::Begin;
        Self { bounds, way, at: 0, taken: 1, poisoned: false, state }
    }

    /// How many closures were taken.
    #[must_use]
    pub const fn taken(&self) -> usize {
        self.taken
    }

    /// What to do now.
    #[must_use]
    pub const fn step(&self) -> Step {
        match self.state {
            State::Begin => Step::Begin,
            State::Choose => Step::Choose,
            State::Run => Step::Run { closure: self.at, way: self.way },
            State::Commit => Step::Commit,
            State::RollBack(_) => Step::RollBack,
            State::Answer(fate) => Step::Answer(self.at, fate),
            State::AnswerAll(fate) => Step::AnswerAll(fate),
            State::End => Step::End { poisoned: self.poisoned },
        }
    }

    /// Takes how the step ended and decides the next. An event that does not belong to the step
    /// is a bug of the driver; it ends the batch as a lost transaction would.
    pub fn on(&mut self, event: Event) {
        self.state = match (self.state, event) {
            (State::Begin, Event::Done) => State::Run,
            (State::Begin, _) => self.settle(Fate::Failed),
            (State::Choose, Event::Waiting(age)) if self.takes_more(age) => {
                self.at = self.taken;
                self.taken += 1;
                State::Run
            }
            (State::Choose, _) => State::Commit,
            (State::Run, Event::Kept) if self.way == Way::Alone => State::Commit,
            (State::Run, Event::Kept | Event::Undone) if self.way != Way::Alone => {
                if self.at + 1 < self.taken {
                    self.at += 1;
                    State::Run
                } else {
                    State::Choose
                }
            }
            (State::Run, Event::Mixed) if self.way == Way::Bare => {
                State::RollBack(After::Again(Way::Guarded))
            }
            (State::Run, event) => State::RollBack(self.after_run(event)),
            (State::Commit, Event::Done) => self.settle(Fate::Own),
            (State::Commit, Event::Failed) => State::RollBack(self.after_loss(Fate::Failed)),
            (State::Commit, _) => {
                self.poisoned = true;
                self.settle(Fate::Unknown)
            }
            (State::RollBack(After::Again(way)), Event::Done) => {
                self.way = way;
                self.at = 0;
                State::Begin
            }
            (State::RollBack(After::Answer(fate)), Event::Done) => State::Answer(fate),
            (State::RollBack(after), _) => {
                self.poisoned = true;
                match after {
                    After::Again(_) => State::AnswerAll(Fate::Failed),
                    After::Answer(fate) => State::Answer(fate),
                }
            }
            (State::Answer(_), _) => self.next_alone(),
            (State::AnswerAll(_) | State::End, _) => State::End,
        };
    }

    fn takes_more(&self, age: Duration) -> bool {
        self.taken < self.bounds.closures && age < self.bounds.time
    }

    /// What follows a run that leaves nothing to commit.
    fn after_run(&self, event: Event) -> After {
        match event {
            Event::Undone => After::Answer(Fate::Own),
            Event::Mixed | Event::Lost { refused: true } => self.after_loss(Fate::Own),
            _ => self.after_loss(Fate::Failed),
        }
    }

    /// What follows a lost transaction: with neighbours in it, they are run again one by one.
    const fn after_loss(&self, fate: Fate) -> After {
        match self.way {
            Way::Bare | Way::Guarded if 1 < self.taken => After::Again(Way::Alone),
            _ => After::Answer(fate),
        }
    }

    const fn settle(&self, fate: Fate) -> State {
        match self.way {
            Way::Alone => State::Answer(fate),
            Way::Bare | Way::Guarded => State::AnswerAll(fate),
        }
    }

    fn next_alone(&mut self) -> State {
        self.at += 1;
        if self.taken <= self.at {
            State::End
        } else if self.poisoned {
            State::Answer(Fate::Closed)
        } else {
            State::Begin
        }
    }
}

#[cfg(test)]
mod tests;
