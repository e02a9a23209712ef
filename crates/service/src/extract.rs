//! What handlers take: JSON bodies, path and query parameters, and who asks. Every refusal is a
//! problem document that names the field.

mod identity;
mod json;
mod params;

pub use identity::{Authority, Caller, MaybeUser, User};
pub use json::Json;
pub use params::{Path, Query};

/// The longest message of a parser that is passed on: such a message may quote the input.
const MESSAGE_CHARS_MAX: usize = 200;

fn shorten(message: &str) -> String {
    if message.chars().count() <= MESSAGE_CHARS_MAX {
        return message.to_owned();
    }
    message.chars().take(MESSAGE_CHARS_MAX).chain(['…']).collect()
}

/// What is wrong with a field as such, and its name, from serde's own words like "missing field
/// `x`", which come without a path to the field.
fn named_field(message: &str) -> Option<(&'static str, &str)> {
    let kinds = [
        ("missing field `", "is missing"),
        ("unknown field `", "is unknown"),
        ("duplicate field `", "comes more than once"),
    ];
    for (start, what) in kinds {
        if let Some((name, _)) = message.strip_prefix(start).and_then(|it| it.split_once('`')) {
            return Some((what, name));
        }
    }
    None
}
