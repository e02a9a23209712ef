//! Random histories. One table is held against a plain model and its own invariants; several
//! tables are driven over a bad network and must agree once it is good again.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tradewind_eureka::{Instance, Status, hash_code};

use super::entry::Phase;
use super::tests::{instance, key, now, table};
use super::{
    Item, Key, Now, Origin, Outbox, Outcome, Reason, Renewal, Reply, Respects, Snapshot, Table,
    Verdict, What,
};

// === one table ===

#[derive(Clone, Debug)]
enum Act {
    Register { id: u8, version: u8, dirty: i64, duration: i32 },
    Renew { id: u8, dirty: Option<i64> },
    Cancel { id: u8 },
    Override { id: u8, on: bool },
    Suspect { id: u8, outcome: u8 },
    Wait { millis: u64 },
}

fn act() -> impl Strategy<Value = Act> {
    let id = 0..16_u8;
    prop_oneof![
        4 => (id.clone(), 0..3_u8, 0..50_i64, 1..5_i32).prop_map(|(id, version, dirty, duration)| {
            Act::Register { id, version, dirty, duration }
        }),
        4 => (id.clone(), prop::option::of(0..60_i64)).prop_map(|(id, dirty)| Act::Renew { id, dirty }),
        1 => id.clone().prop_map(|id| Act::Cancel { id }),
        1 => (id.clone(), any::<bool>()).prop_map(|(id, on)| Act::Override { id, on }),
        1 => (id, 0..3_u8).prop_map(|(id, outcome)| Act::Suspect { id, outcome }),
        4 => (1..1500_u64).prop_map(|millis| Act::Wait { millis }),
    ]
}

fn doc(id: u8, version: u8, dirty: i64, duration: i32) -> Instance {
    Instance { ip_addr: format!("10.0.0.{version}"), ..instance(&id.to_string(), duration, dirty) }
}

/// Replays changes on a state (REG-3).
fn replay(state: &mut BTreeMap<Key, Instance>, table: &Table, since: u64) {
    for change in table.changes_since(since).unwrap() {
        match &change.what {
            What::Upsert(doc) => drop(state.insert(change.key.clone(), Instance::clone(doc))),
            What::Remove(_) => drop(state.remove(&change.key)),
        }
    }
}

fn flat(snapshot: &Snapshot) -> BTreeMap<Key, Instance> {
    let docs = snapshot.apps.iter().flat_map(|(_, docs)| docs);
    docs.map(|it| (Key::new(&it.app, it.effective_id()), Instance::clone(it))).collect()
}

/// REG-4, REG-5 and REG-7.
fn hold(table: &mut Table, at: Now) {
    let entries: Vec<_> = table.apps.values().flat_map(|it| it.instances.values()).collect();
    let held = entries.iter().filter(|it| it.phase == Phase::Held).count();
    let late = entries.iter().filter(|it| it.phase != Phase::Live).count();
    assert_eq!(table.count, entries.len());
    assert_eq!((table.timers.len(), table.held.len()), (entries.len() - held, held));
    assert_eq!(table.overall.late(), late);
    for entry in entries {
        if let Some(timer) = entry.timer {
            assert!(timer <= entry.expires, "a timer would come after the end of the lease");
        }
    }
    let snapshot = table.snapshot();
    let state = flat(&snapshot);
    assert_eq!(snapshot.hash_code, hash_code(state.values().map(|it| it.status)));
    let delta = table.delta(at).unwrap();
    assert_eq!((delta.hash_code, delta.revision), (snapshot.hash_code, snapshot.revision));
    // All of a history shorter than the window is in it: the delta makes the state of nothing.
    let mut built = BTreeMap::new();
    for doc in delta.apps.iter().flat_map(|(_, docs)| docs) {
        let key = Key::new(&doc.app, doc.effective_id());
        let gone = doc.action_type == Some(tradewind_eureka::ActionType::Deleted);
        let mut doc = Instance::clone(doc);
        doc.action_type = state.get(&key).and_then(|it| it.action_type);
        if !gone {
            assert!(built.insert(key, doc).is_none(), "an instance comes twice");
        }
    }
    assert_eq!(built, state);
}

