//! What services and the broker say to each other: JSON under `/messages/v1`, the headers of a
//! delivery, and the limits that both sides keep.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tradewind_base::Problem;
use tradewind_base::id::Xid;

/// The service name of the broker.
pub const BROKER: &str = "broker";
/// The name of the broker's action as a branch of a transaction: `/tcc/message/try` and so on.
pub const ACTION: &str = "message";
/// The most bytes of a message's data.
pub const DATA_BYTES_MAX: usize = 64 * 1024;
/// The longest topic, subscriber, service or type, in bytes.
pub const NAME_LEN_MAX: usize = 64;
/// The longest key or source, in bytes.
pub const TEXT_LEN_MAX: usize = 128;
/// The longest path, in bytes.
pub const PATH_LEN_MAX: usize = 128;

/// Header of a delivery with the number of the attempt, from 1.
pub const ATTEMPT_HEADER: &str = "x-tradewind-attempt";

tradewind_base::id_type! {
    /// One message, from its producer to every subscriber; what consumers remember to act once.
    MessageId, "msg"
}

impl MessageId {
    /// The id of the message that a transaction's branch carries: the same for every repeat of the
    /// branch, and known to the initiator without asking.
    #[must_use]
    pub const fn of_branch(xid: Xid, branch: u16) -> Self {
        // The odd factor spreads the branch over the random half of the xid.
        let spread = (branch as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) & ((1 << 62) - 1);
        Self::from_u128(xid.as_u128() ^ spread)
    }
}

/// A message as its producer gives it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Chosen by the producer; a repeat with the same id and content is the same message.
    pub id: MessageId,
    /// What subscribers ask for: `order.placed`.
    pub topic: String,
    /// What the message is about, in the words of the business: the order id.
    pub key: String,
    /// The CloudEvents type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The CloudEvents source: who says so.
    pub source: String,
    /// Any JSON, at most [`DATA_BYTES_MAX`] bytes; passed on as it came, byte for byte.
    pub data: Box<RawValue>,
}

/// Several messages to publish at once, which stand and fall each for itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublishAll {
    /// At most [`PublishAll::MAX`].
    pub messages: Vec<Publish>,
    /// The trace that each goes on in, as the header `traceparent` has it; empty where there is
    /// none.
    #[serde(default)]
    pub traces: Vec<String>,
}

impl PublishAll {
    /// Most messages of one request.
    pub const MAX: usize = 64;
}

/// Which of [`PublishAll`] are stored, now or before, in their order. Each of the others is
/// published alone, where the answer says what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Whether it is.
    pub done: Vec<bool>,
}

/// Whom the broker asks how a half message ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckAt {
    /// The producer's service; any instance is asked.
    pub service: String,
    /// The path to POST [`Ask`] to.
    pub path: String,
}

/// A half message around a local transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Half {
    /// As in [`Publish`].
    pub id: MessageId,
    /// As in [`Publish`].
    pub topic: String,
    /// As in [`Publish`].
    pub key: String,
    /// As in [`Publish`].
    #[serde(rename = "type")]
    pub kind: String,
    /// As in [`Publish`].
    pub source: String,
    /// As in [`Publish`].
    pub data: Box<RawValue>,
    /// Whom to ask when neither commit nor rollback comes.
    pub check: CheckAt,
}

/// The payload of the broker's branch of a transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BranchMessage {
    /// As in [`Publish`].
    pub topic: String,
    /// As in [`Publish`].
    pub key: String,
    /// As in [`Publish`].
    #[serde(rename = "type")]
    pub kind: String,
    /// As in [`Publish`].
    pub source: String,
    /// As in [`Publish`].
    pub data: Box<RawValue>,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Stored, not decided.
    Prepared,
    /// Decided to go out; each subscriber has a delivery of its own.
    Committed,
    /// Decided to go nowhere. Final.
    Cancelled,
    /// Nobody could say how it ended; a human decides, or a late word of the producer.
    ParkedUndecided,
    /// Committed while nobody subscribed to the topic; waits for the first who does.
    ParkedUnrouted,
    /// Every subscriber has acknowledged it.
    Done,
}

