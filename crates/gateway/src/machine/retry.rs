//! Which instance serves a request, and whether the request may be sent once more.
//!
//! | what happened | any method, body untouched | safe method, no body | idempotent method, no body, route is `retryable` | else |
//! |---|---|---|---|---|
//! | nothing was sent (refused, pool closed) | next instance | next instance | next instance | end |
//! | connection lost before the answer's head | end | next instance | next instance | end |
//! | no answer in time | end | end | next instance | end |
//! | the head of an answer came | end | end | end | end |
//!
//! A lost connection tells nothing about whether the service saw the request; a safe method may be
//! repeated even so (RFC 9110 §9.2.2), which is what keeps a killed instance from showing. Every
//! repeat after something was sent costs a token of the [`Budget`], so that repeats cannot
//! multiply an outage; a repeat of what was never sent loads nobody and is free. All of it is
//! bounded by [`ATTEMPTS_MAX`] and the request's deadline.

/// How often one request may be sent, the first time included.
pub const ATTEMPTS_MAX: usize = 4;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No byte of the request left.
    NothingSent,
    /// The connection ended before the head of an answer.
    Lost,
    /// No head of an answer in time.
    TimedOut,
    /// The head of an answer came, or the fault is the client's.
    Final,
}

/// What is known of a request when an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// GET, HEAD or OPTIONS.
    pub safe: bool,
    /// Safe, or PUT or DELETE.
    pub idempotent: bool,
    /// Whether it has a body.
    pub has_body: bool,
    /// Whether nothing of the body has been read yet.
    pub body_untouched: bool,
    /// Whether the route allows repeats.
    pub retryable: bool,
}

impl Request {
    /// What the method says.
    #[must_use]
    pub fn new(method: &str, has_body: bool, retryable: bool) -> Self {
        let safe = matches!(method, "GET" | "HEAD" | "OPTIONS");
        let idempotent = safe || matches!(method, "PUT" | "DELETE");
        Self { safe, idempotent, has_body, body_untouched: true, retryable }
    }
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try another instance; free of charge.
    Again,
    /// Try another instance if the budget has a token.
    AgainForToken,
    /// Answer with the failure.
    End,
}

/// Decides after a failed attempt.
#[must_use]
pub const fn next(failure: Failure, request: Request, attempts: usize) -> Next {
    if ATTEMPTS_MAX <= attempts {
        return Next::End;
    }
    let repeatable = !request.has_body && request.idempotent && request.retryable;
    match failure {
        Failure::NothingSent if request.body_untouched => Next::Again,
        Failure::Lost if (request.safe && !request.has_body) || repeatable => Next::AgainForToken,
        Failure::TimedOut if repeatable => Next::AgainForToken,
        Failure::NothingSent | Failure::Lost | Failure::TimedOut | Failure::Final => Next::End,
    }
}

/// How many repeats a route may afford: a fifth of its requests, and a reserve for quiet times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Fifths of a token.
    fifths: u32,
}

impl Budget {
    /// The reserve, in tokens.
    pub const RESERVE: u32 = 64;

    /// A full budget.
    #[must_use]
    pub const fn new() -> Self {
        Self { fifths: Self::RESERVE * 5 }
    }

    /// A request came.
    pub fn earn(&mut self) {
        self.fifths = (self.fifths + 1).min(Self::RESERVE * 5);
    }

    /// Takes a token for a repeat, if there is one.
    pub const fn spend(&mut self) -> bool {
        match self.fifths.checked_sub(5) {
            Some(rest) => {
                self.fifths = rest;
                true
            }
            None => false,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

/// Picks the next of `count` instances in turn, leaving out what was tried and, while there are
/// others, what is shunned.
///
/// `turn` is the route's counter; the answer is a place below `count`.
#[must_use]
pub fn choose(
    count: usize,
    turn: usize,
    tried: impl Fn(usize) -> bool,
    shunned: impl Fn(usize) -> bool,
) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let places = || (0..count).map(|step| turn.wrapping_add(step) % count);
    places().find(|at| !tried(*at) && !shunned(*at)).or_else(|| places().find(|at| !tried(*at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_of_repeats() {
        use Failure as F;
        use Next as N;
        let get = Request::new("GET", false, false);
        let put = Request::new("PUT", false, true);
        let put_body = Request::new("PUT", true, true);
        let post = Request::new("POST", true, true);
        let touched = Request { body_untouched: false, ..post };
        let table = [
            (F::NothingSent, get, N::Again),
            (F::NothingSent, post, N::Again),
            (F::NothingSent, touched, N::End),
            (F::Lost, get, N::AgainForToken),
            (F::Lost, put, N::AgainForToken),
            (F::Lost, Request { retryable: false, ..put }, N::End),
            (F::Lost, put_body, N::End),
            (F::Lost, post, N::End),
            (F::Lost, Request::new("POST", false, true), N::End),
            (F::Lost, Request::new("GET", true, true), N::End),
            (F::TimedOut, get, N::End),
            (F::TimedOut, Request { retryable: true, ..get }, N::AgainForToken),
            (F::TimedOut, post, N::End),
            (F::Final, get, N::End),
        ];
        for (failure, request, want) in table {
            assert_eq!(next(failure, request, 1), want, "{failure:?} {request:?}");
            assert_eq!(next(failure, request, ATTEMPTS_MAX), N::End);
        }
    }

    #[test]
    fn the_budget_affords_a_fifth_and_its_reserve() {
        let mut budget = Budget::new();
        let burst = std::iter::from_fn(|| budget.spend().then_some(())).take(1000).count();
        assert_eq!(burst, 64);
        let mut spent = 0;
        for _ in 0..100 {
            budget.earn();
            spent += usize::from(budget.spend());
        }
        assert_eq!(spent, 20);
    }

    proptest! {
        /// GATE-5
        #[test]
        fn what_may_have_been_seen_is_repeated_only_if_harmless(
            method in "(GET|HEAD|OPTIONS|PUT|DELETE|POST|PATCH|LOCK)",
            has_body in any::<bool>(),
            retryable in any::<bool>(),
            timed_out in any::<bool>(),
        ) {
            let request = Request::new(&method, has_body, retryable);
            let failure = if timed_out { Failure::TimedOut } else { Failure::Lost };
            if next(failure, request, 1) != Next::End {
                prop_assert!(request.idempotent && !has_body);
            }
        }

        #[test]
        fn turns_go_round_and_tried_ones_are_left_out(count in 1_usize..9, turn in any::<usize>()) {
            let mut seen = Vec::new();
            while let Some(at) = choose(count, turn, |it| seen.contains(&it), |it| it == 0) {
                prop_assert!(at < count);
                seen.push(at);
            }
            prop_assert_eq!(seen.len(), count);
            prop_assert_eq!(*seen.last().unwrap(), 0, "the shunned one is the last resort");
        }
    }
}