fn step(table: &mut Table, act: &Act, at: &mut u64, gone: &mut Vec<Key>) {
    match act {
        Act::Register { id, version, dirty, duration } => {
            let id_text = id.to_string();
            let before = table.instance(&key(&id_text), now(*at)).and_then(|it| it.last_dirty_ts);
            table.register(doc(*id, *version, *dirty, *duration), now(*at)).unwrap();
            let after = table.instance(&key(&id_text), now(*at)).unwrap();
            // REG-6, and the client's word at its own node counts.
            assert!(before <= after.last_dirty_ts);
            assert!(Some(*dirty) <= after.last_dirty_ts);
            assert_eq!(after.ip_addr, format!("10.0.0.{version}"));
        }
        Act::Renew { id, dirty } => {
            table.renew(&key(&id.to_string()), *dirty, now(*at));
        }
        Act::Cancel { id } => {
            table.cancel(&key(&id.to_string()), now(*at));
        }
        Act::Override { id, on: true } => {
            table.set_override(&key(&id.to_string()), Status::OutOfService, None, now(*at));
        }
        Act::Override { id, on: false } => {
            table.delete_override(&key(&id.to_string()), None, None, now(*at));
        }
        Act::Suspect { id, outcome } => {
            table.suspect(&key(&id.to_string()), Reason::Refused, "caller", now(*at));
            for order in table.due_probes(99, now(*at)) {
                let outcomes = [Outcome::Refused, Outcome::Connected, Outcome::Unanswered];
                table.probed(&order, outcomes[usize::from(*outcome)], now(*at));
            }
        }
        Act::Wait { millis } => {
            *at += millis;
            gone.extend(table.expire(now(*at)).into_iter().map(|it| it.key));
        }
    }
}

/// When each lease ends, without any cleverness.
fn model(ends: &mut BTreeMap<Key, (u64, u64)>, act: &Act, at: u64, table: &Table) {
    match act {
        Act::Register { id, duration, .. } => {
            let lease = u64::try_from(*duration).unwrap() * 1000;
            ends.insert(key(&id.to_string()), (at + lease, lease));
        }
        Act::Renew { id, .. } | Act::Override { id, .. } => {
            let id = key(&id.to_string());
            let known = table.explain(&id, now(at)).is_some_and(|it| {
                matches!(act, Act::Override { .. }) || it.doc.status != Status::Unknown
            });
            if let Some((end, lease)) = ends.get_mut(&id).filter(|_| known) {
                *end = at + *lease;
            }
        }
        Act::Cancel { .. } | Act::Suspect { .. } | Act::Wait { .. } => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_invariants(acts in prop::collection::vec(act(), 1..120)) {
        let mut table = table();
        let (mut at, mut state, mut seen) = (0, BTreeMap::new(), 0);
        let mut ends = BTreeMap::new();
        for act in &acts {
            let mut gone = Vec::new();
            step(&mut table, act, &mut at, &mut gone);
            model(&mut ends, act, at, &table);
            for key in gone {
                let (end, _) = ends[&key];
                prop_assert!(end <= at, "{key} went before its lease ended");
            }
            for (key, (end, _)) in &ends {
                let there = table.explain(key, now(at));
                let waited = matches!(act, Act::Wait { .. });
                // REG-2.
                let excused = there.as_ref().is_none_or(|it| it.protected.is_some());
                prop_assert!(!waited || at < *end || excused, "{key} outlived its lease");
            }
            replay(&mut state, &table, seen);
            seen = table.revision();
            prop_assert_eq!(&state, &flat(&table.snapshot()));
            hold(&mut table, now(at));
        }
    }
}

// === several tables ===

/// What the network does with one message.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Deliver,
    Lose,
    Twice,
    /// It comes, but the answer is lost.
    Deaf,
    /// It comes some time later, after what was sent after it, and nobody waits for the answer.
    Late,
}

#[derive(Clone, Debug)]
enum Event {
    /// A client (by number) registers anew at a node, with a clock that may have stepped.
    Register {
        client: u8,
        node: usize,
        address: u8,
        clock: i64,
    },
    /// A client heartbeats at the node it last registered at, or moves on to another.
    Beat {
        client: u8,
        node: usize,
    },
    Cancel {
        client: u8,
    },
    Override {
        client: u8,
        node: usize,
        to: Option<Status>,
    },
    Flush {
        from: usize,
        to: usize,
        fates: Vec<Fate>,
    },
    /// What is late arrives, the last first.
    Arrive,
    Wait,
}

const NODES: usize = 3;
const CLIENTS: u8 = 5;

