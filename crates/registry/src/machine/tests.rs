//! What the table promises, case by case. Histories at random are in `property`.

use std::time::Duration;

use tradewind_base::{Monotonic, Timestamp};
use tradewind_eureka::{ActionType, Instance, LeaseInfo, Metadata, Status};

use super::{
    Extra, Item, Key, Limits, Now, Origin, Outcome, Reason, Refusal, Renewal, Replica, Reply,
    Respects, Rules, Source, Stage, Table, Verdict, What, Why,
};

const WALL: i64 = 1_700_000_000_000;

pub(super) fn now(millis: u64) -> Now {
    Now {
        wall: Timestamp::from_millis(WALL + i64::try_from(millis).unwrap()),
        mono: Monotonic::from_millis(millis),
    }
}

/// Tests jump in time, which must not look like a pause.
pub(super) fn table() -> Table {
    let limits = Limits { pause_min: Duration::from_secs(86_400), ..Limits::default() };
    Table::new(limits, Rules::default(), now(0))
}

pub(super) fn key(id: &str) -> Key {
    Key::new("orders", id)
}

pub(super) fn instance(id: &str, duration_secs: i32, dirty: i64) -> Instance {
    Instance {
        instance_id: Some(id.into()),
        host_name: format!("host-{id}"),
        app: "ORDERS".into(),
        ip_addr: "10.0.0.1".into(),
        lease: LeaseInfo { duration_secs, renewal_interval_secs: 1, ..LeaseInfo::default() },
        vip_address: Some("orders".into()),
        last_dirty_ts: Some(dirty),
        ..Instance::default()
    }
}

/// Lets the clock run as the server does: a check each 250 ms.
fn run(table: &mut Table, from: u64, to: u64) -> Vec<(Key, u64)> {
    let mut gone = Vec::new();
    for at in (from..=to).step_by(250) {
        gone.extend(table.expire(now(at)).into_iter().map(|it| (it.key, at)));
    }
    gone
}

fn dirty(table: &Table, id: &str) -> i64 {
    table.instance(&key(id), now(0)).unwrap().last_dirty_ts.unwrap()
}

/// R1.2: no doubling of the lease, neither with nor without a heartbeat.
#[test]
fn a_lease_ends_exactly_when_it_says() {
    let mut table = table();
    table.register(instance("a", 3, 1), now(0)).unwrap();
    table.register(instance("b", 3, 1), now(0)).unwrap();
    assert_eq!(run(&mut table, 0, 2000), []);
    assert_eq!(table.renew(&key("b"), Some(1), now(2000)), Renewal::Renewed);
    assert_eq!(run(&mut table, 2250, 10_000), [(key("a"), 3000), (key("b"), 5000)]);
    assert!(table.is_empty());
}

#[test]
fn a_heartbeat_of_an_unknown_a_newer_and_a_statusless_client_asks_for_registration() {
    let mut table = table();
    assert_eq!(table.renew(&key("a"), None, now(0)), Renewal::Register);
    table.register(instance("a", 90, 5), now(0)).unwrap();
    assert_eq!(table.renew(&key("a"), Some(6), now(0)), Renewal::Register, "client is newer");
    assert_eq!(table.renew(&key("a"), Some(4), now(0)), Renewal::Renewed, "client is older");
    assert_eq!(table.renew(&key("a"), None, now(0)), Renewal::Renewed, "client does not say");
    table.register(Instance { status: Status::Unknown, ..instance("b", 90, 5) }, now(0)).unwrap();
    assert_eq!(table.renew(&key("b"), Some(5), now(0)), Renewal::Register);
}

#[test]
fn a_clock_that_stepped_back_does_not_bring_an_old_address_back() {
    let mut table = table();
    table.register(instance("a", 90, 100), now(0)).unwrap();
    let moved = Instance { ip_addr: "10.0.0.2".into(), ..instance("a", 90, 50) };
    table.register(moved, now(1)).unwrap();
    assert_eq!(table.instance(&key("a"), now(1)).unwrap().ip_addr, "10.0.0.2");
    assert_eq!(dirty(&table, "a"), 101);
    assert_eq!(table.renew(&key("a"), Some(50), now(2)), Renewal::Renewed);
    let late = Replica::stock(instance("a", 90, 100).into());
    assert!(matches!(table.merge(&late, Origin::Stock, now(3)), Verdict::Newer(_)));
    assert_eq!(table.instance(&key("a"), now(3)).unwrap().ip_addr, "10.0.0.2");
}

