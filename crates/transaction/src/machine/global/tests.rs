use super::*;

const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };

const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn begun() -> Global {
    Global::begin(Xid::from_u128(7), at(100), [1, 2])
}

#[test]
fn each_phase_takes_the_decisions_of_the_table() {
    let mut it = begun();
    assert_eq!(it.commit(at(101)), Err(Refused::Expired));
    assert_eq!(it.phase, Phase::Trying, "a refusal decides nothing");
    assert!(!it.expired(at(100)) && it.expired(at(101)));
    it.commit(at(100)).unwrap();
    assert_eq!((it.commit(at(999)), it.abort()), (Ok(()), Err(Refused::Committed)));
    let mut it = begun();
    it.abort().unwrap();
    assert_eq!((it.abort(), it.commit(at(1))), (Ok(()), Err(Refused::Aborted)));
    let mut empty = Global::begin(Xid::from_u128(8), at(100), []);
    empty.commit(at(1)).unwrap();
    assert_eq!((empty.phase, empty.next()), (Phase::Committed, None));
    for number in 1..=5 {
        assert_eq!(Phase::from_number(number).map(Phase::number), Some(number));
    }
}

#[test]
fn branches_fail_and_finish_each_by_itself() {
    let mut it = begun();
    it.commit(at(1)).unwrap();
    assert_eq!(it.due(at(1), &BACKOFF), Some((Order::Confirm, vec![1, 2])));
    let unknown = || Answer::Unknown("no answer".to_owned());
    it.answered(1, Order::Confirm, unknown(), at(2), &BACKOFF, 0.0);
    it.answered(2, Order::Confirm, Answer::NotYet(Duration::from_secs(4)), at(2), &BACKOFF, 0.0);
    assert_eq!(it.due(at(3), &BACKOFF), Some((Order::Confirm, vec![1])));
    assert_eq!(it.due(at(6), &BACKOFF), Some((Order::Confirm, vec![1, 2])));
    assert_eq!(it.branches[1].attempts, 0, "not yet is no failure");
    it.answered(1, Order::Cancel, Answer::Done, at(6), &BACKOFF, 0.0);
    assert!(!it.branches[0].done, "an answer to another order says nothing");
    it.answered(1, Order::Confirm, Answer::Done, at(6), &BACKOFF, 0.0);
    it.answered(1, Order::Confirm, unknown(), at(7), &BACKOFF, 0.0);
    assert!(it.branches[0].done, "what is done stays done");
    it.answered(2, Order::Confirm, Answer::Done, at(7), &BACKOFF, 0.0);
    assert_eq!(it.phase, Phase::Committed);
}

#[test]
fn an_alarm_or_many_failures_call_for_a_human_until_it_works() {
    let mut it = begun();
    it.commit(at(1)).unwrap();
    it.answered(1, Order::Confirm, Answer::Alarm("conflict".into()), at(1), &BACKOFF, 0.0);
    assert!(it.stuck() && it.branches[0].next == at(2));
    it.answered(1, Order::Confirm, Answer::Done, at(2), &BACKOFF, 0.0);
    assert!(!it.stuck());
    for failures in 1..=STUCK_AFTER {
        assert!(!it.stuck(), "{failures}");
        it.answered(2, Order::Confirm, Answer::Unknown("x".into()), at(3), &BACKOFF, 0.0);
    }
    assert!(it.stuck());
}

#[test]
fn a_wall_clock_that_steps_back_delays_nothing_for_long() {
    let mut it = begun();
    it.commit(at(50)).unwrap();
    it.answered(1, Order::Confirm, Answer::Unknown("x".into()), at(5000), &BACKOFF, 0.0);
    assert_eq!(it.due(at(60), &BACKOFF), Some((Order::Confirm, vec![1, 2])));
}

#[test]
fn an_own_branch_that_cannot_be_cancelled_is_listed_until_it_can() {
    let mut it = begun();
    it.own_failed("no such order".into(), at(101), &BACKOFF, 0.0);
    assert!(it.stuck() && it.phase == Phase::Trying);
    assert_eq!(it.next(), Some(at(102)));
    it.own_failed("no such order".into(), at(102), &BACKOFF, 0.0);
    assert_eq!(it.next(), Some(at(104)));
    it.abort().unwrap();
    assert!(!it.stuck());
    assert_eq!(it.due(at(104), &BACKOFF), Some((Order::Cancel, vec![1, 2])));
}