fn event() -> impl Strategy<Value = Event> {
    let (client, node) = (0..CLIENTS, 0..NODES);
    let fate = prop_oneof![
        Just(Fate::Deliver),
        Just(Fate::Lose),
        Just(Fate::Twice),
        Just(Fate::Deaf),
        Just(Fate::Late)
    ];
    prop_oneof![
        2 => (client.clone(), node.clone(), 0..4_u8, 0..200_i64).prop_map(|(client, node, address, clock)| {
            Event::Register { client, node, address, clock }
        }),
        3 => (client.clone(), node.clone()).prop_map(|(client, node)| Event::Beat { client, node }),
        1 => client.clone().prop_map(|client| Event::Cancel { client }),
        1 => (client, node.clone(), prop::option::of(prop_oneof![Just(Status::OutOfService), Just(Status::Down)]))
            .prop_map(|(client, node, to)| Event::Override { client, node, to }),
        4 => (node.clone(), node, prop::collection::vec(fate, 5))
            .prop_map(|(from, to, fates)| Event::Flush { from, to, fates }),
        1 => Just(Event::Arrive),
        2 => Just(Event::Wait),
    ]
}

struct Estate {
    tables: Vec<Table>,
    /// `queues[from][to]`.
    queues: Vec<Vec<Outbox>>,
    /// What each client last registered, and where it is at home; `None` when it left.
    clients: BTreeMap<u8, Option<(Instance, usize)>>,
    at: u64,
    /// The latest timestamp of each client, and whether its clock ever stepped back. One that
    /// steps back, registers at a node that is cut off and then returns to another that knows it
    /// by a larger timestamp is taken for what that node knows, as with a stock server.
    clocks: BTreeMap<u8, (i64, bool)>,
    late: Vec<(usize, Key, Item)>,
}