#[test]
fn a_repeated_registration_changes_nothing() {
    let mut table = table();
    table.register(instance("a", 90, 100), now(0)).unwrap();
    table.register(instance("a", 90, 100), now(10)).unwrap();
    assert_eq!((table.revision(), dirty(&table, "a")), (1, 100));
    assert_eq!(table.explain(&key("a"), now(10)).unwrap().silent_for, Duration::ZERO);
    table.register(Instance { status: Status::Down, ..instance("a", 90, 100) }, now(10)).unwrap();
    assert_eq!((table.revision(), dirty(&table, "a")), (2, 101));
}

#[test]
fn a_cancel_is_final_for_what_it_covers() {
    let mut table = table();
    table.register(instance("a", 30, 100), now(0)).unwrap();
    assert!(table.cancel(&key("a"), now(1)));
    assert!(!table.cancel(&key("a"), now(1)), "a second cancel finds nothing");
    let late = Replica::stock(instance("a", 30, 100).into());
    assert!(matches!(
        table.merge(&late, Origin::Stock, now(2)),
        Verdict::Buried { dirty: 100, age } if age == Duration::from_millis(1)
    ));
    let beat = table.merge_heartbeat(
        &key("a"),
        Some(99),
        Status::Unknown,
        Duration::ZERO,
        Origin::Tradewind,
        now(2),
    );
    assert!(matches!(beat, Verdict::Buried { .. }));
    assert!(table.is_empty());
    // Its client may come back at once, with whatever clock.
    table.register(instance("a", 30, 7), now(3)).unwrap();
    assert_eq!(dirty(&table, "a"), 101);
}

#[test]
fn a_tombstone_is_kept_for_the_longest_lease() {
    let mut table = table();
    table.register(instance("long", 200, 1), now(0)).unwrap();
    table.register(instance("a", 3, 1), now(0)).unwrap();
    table.cancel(&key("a"), now(0));
    for at in (0..=200_000).step_by(500) {
        table.renew(&key("long"), None, now(at));
        table.expire(now(at));
    }
    assert_eq!(table.tombstones(), 1);
    table.renew(&key("long"), None, now(200_500));
    table.expire(now(200_500));
    assert_eq!(table.tombstones(), 0);
}

#[test]
fn an_override_hides_the_status_of_a_client_in_service_only() {
    let mut table = table();
    table.register(instance("a", 90, 1), now(0)).unwrap();
    assert!(table.set_override(&key("a"), Status::OutOfService, None, now(1)));
    let shown = table.instance(&key("a"), now(1)).unwrap();
    assert_eq!(
        (shown.status, shown.overridden_status, shown.action_type),
        (Status::OutOfService, Status::OutOfService, Some(ActionType::Modified))
    );
    // It survives a registration, and a client that reports itself down is believed.
    table.register(instance("a", 90, 10), now(2)).unwrap();
    assert_eq!(table.instance(&key("a"), now(2)).unwrap().status, Status::OutOfService);
    table.register(Instance { status: Status::Down, ..instance("a", 90, 20) }, now(3)).unwrap();
    assert_eq!(table.instance(&key("a"), now(3)).unwrap().status, Status::Down);
    assert!(!table.set_override(&key("nobody"), Status::Down, None, now(3)));
}

#[test]
fn deleting_an_override_makes_the_client_register() {
    let mut table = table();
    table.register(instance("a", 90, 1), now(0)).unwrap();
    table.set_override(&key("a"), Status::OutOfService, None, now(1));
    assert!(table.delete_override(&key("a"), None, None, now(2)));
    assert_eq!(table.instance(&key("a"), now(2)).unwrap().status, Status::Unknown);
    assert_eq!(table.renew(&key("a"), Some(1), now(3)), Renewal::Register);
    table.register(instance("a", 90, 1), now(4)).unwrap();
    assert_eq!(table.instance(&key("a"), now(4)).unwrap().status, Status::Up);
    let revision = table.revision();
    assert!(table.delete_override(&key("a"), None, None, now(5)), "none stored: nothing to do");
    assert_eq!(table.revision(), revision);
}

