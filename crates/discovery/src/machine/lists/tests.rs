use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::wire::{Removal, Why};

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

fn record(service: &str, id: &str) -> InstanceRecord {
    InstanceRecord {
        id: id.into(),
        service: service.into(),
        host: "h".into(),
        port: 1,
        secure: false,
        status: "UP".into(),
        metadata: BTreeMap::new(),
    }
}

fn snapshot(epoch: &str, revision: u64, warm: bool, services: &[(&str, &[&str])]) -> Line {
    let records =
        |it: &(&str, &[&str])| (it.0.to_owned(), it.1.iter().map(|id| record(it.0, id)).collect());
    let services = services.iter().map(records).collect();
    Line::Snapshot(Snapshot { epoch: epoch.into(), revision, warm, services })
}

fn change(revision: u64, upsert: &[(&str, &str)], remove: &[(&str, &str)]) -> Line {
    Line::Change(Change {
        revision,
        upsert: upsert.iter().map(|(service, id)| record(service, id)).collect(),
        remove: remove
            .iter()
            .map(|(service, id)| Removal {
                service: (*service).into(),
                id: (*id).into(),
                why: Why::Expired,
            })
            .collect(),
    })
}

fn ping(revision: u64, warm: bool) -> Line {
    Line::Ping(Ping { revision, warm })
}

fn resume(epoch: &str, revision: u64, warm: bool) -> Line {
    Line::Resume(Resume { epoch: epoch.into(), revision, warm })
}

fn following(services: &[&str]) -> Lists {
    let mut lists = Lists::default();
    for service in services {
        lists.follow(&name(service));
    }
    lists
}

/// Takes the first line of a new stream.
fn open(lists: &mut Lists, line: Line) -> BTreeSet<ServiceName> {
    lists.opened();
    lists.line(line).unwrap()
}

fn ids(lists: &Lists, service: &str) -> Vec<String> {
    let list = lists.list(&name(service)).unwrap_or_default();
    list.instances.iter().map(|it| it.id.to_string()).collect()
}

#[test]
fn a_snapshot_is_the_list_and_changes_change_it() {
    let mut lists = following(&["a"]);
    assert!(lists.list(&name("a")).is_none());
    let changed = open(&mut lists, snapshot("e", 5, true, &[("a", &["1", "2"]), ("b", &["9"])]));
    assert_eq!(changed, BTreeSet::from([name("a")]));
    let changed = lists.line(change(7, &[("a", "3"), ("b", "8")], &[("a", "1")])).unwrap();
    assert_eq!(changed, BTreeSet::from([name("a")]));
    assert_eq!(ids(&lists, "a"), ["2", "3"]);
    assert_eq!(lists.list(&name("a")).unwrap().revision, 7);
    assert!(lists.list(&name("b")).is_none());
}

#[test]
fn an_instance_removed_and_registered_in_one_change_is_there() {
    let mut lists = following(&["a"]);
    open(&mut lists, snapshot("e", 1, true, &[("a", &["1"])]));
    lists.line(change(2, &[("a", "1")], &[("a", "1")])).unwrap();
    assert_eq!(ids(&lists, "a"), ["1"]);
}

#[test]
fn a_registry_that_restarted_empty_does_not_empty_the_list() {
    let mut lists = following(&["a"]);
    open(&mut lists, snapshot("e1", 50, true, &[("a", &["1", "2", "3"])]));
    assert!(open(&mut lists, snapshot("e2", 1, false, &[("a", &[])])).is_empty());
    assert_eq!(ids(&lists, "a"), ["1", "2", "3"]);
    // One comes back, one says good-bye, and when the registry is warm the silent one is gone.
    lists.line(change(2, &[("a", "1")], &[])).unwrap();
    lists.line(change(3, &[], &[("a", "2")])).unwrap();
    assert_eq!(ids(&lists, "a"), ["1", "3"]);
    assert!(lists.line(ping(3, false)).unwrap().is_empty());
    assert_eq!(lists.line(ping(3, true)).unwrap(), BTreeSet::from([name("a")]));
    assert_eq!(ids(&lists, "a"), ["1"]);
    assert!(lists.line(ping(3, true)).unwrap().is_empty(), "only once");
}