impl Estate {
    fn new() -> Self {
        let queues = || (0..NODES).map(|_| Outbox::new(100)).collect();
        Self {
            tables: (0..NODES).map(|_| table()).collect(),
            queues: (0..NODES).map(|_| queues()).collect(),
            clients: BTreeMap::new(),
            at: 0,
            clocks: BTreeMap::new(),
            late: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        now(self.at)
    }

    fn collect(&mut self, node: usize) {
        let at = self.now().mono;
        for (key, respects) in self.tables[node].take_outgoing() {
            for (to, queue) in self.queues[node].iter_mut().enumerate() {
                if to != node {
                    queue.push(&key, respects, at);
                }
            }
        }
    }

    fn deliver(&mut self, key: &Key, item: &Item, to: usize) -> Reply {
        let at = self.now();
        let table = &mut self.tables[to];
        let verdict = match item {
            Item::Register(replica) => table.merge(replica, Origin::Tradewind, at),
            Item::Heartbeat { dirty, over, renewed, .. } => {
                table.merge_heartbeat(key, Some(*dirty), *over, *renewed, Origin::Tradewind, at)
            }
            Item::Cancel { dirty, age } => table.merge_cancel(key, Some(*dirty), *age, at),
            Item::Override { .. } => unreachable!("only stock servers are told overrides apart"),
        };
        self.collect(to);
        match verdict {
            Verdict::Done => Reply::Done,
            Verdict::Unknown if matches!(item, Item::Cancel { .. }) => Reply::Done,
            Verdict::Unknown => Reply::Unknown,
            Verdict::Newer(replica) => Reply::Newer(replica),
            Verdict::Buried { dirty, age } => Reply::Buried { dirty, age },
            Verdict::Refused(refusal) => panic!("{refusal}"),
        }
    }

    fn flush(&mut self, from: usize, to: usize, fates: &[Fate]) {
        let taken = self.queues[from][to].take(usize::MAX);
        for (n, (key, respects)) in taken.into_iter().enumerate() {
            let fate = fates.get(n % fates.len().max(1)).copied().unwrap_or(Fate::Deliver);
            for item in self.tables[from].items(&key, respects, Origin::Tradewind, self.now()) {
                let replies = match fate {
                    Fate::Late => {
                        self.late.push((to, key.clone(), item.clone()));
                        0
                    }
                    Fate::Lose => 0,
                    Fate::Deliver | Fate::Deaf => 1,
                    Fate::Twice => 2,
                };
                for _ in 0..replies {
                    let reply = self.deliver(&key, &item, to);
                    if matches!(fate, Fate::Deaf) {
                        continue;
                    }
                    let again =
                        self.tables[from].on_reply(&key, reply, Origin::Tradewind, now(self.at));
                    self.collect(from);
                    if let Some(respects) = again {
                        let at = self.now().mono;
                        self.queues[from][to].push(&key, respects, at);
                    }
                }
            }
        }
    }

    fn arrive(&mut self) {
        while let Some((to, key, item)) = self.late.pop() {
            self.deliver(&key, &item, to);
        }
    }

    fn sync(&mut self, from: usize, to: usize) {
        let mut after = None;
        loop {
            let digest = self.tables[from].digest(after, 3, self.now());
            let reply = self.tables[to].answer(&digest, 2, now(self.at));
            self.collect(to);
            let want = self.tables[from].take_answer(&reply, now(self.at));
            self.collect(from);
            for key in want {
                self.queues[from][to].push(&key, Respects::ALL, now(self.at).mono);
            }
            match reply.upto.or(digest.upto) {
                Some(upto) => after = Some(upto),
                None => break,
            }
        }
    }

    fn beat(&mut self, client: u8, node: usize) {
        let Some(Some((doc, home))) = self.clients.get_mut(&client) else { return };
        *home = node;
        let (doc, at) = (doc.clone(), now(self.at));
        let id = key(&client.to_string());
        if self.tables[node].renew(&id, doc.last_dirty_ts, at) == Renewal::Register {
            self.tables[node].register(doc, at).unwrap();
        }
        self.collect(node);
    }

    fn tick(&mut self) {
        self.at += 100;
        for node in 0..NODES {
            self.tables[node].expire(now(self.at));
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Register { client, node, address, clock } => {
                // A client does one thing after the other.
                self.at += 1;
                let (latest, stepped) = self.clocks.get(client).copied().unwrap_or((-1, false));
                let stepped = stepped || *clock <= latest;
                self.clocks.insert(*client, (latest.max(*clock), stepped));
                let doc = doc(*client, *address, *clock, 3);
                self.tables[*node].register(doc.clone(), now(self.at)).unwrap();
                self.clients.insert(*client, Some((doc, *node)));
                self.collect(*node);
            }
            Event::Beat { client, node } => self.beat(*client, *node),
            Event::Cancel { client } => {
                if let Some(Some((_, home))) = self.clients.insert(*client, None) {
                    self.tables[home].cancel(&key(&client.to_string()), now(self.at));
                    self.collect(home);
                }
            }
            Event::Override { client, node, to } => {
                let (id, at) = (key(&client.to_string()), now(self.at));
                match to {
                    Some(status) => self.tables[*node].set_override(&id, *status, None, at),
                    None => self.tables[*node].delete_override(&id, None, None, at),
                };
                self.collect(*node);
            }
            Event::Flush { from, to, fates } if from != to => self.flush(*from, *to, fates),
            Event::Flush { .. } => {}
            Event::Arrive => self.arrive(),
            Event::Wait => {
                for _ in 0..5 {
                    self.tick();
                }
            }
        }
    }

    /// The network is good from here on: heartbeats go on where the clients are at home.
    fn heal(&mut self) {
        self.arrive();
        for round in 0..60 {
            self.tick();
            if round % 10 == 0 {
                for client in 0..CLIENTS {
                    if let Some(Some((_, home))) = self.clients.get(&client) {
                        self.beat(client, *home);
                    }
                }
            }
            for (from, to) in (0..NODES).flat_map(|from| (0..NODES).map(move |to| (from, to))) {
                if from != to {
                    if round % 10 == 5 {
                        self.sync(from, to);
                    }
                    self.flush(from, to, &[Fate::Deliver]);
                }
            }
        }
    }
}

/// Without what each node adds for itself.
fn comparable(table: &Table) -> BTreeMap<Key, Instance> {
    let mut state = flat(&table.snapshot());
    for doc in state.values_mut() {
        doc.last_updated_ts = None;
        doc.action_type = None;
        doc.lease = tradewind_eureka::LeaseInfo::default();
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// R1.1, REG-1, REG-8, REG-10.
    #[test]
    fn tables_agree_once_the_network_is_good_again(
        events in prop::collection::vec(event(), 1..80),
    ) {
        let mut estate = Estate::new();
        for event in &events {
            estate.happen(event);
        }
        estate.heal();
        let first = comparable(&estate.tables[0]);
        for table in &estate.tables {
            prop_assert_eq!(&comparable(table), &first);
        }
        for (client, state) in &estate.clients {
            let held = first.get(&key(&client.to_string()));
            match state {
                None => prop_assert!(held.is_none(), "client {} left", client),
                Some((doc, _)) => {
                    prop_assert!(held.is_some(), "client {} heartbeats", client);
                    let address = held.map(|it| &it.ip_addr);
                    let known = estate.clocks[client].1 || address == Some(&doc.ip_addr);
                    prop_assert!(known, "client {} moved to {}", client, doc.ip_addr);
                }
            }
        }
    }
}