#[test]
fn an_override_waits_for_an_instance_that_expired_but_not_for_one_that_left() {
    let mut table = table();
    for id in ["expires", "leaves"] {
        table.register(instance(id, 3, 1), now(0)).unwrap();
        table.set_override(&key(id), Status::OutOfService, None, now(0));
    }
    table.cancel(&key("leaves"), now(10));
    run(&mut table, 0, 5000);
    for (id, status) in [("expires", Status::OutOfService), ("leaves", Status::Up)] {
        table.register(instance(id, 3, 1), now(5000)).unwrap();
        assert_eq!(table.instance(&key(id), now(5000)).unwrap().status, status, "{id}");
    }
}

#[test]
fn the_same_id_in_two_applications_has_two_overrides() {
    let mut table = table();
    table.register(instance("a", 90, 1), now(0)).unwrap();
    table.register(Instance { app: "PAY".into(), ..instance("a", 90, 1) }, now(0)).unwrap();
    table.set_override(&key("a"), Status::OutOfService, None, now(1));
    let other = table.instance(&Key::new("pay", "a"), now(1)).unwrap();
    assert_eq!((other.status, other.overridden_status), (Status::Up, Status::Unknown));
}

#[test]
fn metadata_is_added_and_bounded() {
    let mut table = table();
    table.register(instance("a", 90, 1), now(0)).unwrap();
    let pairs: Metadata = [("version", "new")].into_iter().collect();
    assert_eq!(table.add_metadata(&key("a"), &pairs, now(1)), Ok(Some(())));
    let shown = table.instance(&key("a"), now(1)).unwrap();
    assert_eq!(shown.metadata.get("version"), Some("new"));
    assert_eq!((shown.last_dirty_ts, table.revision()), (Some(2), 2));
    assert_eq!(table.add_metadata(&key("a"), &pairs, now(1)), Ok(Some(())));
    assert_eq!(table.revision(), 2, "a repeat changes nothing");
    let large: Metadata = [("k", "v".repeat(20_000))].into_iter().collect();
    assert!(matches!(
        table.add_metadata(&key("a"), &large, now(1)),
        Err(Refusal::TooLarge { field: "metadata", .. })
    ));
    assert_eq!(table.add_metadata(&key("b"), &pairs, now(1)), Ok(None));
}

#[test]
fn limits_refuse_and_change_nothing() {
    let limits = Limits { instances_max: 3, instances_per_app_max: 2, ..Limits::default() };
    let mut table = Table::new(limits, Rules::default(), now(0));
    for id in ["a", "b"] {
        table.register(instance(id, 90, 1), now(0)).unwrap();
    }
    assert_eq!(table.register(instance("c", 90, 1), now(0)), Err(Refusal::AppFull { max: 2 }));
    table.register(Instance { app: "PAY".into(), ..instance("c", 90, 1) }, now(0)).unwrap();
    let other = Instance { app: "OTHER".into(), ..instance("d", 90, 1) };
    assert_eq!(table.register(other, now(0)), Err(Refusal::TableFull { max: 3 }));
    table.register(instance("a", 90, 2), now(0)).unwrap();
    let long = instance(&"x".repeat(300), 90, 1);
    assert!(matches!(table.register(long, now(0)), Err(Refusal::NameTooLong { .. })));
    let pages = Instance { home_page_url: Some("u".repeat(20_000)), ..instance("a", 90, 3) };
    assert!(matches!(table.register(pages, now(0)), Err(Refusal::TooLarge { .. })));
    assert_eq!(table.revision(), 4);
}

#[test]
fn an_absurd_lease_is_cut_and_an_absurd_timestamp_leaves_room() {
    let mut table = table();
    table.register(instance("a", i32::MAX, i64::MAX), now(0)).unwrap();
    assert_eq!(table.explain(&key("a"), now(0)).unwrap().lease, Duration::from_secs(3600));
    assert_eq!(table.instance(&key("a"), now(0)).unwrap().lease.duration_secs, 3600);
    let before = dirty(&table, "a");
    let moved = Instance { ip_addr: "10.0.0.9".into(), ..instance("a", 90, i64::MIN) };
    table.register(moved, now(1)).unwrap();
    assert_eq!(dirty(&table, "a"), before + 1);
    assert_eq!(table.renew(&key("a"), Some(i64::MAX), now(1)), Renewal::Renewed);
}