/// Answer to a publish, commit or rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The message.
    pub id: MessageId,
    /// Where it stands.
    pub state: State,
    /// Its place in the order of commits; absent before the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
}

/// The body of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// The service whose instances get the deliveries.
    pub service: String,
    /// The path the deliveries are sent to.
    pub path: String,
    /// The most deliveries that one request may have, as [`crate::batch`] says; 0 and 1: each has
    /// a request of its own. The broker takes no more than [`crate::batch::EVENTS_MAX`] from it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub together: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(it: &u32) -> bool {
    *it == 0
}

/// A question to the producer: how did this message's local transaction end?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The message.
    pub id: MessageId,
}

/// How a local transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It is durable.
    Committed,
    /// It did not happen and never will.
    RolledBack,
    /// It cannot be said now.
    Unknown,
}

/// Answer to [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// How it ended.
    pub state: Ending,
}

/// Checks a name: 1 to [`NAME_LEN_MAX`] of `a-z`, `A-Z`, digits, `.`, `_`, `-`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let usable = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-');
    (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(usable)
}

/// Checks a key or source: 1 to [`TEXT_LEN_MAX`] visible ASCII characters, since it travels in a
/// header.
#[must_use]
pub fn is_text(text: &str) -> bool {
    (1..=TEXT_LEN_MAX).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic())
}

/// Checks a path: from `/`, at most [`PATH_LEN_MAX`] bytes, unreserved characters only.
#[must_use]
pub fn is_path(text: &str) -> bool {
    let usable = |it: u8| it.is_ascii_alphanumeric() || b"/-._~".contains(&it);
    text.len() <= PATH_LEN_MAX
        && text.starts_with('/')
        && !text.starts_with("//")
        && text.bytes().all(usable)
        && !text.split('/').any(|it| it == "." || it == "..")
}

/// Adds to `problem` what is wrong with the parts of a message.
#[must_use]
pub fn check_parts(
    mut problem: Problem,
    [topic, key, kind, source]: [&str; 4],
    data: &RawValue,
) -> Problem {
    for (field, text) in [("topic", topic), ("type", kind)] {
        if !is_name(text) {
            problem = problem.field(field, NAME_RULE);
        }
    }
    for (field, text) in [("key", key), ("source", source)] {
        if !is_text(text) {
            problem = problem.field(field, "must be 1 to 128 visible ASCII characters");
        }
    }
    if DATA_BYTES_MAX < data.get().len() {
        problem = problem.field("data", "must have at most 65536 bytes");
    }
    problem
}

/// What a name must be, for a problem document.
pub const NAME_RULE: &str = "must be 1 to 64 letters, digits, dots, hyphens and underscores";
/// What a path must be, for a problem document.
pub const PATH_RULE: &str = "must be a path of at most 128 plain characters that starts with /";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_stays_as_it_came_byte_for_byte() {
        let data = r#"{"b":1.50,"a":123456789012345678901234567890, "u":"\u00e9"}"#;
        let id = MessageId::from_u128(7);
        let text = format!(
            r#"{{"id":"{id}","topic":"t","key":"k","type":"y","source":"s","data":{data}}}"#
        );
        let it: Publish = serde_json::from_str(&text).unwrap();
        assert_eq!(it.data.get(), data);
    }

    #[test]
    fn branches_of_one_transaction_have_different_ids_and_repeats_the_same() {
        let xid = Xid::from_u128(0x0193_0000_0000_7000_8000_0123_4567_89ab);
        let mut ids: Vec<_> = (0..=300).map(|it| MessageId::of_branch(xid, it)).collect();
        assert_eq!(ids[3], MessageId::of_branch(xid, 3));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 301);
    }

    #[test]
    fn what_would_break_a_header_or_lead_elsewhere_is_refused() {
        assert!(is_name("order.placed") && is_text("ord_1/2") && is_path("/messages/order"));
        for bad in ["", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
        for bad in ["", "a b", "a\r\nx: y", "é", &"x".repeat(129)] {
            assert!(!is_text(bad), "{bad}");
        }
        for bad in ["", "x", "//host/x", "/a/../b", "/a?b", "/a b", "/é", "/%2e%2e"] {
            assert!(!is_path(bad), "{bad}");
        }
    }
}
