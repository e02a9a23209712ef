//! What waits in the databases of an estate, read beside its processes.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags, Params};
use tradewind_base::Timestamp;

/// The databases of broker and warehouses. A process that is frozen holds up no reader.
pub(super) struct Books {
    broker: Connection,
    warehouse: Connection,
}

/// Messages that are not where they belong yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    /// In the outbox of the warehouses.
    pub(super) outbox: u64,
    /// Deliveries that the broker still has to make.
    pub(super) deliveries: u64,
}

impl Backlog {
    pub(super) const fn all(self) -> u64 {
        self.outbox + self.deliveries
    }
}

impl Books {
    pub(super) fn open(data: &Path) -> anyhow::Result<Self> {
        let open = |name: &str| -> anyhow::Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
            let connection = Connection::open_with_flags(data.join(name), flags)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            Ok(connection)
        };
        Ok(Self { broker: open("broker.db")?, warehouse: open("warehouse.db")? })
    }

    /// Deliveries to this subscriber.
    pub(super) fn deliveries(&self, subscriber: &str) -> anyhow::Result<u64> {
        let sql = "SELECT COUNT(*) FROM delivery WHERE subscriber = ?";
        count(&self.broker, sql, [subscriber])
    }

    /// All that waits.
    pub(super) fn backlog(&self) -> anyhow::Result<Backlog> {
        // In the order in which a message moves, so that none is missed between the two.
        let outbox = count(&self.warehouse, "SELECT COUNT(*) FROM message_outbox", [])?;
        let deliveries = count(&self.broker, "SELECT COUNT(*) FROM delivery", [])?;
        Ok(Backlog { outbox, deliveries })
    }

    /// Of the messages about orders that shipped before `time`, those that still wait.
    pub(super) fn older(&self, time: Timestamp) -> anyhow::Result<u64> {
        let bound = first_id(time);
        let sql = "SELECT COUNT(*) FROM message_outbox WHERE id < ?";
        let outbox = count(&self.warehouse, sql, [bound])?;
        let sql = "SELECT COUNT(*) FROM delivery WHERE topic = 'order.shipped' AND message_id < ?";
        Ok(outbox + count(&self.broker, sql, [bound])?)
    }

    /// Orders that shipped at `time` or later.
    pub(super) fn shipped_since(&self, time: Timestamp) -> anyhow::Result<u64> {
        let sql = "SELECT COUNT(*) FROM outbound WHERE shipped_ms >= ?";
        count(&self.warehouse, sql, [time.millis()])
    }
}

fn count(connection: &Connection, sql: &str, parameters: impl Params) -> anyhow::Result<u64> {
    let count: i64 = connection.prepare_cached(sql)?.query_row(parameters, |row| row.get(0))?;
    u64::try_from(count).context("a negative count")
}

/// What no id of a message sorts before that was made at `time`: ids begin with their millisecond.
fn first_id(time: Timestamp) -> [u8; 6] {
    let [_, _, id @ ..] = time.millis().to_be_bytes();
    id
}

#[cfg(test)]
mod tests {
    use tradewind::message::MessageId;
    use tradewind_base::Rng;

    use super::*;

    #[test]
    fn ids_of_messages_sort_by_their_time() {
        let at = |millis| Timestamp::from_millis(millis);
        let id = |millis| MessageId::generate(at(millis), &mut Rng::seeded(7));
        let bytes = |millis| id(millis).as_u128().to_be_bytes();
        let bound = first_id(at(1_700_000_000_500));
        assert!(bytes(1_700_000_000_499)[..] < bound[..]);
        assert!(bound[..] < bytes(1_700_000_000_500)[..]);
    }
}