#[test]
fn two_restarts_in_a_row_keep_what_both_have_forgotten() {
    let mut lists = following(&["a"]);
    open(&mut lists, snapshot("e1", 50, true, &[("a", &["1", "2"])]));
    open(&mut lists, snapshot("e2", 1, false, &[("a", &["2", "3"])]));
    open(&mut lists, snapshot("e3", 1, false, &[("a", &["4"])]));
    assert_eq!(ids(&lists, "a"), ["1", "2", "3", "4"]);
    open(&mut lists, snapshot("e3", 1, true, &[("a", &["4"])]));
    assert_eq!(ids(&lists, "a"), ["4"]);
}

#[test]
fn a_warm_registry_is_believed_also_when_it_is_another_one() {
    let mut lists = following(&["a", "b"]);
    open(&mut lists, snapshot("e1", 50, true, &[("a", &["1"]), ("b", &["1"])]));
    open(&mut lists, snapshot("e2", 1, true, &[("a", &[])]));
    assert!(ids(&lists, "a").is_empty());
    assert_eq!(ids(&lists, "b"), ["1"], "a snapshot without the service says nothing of it");
}

#[test]
fn a_refused_connection_ends_what_is_merely_kept() {
    let mut lists = following(&["a"]);
    open(&mut lists, snapshot("e1", 50, true, &[("a", &["1", "2"])]));
    assert!(!lists.refused(&name("a"), &InstanceId::parse("1").unwrap()), "the registry decides");
    open(&mut lists, snapshot("e2", 1, false, &[("a", &["2"])]));
    assert!(lists.refused(&name("a"), &InstanceId::parse("1").unwrap()));
    assert!(!lists.refused(&name("a"), &InstanceId::parse("2").unwrap()));
    assert_eq!(ids(&lists, "a"), ["2"]);
}

#[test]
fn a_stream_goes_on_where_the_last_one_ended() {
    let mut lists = following(&["a"]);
    assert_eq!(lists.point(), None);
    open(&mut lists, snapshot("e", 5, true, &[("a", &["1"])]));
    lists.line(ping(9, true)).unwrap();
    assert_eq!(lists.point(), Some(("e", 9)));
    assert!(open(&mut lists, resume("e", 9, true)).is_empty());
    lists.line(change(10, &[("a", "2")], &[])).unwrap();
    assert_eq!(ids(&lists, "a"), ["1", "2"]);
    lists.follow(&name("b"));
    assert_eq!(lists.point(), None, "nothing was said of the new one");
}

#[test]
fn a_resume_by_a_registry_that_became_warm_forgets_what_was_kept() {
    let mut lists = following(&["a"]);
    open(&mut lists, snapshot("e1", 5, true, &[("a", &["1"])]));
    open(&mut lists, snapshot("e2", 1, false, &[("a", &["2"])]));
    assert_eq!(open(&mut lists, resume("e2", 1, true)), BTreeSet::from([name("a")]));
    assert_eq!(ids(&lists, "a"), ["2"]);
}

#[test]
fn lines_out_of_place_break_the_stream() {
    let mut lists = following(&["a"]);
    assert_eq!(lists.line(ping(1, true)), Err(Broken::NoBeginning));
    assert_eq!(lists.line(change(1, &[], &[])), Err(Broken::NoBeginning));
    open(&mut lists, snapshot("e", 5, true, &[("a", &["1"])]));
    assert_eq!(lists.line(snapshot("e", 6, true, &[])), Err(Broken::SecondBeginning));
    lists.opened();
    assert_eq!(lists.line(resume("e", 4, true)), Err(Broken::WrongPoint));
    assert_eq!(lists.point(), None, "the next stream starts from a snapshot");
    assert_eq!(ids(&lists, "a"), ["1"]);
}

#[test]
fn stale_changes_are_ignored() {
    let mut lists = following(&["a"]);
    open(&mut lists, snapshot("e", 5, true, &[("a", &["1"])]));
    assert!(lists.line(change(5, &[], &[("a", "1")])).unwrap().is_empty());
    assert_eq!(ids(&lists, "a"), ["1"]);
}

