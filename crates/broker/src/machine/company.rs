//! Which deliveries of a lane travel in one request, and what its answer says of them.

use std::time::Duration;

/// Attempts after which a delivery travels alone: what makes its subscriber fail as a whole must
/// not use up the attempts of others.
pub const ATTEMPTS: u32 = 3;
/// How long a lane whose subscriber did not take several gets them one by one.
pub const APART: Duration = Duration::from_secs(60);

/// How large a request may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most deliveries of it.
    pub events: usize,
    /// The most bytes of them.
    pub bytes: usize,
}

/// Cuts deliveries of these sizes into requests: how many each has, in their order. None has more
/// than it may, unless it has one alone.
#[must_use]
pub fn cut(sizes: &[usize], limits: Limits) -> Vec<usize> {
    let mut requests: Vec<usize> = Vec::new();
    let mut bytes = 0_usize;
    for size in sizes {
        bytes = bytes.saturating_add(*size);
        match requests.last_mut() {
            Some(last) if *last < limits.events && bytes <= limits.bytes => *last += 1,
            _ => {
                requests.push(1);
                bytes = *size;
            }
        }
    }
    requests
}

/// Whether an answer to the request as a whole, which does not say what became of each delivery,
/// is one for each of them; else each is sent alone. It is never the end of a delivery: a success
/// that names none acknowledges none, and a refusal may be meant for the form, or for one of them.
#[must_use]
pub const fn is_for_all(status: u16) -> bool {
    // Redirects and faults, and what asks for time.
    matches!(status, 300..=399 | 408 | 425 | 429 | 500..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_to_the_whole_ends_no_delivery() {
        for status in 100..=999 {
            let ends = matches!(status, 200..=299 | 409 | 410 | 422);
            assert!(!(ends && is_for_all(status)), "{status}");
        }
        for form in [400, 401, 404, 405, 413, 415, 422] {
            assert!(!is_for_all(form), "{form}");
        }
        for fault in [302, 425, 429, 500, 502, 503, 504] {
            assert!(is_for_all(fault), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn every_delivery_is_in_one_request_and_none_is_too_large(
            sizes in proptest::collection::vec(0_usize..200, 0..100),
            events in 1_usize..40,
            bytes in 1_usize..1000,
        ) {
            let limits = Limits { events, bytes };
            let requests = cut(&sizes, limits);
            prop_assert_eq!(requests.iter().sum::<usize>(), sizes.len());
            let mut rest = &sizes[..];
            let mut before: Option<(usize, usize)> = None;
            for count in requests {
                let (request, after) = rest.split_at(count);
                let sum: usize = request.iter().sum();
                prop_assert!(count == 1 || (count <= events && sum <= bytes));
                if let Some((count, sum)) = before {
                    prop_assert!(count == events || bytes < sum + request[0], "it had room");
                }
                before = Some((count, sum));
                rest = after;
            }
            prop_assert!(rest.is_empty());
        }
    }
}