fn fleet(table: &mut Table, count: usize) {
    for n in 0..count {
        table.register(instance(&n.to_string(), 3, 1), now(0)).unwrap();
    }
}

/// R1.3: a part of the estate falls silent at once; nobody is removed, and it is said why.
#[test]
fn protection_holds_what_fell_silent_together_and_says_so() {
    let mut table = table();
    fleet(&mut table, 12);
    for at in (0..=10_000).step_by(250) {
        for n in 4..12 {
            table.renew(&key(&n.to_string()), None, now(at));
        }
        assert_eq!(table.expire(now(at)), []);
    }
    let why = table.explain(&key("0"), now(10_000)).unwrap();
    let text = why.protected.unwrap();
    assert!(text.contains("4 of 12 instances on 4 hosts"), "{text}");
    assert_eq!(why.left, Duration::ZERO);
    assert!(text.starts_with("ORDERS: "), "its own application's, not another's: {text}");
    assert_eq!(table.protections(now(10_000)).len(), 2, "the application and all together");
    // A heartbeat brings one back, and three of twelve are still more than 15 %.
    table.renew(&key("0"), None, now(10_000));
    assert!(table.explain(&key("0"), now(10_000)).unwrap().protected.is_none());
}

/// R1.3: protection ends by itself, when they return or when its time is up.
#[test]
fn protection_ends_by_itself() {
    let mut table = table();
    fleet(&mut table, 12);
    let mut gone = Vec::new();
    for at in (0..=310_000).step_by(250) {
        for n in 4..12 {
            table.renew(&key(&n.to_string()), None, now(at));
        }
        gone.extend(table.expire(now(at)).into_iter().map(|_| at));
    }
    assert_eq!(gone, [302_000; 4], "two seconds until they were late, and five minutes");
    assert_eq!(table.protections(now(310_000)), []);
}

#[test]
fn a_refused_probe_evicts_under_protection_too() {
    let mut table = table();
    fleet(&mut table, 12);
    run(&mut table, 0, 4000);
    assert!(table.explain(&key("0"), now(4000)).unwrap().protected.is_some());
    table.suspect(&key("0"), Reason::Refused, "gateway", now(4000));
    let order = table.due_probes(9, now(4000)).pop().unwrap();
    let removed = table.probed(&order, Outcome::Refused, now(4000)).unwrap();
    assert_eq!((removed.key, removed.why), (key("0"), Why::Refused));
    assert_eq!(table.len(), 11);
}

/// R1.3: it can be switched off.
#[test]
fn without_protection_all_of_them_go() {
    let rules = Rules { enabled: false, ..Rules::default() };
    let mut table = Table::new(Limits::default(), rules, now(0));
    fleet(&mut table, 12);
    assert_eq!(run(&mut table, 0, 3000).len(), 12);
}

#[test]
fn a_paused_process_does_not_take_its_pause_for_silence() {
    let mut table = Table::new(Limits::default(), Rules::default(), now(0));
    table.register(instance("a", 3, 1), now(0)).unwrap();
    table.expire(now(1000));
    assert_eq!(table.expire(now(61_000)), [], "nothing ran for a minute");
    assert_eq!(run(&mut table, 61_000, 70_000), [(key("a"), 63_000)]);
}

#[test]
fn a_delta_has_each_instance_once_and_the_hash_of_its_own_revision() {
    let mut table = table();
    table.register(instance("a", 90, 1), now(0)).unwrap();
    table.register(instance("b", 90, 1), now(0)).unwrap();
    table.set_override(&key("a"), Status::OutOfService, None, now(1));
    table.cancel(&key("b"), now(2));
    let delta = table.delta(now(3)).unwrap();
    let (app, docs) = delta.apps.first().unwrap();
    let seen: Vec<_> =
        docs.iter().map(|it| (it.effective_id(), it.action_type, it.status)).collect();
    assert_eq!(&**app, "ORDERS");
    assert_eq!(
        seen,
        [
            ("a", Some(ActionType::Modified), Status::OutOfService),
            ("b", Some(ActionType::Deleted), Status::Up),
        ]
    );
    assert_eq!((delta.hash_code.as_str(), delta.revision), ("OUT_OF_SERVICE_1_", 4));
}

