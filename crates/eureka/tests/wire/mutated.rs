//! Recorded bodies with bytes changed, removed and moved: no reader may panic, and what is still
//! read must be written and read again.

use tradewind_eureka::{json, xml};

use crate::fixtures::{bodies, written};

/// Gives the bytes to every reader.
pub(crate) fn read_all(bytes: &[u8]) {
    if let Ok(instance) = json::read_instance(bytes) {
        let out = written(|out| json::instance(out, &instance));
        json::read_instance(out.as_bytes()).expect("what is written is read");
        let out = written(|out| xml::instance(out, &instance, xml::Style::default()));
        xml::read_instance(out.as_bytes()).expect("what is written is read");
    }
    if let Ok(table) = json::read_applications(bytes) {
        let out = written(|out| json::applications(out, table.head(), table.groups()));
        assert_eq!(
            json::read_applications(out.as_bytes())
                .expect("what is written is read")
                .applications
                .len(),
            table.applications.len()
        );
    }
    drop(json::read_application(bytes));
    drop(json::read_replication_list(bytes));
    drop(json::read_replication_response(bytes));
    drop(xml::read_instance(bytes));
    drop(xml::read_application(bytes));
    if let Ok(table) = xml::read_applications(bytes) {
        let style = xml::Style::default();
        let out = written(|out| xml::applications(out, table.head(), table.groups(), style));
        xml::read_applications(out.as_bytes()).expect("what is written is read");
    }
}

/// Numbers that look random and are the same in each run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (bound.max(1) as u64)).unwrap()
    }
}

fn mutate(dice: &mut Dice, body: &mut Vec<u8>) {
    const SIGNS: &[u8] = b"{}[]:,\"\\<>/&;#x!-_.$@0\0\xff \n";
    let at = dice.below(body.len());
    let end = (at + 1 + dice.below(40)).min(body.len());
    match dice.below(5) {
        0 => body[at] = SIGNS[dice.below(SIGNS.len())],
        1 => body.insert(at, SIGNS[dice.below(SIGNS.len())]),
        2 => drop(body.drain(at..end)),
        3 => {
            let part = body[at..end].to_vec();
            let to = dice.below(body.len());
            body.splice(to..to, part);
        }
        _ => body.truncate(at.max(1)),
    }
    if body.is_empty() {
        body.push(b'{');
    }
}

#[test]
fn changed_bodies_do_not_panic_a_reader() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for body in bodies() {
        for _ in 0..150 {
            let mut changed = body.as_bytes().to_vec();
            for _ in 0..=dice.below(4) {
                mutate(&mut dice, &mut changed);
            }
            read_all(&changed);
        }
    }
}

#[test]
fn every_prefix_of_a_body_is_refused_or_read() {
    for body in bodies().into_iter().filter(|body| body.len() < 1500) {
        for end in 0..body.len() {
            read_all(&body.as_bytes()[..end]);
        }
    }
}