#[test]
fn a_registry_that_goes_back_within_its_epoch_is_taken_for_a_new_one() {
    let mut lists = following(&["a"]);
    open(&mut lists, snapshot("e", 5, true, &[("a", &["1"])]));
    open(&mut lists, snapshot("e", 2, true, &[("a", &[])]));
    assert_eq!(ids(&lists, "a"), ["1"], "and its warmth is not believed");
    assert_ne!(lists.list(&name("a")).unwrap().epoch.as_ref(), "e");
    lists.line(ping(3, true)).unwrap();
    assert!(ids(&lists, "a").is_empty());
}

#[test]
fn records_that_are_no_instances_are_skipped() {
    let mut lists = following(&["a"]);
    let bad = InstanceRecord { port: 0, ..record("a", "bad") };
    let stray = record("b", "stray");
    let services = BTreeMap::from([("a".to_owned(), vec![bad, record("a", "1"), stray])]);
    open(
        &mut lists,
        Line::Snapshot(Snapshot { epoch: "e".into(), revision: 1, warm: true, services }),
    );
    assert_eq!(ids(&lists, "a"), ["1"]);
    assert_eq!(lists.skipped(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Open { epoch: u8, back: bool, warm: bool, services: Vec<(u8, Vec<u8>)> },
    Resume { warm: bool },
    Change { by: u64, upsert: Vec<(u8, u8)>, remove: Vec<(u8, u8)> },
    Ping { by: u64, warm: bool },
    Refused { service: u8, id: u8 },
    Lost,
    Follow(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let services =
        proptest::collection::vec((0_u8..3, proptest::collection::vec(0_u8..5, 0..4)), 0..3);
    let pairs = || proptest::collection::vec((0_u8..3, 0_u8..5), 0..4);
    let step = prop_oneof![
        (0_u8..3, any::<bool>(), any::<bool>(), services)
            .prop_map(|(epoch, back, warm, services)| Step::Open { epoch, back, warm, services }),
        any::<bool>().prop_map(|warm| Step::Resume { warm }),
        (0_u64..3, pairs(), pairs()).prop_map(|(by, upsert, remove)| Step::Change {
            by,
            upsert,
            remove
        }),
        (0_u64..3, any::<bool>()).prop_map(|(by, warm)| Step::Ping { by, warm }),
        (0_u8..3, 0_u8..5).prop_map(|(service, id)| Step::Refused { service, id }),
        Just(Step::Lost),
        (0_u8..3).prop_map(Step::Follow),
    ];
    proptest::collection::vec(step, 1..60)
}

fn service_text(number: u8) -> String {
    format!("s{number}")
}

fn line_of(lists: &Lists, step: &Step) -> Option<Line> {
    let (_, revision, _) = lists.standing();
    Some(match step {
        Step::Open { epoch, back, warm, services } => {
            let records = |it: &(u8, Vec<u8>)| {
                let service = service_text(it.0);
                let all = it.1.iter().map(|id| record(&service, &id.to_string())).collect();
                (service, all)
            };
            Line::Snapshot(Snapshot {
                epoch: format!("e{epoch}"),
                revision: if *back { revision.saturating_sub(1) } else { revision + 1 },
                warm: *warm,
                services: services.iter().map(records).collect(),
            })
        }
        Step::Resume { warm } => {
            let (epoch, revision) = lists.point()?;
            resume(epoch, revision, *warm)
        }
        Step::Change { by, upsert, remove } => {
            let text = |it: &(u8, u8)| (service_text(it.0), it.1.to_string());
            let (upsert, remove): (Vec<_>, Vec<_>) =
                (upsert.iter().map(text).collect(), remove.iter().map(text).collect());
            Line::Change(Change {
                revision: revision + by,
                upsert: upsert.iter().map(|(service, id)| record(service, id)).collect(),
                remove: remove
                    .into_iter()
                    .map(|(service, id)| Removal { service, id, why: Why::Cancelled })
                    .collect(),
            })
        }
        Step::Ping { by, warm } => ping(revision + by, *warm),
        Step::Refused { .. } | Step::Lost | Step::Follow(_) => return None,
    })
}

/// Whether the step may take the instance out of the list of the service.
fn may_remove(before: &Lists, step: &Step, service: &str, id: &str) -> bool {
    let Some(followed) = before.services.get(&name(service)) else { return false };
    match step {
        Step::Open { warm, services, .. } => {
            let said = services.iter().rev().find(|it| service_text(it.0) == service);
            *warm && said.is_some_and(|it| !it.1.iter().any(|it| it.to_string() == id))
        }
        Step::Resume { warm } | Step::Ping { warm, .. } => {
            *warm && followed.covered && !followed.told.contains_key(id)
        }
        Step::Change { remove, .. } => {
            remove.iter().any(|it| service_text(it.0) == service && it.1.to_string() == id)
        }
        Step::Refused { service: of, id: refused } => {
            service_text(*of) == service
                && refused.to_string() == id
                && !followed.told.contains_key(id)
        }
        Step::Lost | Step::Follow(_) => false,
    }
}

fn clone(lists: &Lists) -> Lists {
    Lists {
        services: lists
            .services
            .iter()
            .map(|(name, it)| {
                let copy = Followed {
                    known: it.known,
                    covered: it.covered,
                    told: it.told.clone(),
                    kept: it.kept.clone(),
                    revision: it.revision,
                    life: Arc::clone(&it.life),
                };
                (name.clone(), copy)
            })
            .collect(),
        epoch: lists.epoch.clone(),
        life: Arc::clone(&lists.life),
        ..*lists
    }
}

fn apply(lists: &mut Lists, step: &Step) -> BTreeSet<ServiceName> {
    match step {
        Step::Lost => lists.opened(),
        Step::Follow(service) => lists.follow(&name(&service_text(*service))),
        Step::Refused { service, id } => {
            let service = name(&service_text(*service));
            if lists.refused(&service, &InstanceId::parse(&id.to_string()).unwrap()) {
                return BTreeSet::from([service]);
            }
        }
        Step::Open { .. } | Step::Resume { .. } => {
            if let Some(line) = line_of(lists, step) {
                lists.opened();
                return lists.line(line).unwrap();
            }
        }
        Step::Change { .. } | Step::Ping { .. } => {
            if let Some(line) = line_of(lists, step) {
                return lists.line(line).unwrap_or_default();
            }
        }
    }
    BTreeSet::new()
}

proptest! {
    /// DISC-1 to DISC-4, and that every other list is announced.
    #[test]
    fn every_history_keeps_the_invariants(steps in steps()) {
        let mut lists = following(&["s0"]);
        let mut seen: BTreeMap<(ServiceName, Arc<str>), u64> = BTreeMap::new();
        for step in steps {
            let before = clone(&lists);
            let changed = apply(&mut lists, &step);
            for service in ["s0", "s1", "s2"] {
                let (old, new) = (before.list(&name(service)), lists.list(&name(service)));
                prop_assert_eq!(old != new, changed.contains(&name(service)), "{:?}", step);
                let Some(new) = new else { continue };
                for gone in old.unwrap_or_default().instances {
                    if new.get(&gone.id).is_none() {
                        let id = gone.id.as_str();
                        prop_assert!(may_remove(&before, &step, service, id), "DISC-1 {:?}", step);
                    }
                }
                let seen = seen.entry((name(service), Arc::clone(&new.epoch))).or_default();
                prop_assert!(*seen <= new.revision, "DISC-2 {:?}", step);
                *seen = new.revision;
                let followed = &lists.services[&name(service)];
                for id in followed.told.keys() {
                    prop_assert!(new.get(id).is_some(), "DISC-4");
                }
                if let Step::Open { warm: true, services, .. } = &step
                    && let Some(said) = services.iter().rev().find(|it| service_text(it.0) == service)
                    && lists.standing().2
                {
                    let said: BTreeSet<_> = said.1.iter().map(u8::to_string).collect();
                    let have: BTreeSet<_> = new.instances.iter().map(|it| it.id.to_string()).collect();
                    prop_assert_eq!(said, have, "DISC-3");
                }
            }
        }
    }
}