#[test]
fn only_what_nobody_can_hold_yet_is_added() {
    let mut table = table();
    let action = |table: &mut Table| {
        let delta = table.delta(now(9)).unwrap();
        delta.apps.first().unwrap().1.first().unwrap().action_type
    };
    table.register(instance("a", 90, 1), now(0)).unwrap();
    assert_eq!(action(&mut table), Some(ActionType::Added));
    table.register(instance("a", 90, 2), now(1)).unwrap();
    assert_eq!(action(&mut table), Some(ActionType::Modified), "registered again");
    table.cancel(&key("a"), now(2));
    table.register(instance("a", 90, 3), now(3)).unwrap();
    assert_eq!(action(&mut table), Some(ActionType::Modified), "left and came back");
}

#[test]
fn a_change_leaves_the_delta_after_its_time() {
    let mut table = table();
    table.register(instance("a", 600, 1), now(0)).unwrap();
    table.register(instance("b", 600, 1), now(100_000)).unwrap();
    table.expire(now(180_000));
    assert_eq!(table.delta(now(180_000)).unwrap().apps.first().unwrap().1.len(), 2);
    let before = table.delta_version(now(180_000));
    assert_ne!(table.delta_version(now(180_001)), before);
    assert_eq!(table.delta(now(180_001)).unwrap().apps.first().unwrap().1.len(), 1);
}

#[test]
fn a_window_that_overflowed_is_not_shown_until_it_is_whole_again() {
    let limits = Limits { delta_max: 2, pause_min: Duration::from_secs(9999), ..Limits::default() };
    let mut table = Table::new(limits, Rules::default(), now(0));
    for id in ["a", "b", "c"] {
        table.register(instance(id, 3600, 1), now(0)).unwrap();
    }
    assert!(table.delta(now(1)).is_none());
    assert!(table.delta(now(180_001)).is_some());
}

#[test]
fn a_stream_resumes_from_what_is_still_known() {
    let limits = Limits { history_max: 2, ..Limits::default() };
    let mut table = Table::new(limits, Rules::default(), now(0));
    for id in ["a", "b", "c"] {
        table.register(instance(id, 90, 1), now(0)).unwrap();
    }
    let since = |table: &Table, revision| {
        table.changes_since(revision).map(|it| it.map(|it| it.revision).collect::<Vec<_>>())
    };
    assert_eq!(since(&table, 1), Some(vec![2, 3]));
    assert_eq!(since(&table, 3), Some(vec![]));
    assert_eq!(since(&table, 0), None, "forgotten");
    assert_eq!(since(&table, 4), None, "of another life");
    table.cancel(&key("b"), now(1));
    let last = table.changes_since(3).unwrap().next().unwrap().clone();
    assert_eq!((last.key, last.what), (key("b"), What::Remove(Why::Cancelled)));
}

#[test]
fn a_suspicion_is_probed_once_and_not_sooner_than_the_pause_allows() {
    let mut table = table();
    table.register(instance("a", 90, 1), now(0)).unwrap();
    for by in ["order", "gateway"] {
        assert!(table.suspect(&key("a"), Reason::Refused, by, now(0)));
    }
    let orders = table.due_probes(9, now(0));
    let (host, port) = orders.first().map(|it| (it.host.as_str(), it.port)).unwrap();
    assert_eq!((orders.len(), host, port), (1, "host-a", 7001));
    let state = table.explain(&key("a"), now(1)).unwrap().suspicion.unwrap();
    assert_eq!((state.reports, &*state.by, state.stage), (2, "order", Stage::Probing));
    assert_eq!(table.probed(orders.first().unwrap(), Outcome::Connected, now(5)), None);
    assert!(table.explain(&key("a"), now(5)).unwrap().suspicion.is_none());
    table.suspect(&key("a"), Reason::Timeout, "order", now(10));
    assert_eq!(table.due_probes(9, now(10)), []);
    assert_eq!(table.next_probe_in(now(10)), Some(Duration::from_millis(490)));
    assert_eq!(table.due_probes(9, now(500)).len(), 1);
    assert!(!table.suspect(&key("nobody"), Reason::Refused, "order", now(0)));
}

