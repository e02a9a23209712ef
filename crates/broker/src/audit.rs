//! The invariants of messages, over the broker's own database.
//!
//! Whether a message may exist at all, and whether it had its effect, only its producer and its
//! subscribers tell, and an audit of the whole estate asks them.

use std::time::Duration;

use tradewind_audit::estate::{MSG_1, MSG_3, TX_3};
use tradewind_audit::{Check, Columns, First, Invariant, Look};

/// Fence rows may be cleaned as soon as messages, a day after they are final.
const FENCED: Duration = Duration::from_secs(20 * 3600);

const MESSAGES: &str = "SELECT MAX(k), COUNT(*) FROM (SELECT id AS k FROM message \
     WHERE ? < id ORDER BY id LIMIT ?) w";

// States: 1 prepared, 2 committed, 3 cancelled, 4 parked undecided, 5 parked unrouted, 6 done.
const OPEN: &str = "SELECT id, topic, msg_key, state, open_count, waiting, dead FROM (\
     SELECT m.id, m.topic, m.msg_key, m.state, m.open_count, \
     (SELECT COUNT(*) FROM delivery d WHERE d.message_id = m.id) AS waiting, \
     (SELECT COUNT(*) FROM dead_letter d WHERE d.message_id = m.id) AS dead \
     FROM message m WHERE ? < m.id AND m.id <= ?) w \
     WHERE open_count <> waiting + dead OR (open_count > 0) <> (state = 2) ORDER BY id";
const NOBODY: &str = "SELECT m.id, m.topic, m.msg_key FROM message m \
     WHERE ? < m.id AND m.id <= ? AND m.state = 6 \
     AND NOT EXISTS (SELECT 1 FROM delivered d WHERE d.message_id = m.id) ORDER BY m.id";
const ROLLED_BACK: &str = "SELECT m.id, m.topic, m.msg_key, m.state FROM message m \
     WHERE ? < m.id AND m.id <= ? AND m.state IN (1, 3, 4, 5) \
     AND (EXISTS (SELECT 1 FROM delivered d WHERE d.message_id = m.id) \
     OR EXISTS (SELECT 1 FROM delivery d WHERE d.message_id = m.id) \
     OR EXISTS (SELECT 1 FROM dead_letter d WHERE d.message_id = m.id)) ORDER BY m.id";
// A branch: 1 tried, 2 confirmed, 3 cancelled, 4 cancelled before it was tried.
const FENCE: &str = "SELECT m.id, m.topic, m.msg_key, m.state, f.state FROM message m \
     LEFT JOIN branch_fence f ON f.xid = m.xid AND f.branch = m.branch \
     WHERE ? < m.id AND m.id <= ? AND m.xid IS NOT NULL \
     AND (f.state IS NULL AND ? < m.created_ms \
     OR f.state <> CASE m.state WHEN 1 THEN 1 WHEN 4 THEN 1 WHEN 3 THEN 3 ELSE 2 END) \
     ORDER BY m.id";

/// What is looked for.
pub const CHECKS: &[Check] = &[
    check(
        &MSG_1,
        "its deliveries and dead letters are not those that are open",
        &["message", "topic", "key", "state", "open", "waiting", "dead"],
        OPEN,
        None,
    ),
    check(&MSG_1, "done, and nobody has it", &["message", "topic", "key"], NOBODY, None),
    check(
        &MSG_3,
        "on its way or delivered without having been committed",
        &["message", "topic", "key", "state"],
        ROLLED_BACK,
        None,
    ),
    check(
        &TX_3,
        "its branch's fence says something else",
        &["message", "topic", "key", "state", "fence"],
        FENCE,
        Some(FENCED),
    ),
];

const fn check(
    invariant: &'static Invariant,
    what: &'static str,
    columns: &'static [&'static str],
    broken: &'static str,
    recent: Option<Duration>,
) -> Check {
    let look = Columns { first: First::Bytes, columns, bound: MESSAGES, broken, recent };
    Check { invariant, what, window: 2000, look: Look::Rows(look) }
}