#[test]
fn a_probe_without_an_answer_leaves_it_to_the_lease() {
    let mut table = table();
    table.register(instance("a", 3, 1), now(0)).unwrap();
    table.suspect(&key("a"), Reason::Timeout, "order", now(0));
    let order = table.due_probes(1, now(0)).pop().unwrap();
    assert_eq!(table.probed(&order, Outcome::Unanswered, now(400)), None);
    assert_eq!(
        table.explain(&key("a"), now(400)).unwrap().suspicion.unwrap().stage,
        Stage::Unanswered
    );
    assert_eq!(run(&mut table, 500, 4000), [(key("a"), 3000)]);
}

#[test]
fn a_registration_during_the_probe_overtakes_its_result() {
    let mut table = table();
    table.register(instance("a", 3, 1), now(0)).unwrap();
    table.suspect(&key("a"), Reason::Refused, "order", now(1));
    let order = table.due_probes(1, now(1)).pop().unwrap();
    table.register(instance("a", 3, 2), now(2)).unwrap();
    assert_eq!(table.probed(&order, Outcome::Refused, now(3)), None);
    assert_eq!(table.len(), 1);
}

fn replica(table: &Table, id: &str, at: u64) -> Replica {
    match table.items(&key(id), Respects::CONTENT, Origin::Tradewind, now(at)).pop() {
        Some(Item::Register(replica)) => replica,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_copy_keeps_the_age_of_its_lease() {
    let (mut a, mut b) = (table(), table());
    a.register(instance("x", 3, 1), now(0)).unwrap();
    let late = replica(&a, "x", 2000);
    assert!(matches!(b.merge(&late, Origin::Tradewind, now(2000)), Verdict::Done));
    let why = b.explain(&key("x"), now(2000)).unwrap();
    assert_eq!((why.source, why.left), (Source::Peer, Duration::from_secs(1)));
    assert!(a.items(&key("x"), Respects::ALL, Origin::Tradewind, now(3000)).is_empty());
    let over = Replica {
        extra: Extra { renewed: Duration::from_secs(3), ..late.extra },
        doc: instance("y", 3, 1).into(),
    };
    b.merge(&over, Origin::Tradewind, now(2000));
    assert!(b.explain(&key("y"), now(2000)).is_none(), "its lease was over when it came");
}

#[test]
fn the_node_the_client_speaks_with_wins_over_a_larger_timestamp_elsewhere() {
    let (mut a, mut b) = (table(), table());
    a.register(instance("x", 90, 100), now(0)).unwrap();
    // b restarted, and the client, whose clock stepped back, registered there with a new address.
    let moved = Instance { ip_addr: "10.0.0.2".into(), ..instance("x", 90, 50) };
    b.register(moved, now(5000)).unwrap();
    let Verdict::Newer(ours) = a.merge(&replica(&b, "x", 5001), Origin::Tradewind, now(5001))
    else {
        panic!("a knows a larger timestamp")
    };
    b.on_reply(&key("x"), Reply::Newer(ours), Origin::Tradewind, now(5002));
    assert!(b.take_outgoing().contains(&(key("x"), Respects::ALL)));
    assert_eq!(dirty(&b, "x"), 101);
    a.merge(&replica(&b, "x", 5003), Origin::Tradewind, now(5003));
    assert_eq!(a.instance(&key("x"), now(5003)).unwrap().ip_addr, "10.0.0.2");
}

#[test]
fn a_client_that_spoke_after_the_cancel_is_alive() {
    let (mut a, mut b) = (table(), table());
    a.register(instance("x", 90, 100), now(0)).unwrap();
    b.merge(&replica(&a, "x", 0), Origin::Tradewind, now(0));
    a.cancel(&key("x"), now(1000));
    b.renew(&key("x"), None, now(1500));
    let verdict = b.merge_cancel(&key("x"), Some(100), Duration::from_millis(900), now(1900));
    let Verdict::Newer(raised) = verdict else { panic!("{verdict:?}") };
    assert!(matches!(a.merge(&raised, Origin::Tradewind, now(1950)), Verdict::Done));
    assert_eq!((a.len(), b.len()), (1, 1));
}

#[test]
fn a_stock_peer_is_understood() {
    let mut table = table();
    let doc = instance("x", 90, 100);
    assert!(matches!(
        table.merge(&Replica::stock(doc.clone().into()), Origin::Stock, now(0)),
        Verdict::Done
    ));
    let beat = |table: &mut Table, dirty| {
        table.merge_heartbeat(
            &key("x"),
            dirty,
            Status::Unknown,
            Duration::ZERO,
            Origin::Stock,
            now(1),
        )
    };
    assert!(matches!(beat(&mut table, Some(100)), Verdict::Done));
    assert!(matches!(beat(&mut table, Some(101)), Verdict::Unknown));
    assert!(matches!(beat(&mut table, Some(99)), Verdict::Newer(_)));
    assert!(matches!(beat(&mut table, None), Verdict::Done));
    // A tie goes to the incoming one, as a stock server has it.
    let tie = Instance { ip_addr: "10.0.0.7".into(), ..doc };
    table.merge(&Replica::stock(tie.into()), Origin::Stock, now(2));
    assert_eq!(table.instance(&key("x"), now(2)).unwrap().ip_addr, "10.0.0.7");
    table.merge_override(&key("x"), Status::OutOfService, None, Some(105), now(3));
    assert_eq!(table.instance(&key("x"), now(3)).unwrap().status, Status::OutOfService);
    table.merge_override(&key("x"), Status::Unknown, Some(Status::Up), Some(106), now(4));
    assert_eq!(table.instance(&key("x"), now(4)).unwrap().status, Status::Up);
    assert!(matches!(table.merge_cancel(&key("x"), None, Duration::ZERO, now(5)), Verdict::Done));
    assert!(table.is_empty());
    assert!(table.take_outgoing().is_empty(), "what a peer tells is passed on to nobody");
}

#[test]
fn the_table_is_warm_after_its_time_or_a_sync() {
    let mut table = table();
    assert!(!table.warm(now(4999)));
    assert!(table.warm(now(5000)));
    table.set_synced();
    assert!(table.warm(now(0)));
}

/// What protection holds takes no place in a page: one that looked short would end the exchange
/// before the rest was told.
#[test]
fn a_full_exchange_goes_on_past_what_is_held() {
    let mut table = table();
    fleet(&mut table, 12);
    for at in (0..=4000).step_by(250) {
        for n in 4..12 {
            table.renew(&key(&n.to_string()), None, now(at));
        }
        assert_eq!(table.expire(now(at)), []);
    }
    let (mut after, mut told) = (None, Vec::new());
    loop {
        let digest = table.digest(after, 3, now(4000));
        told.extend(digest.entries.iter().map(|it| it.key.clone()));
        match digest.upto {
            Some(upto) => after = Some(upto),
            None => break,
        }
    }
    let mut alive: Vec<Key> = (4..12).map(|n| key(&n.to_string())).collect();
    alive.sort();
    assert_eq!(told, alive);
}

/// One exchange in one direction is enough for both sides: copies, cancels and what is wanted.
#[test]
fn a_full_exchange_tells_both_sides() {
    let (mut a, mut b) = (table(), table());
    for id in ["cancelled-there", "cancelled-here", "both"] {
        a.register(instance(id, 90, 100), now(0)).unwrap();
        b.merge(&replica(&a, id, 0), Origin::Tradewind, now(0));
    }
    b.cancel(&key("cancelled-there"), now(1000));
    a.cancel(&key("cancelled-here"), now(1000));
    b.register(instance("only-there", 90, 1), now(1000)).unwrap();
    a.register(instance("only-here", 90, 1), now(1000)).unwrap();
    let (mut after, mut wanted, mut pages) = (None, Vec::new(), 0);
    loop {
        let digest = a.digest(after, 2, now(2000));
        let reply = b.answer(&digest, 1, now(2000));
        wanted.extend(a.take_answer(&reply, now(2000)));
        pages += 1;
        match reply.upto.or(digest.upto) {
            Some(upto) => after = Some(upto),
            None => break,
        }
    }
    assert!(1 < pages);
    let ids = |table: &Table| {
        let all = table.app("ORDERS").unwrap();
        all.iter().map(|it| it.effective_id().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&a), ["both", "only-here", "only-there"]);
    assert_eq!(ids(&b), ["both", "only-there"]);
    assert_eq!(wanted, [key("only-here")]);
}
