//! Whether two requests with one key mean the same.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::{Number, Value};

/// A digest of what a request asks for: equal for JSON that differs only in the order of members,
/// in white space, in escapes and in the spelling of numbers.
///
/// Its text starts with the version of the algorithm; rows written by another version are compared
/// only with that version's result, so a release that changes it must keep the old one for as long
/// as rows live.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(Box<str>);

/// The only algorithm so far: SHA-256 over parts, each with its length before it; JSON as
/// [`canonical`] writes it.
const VERSION: &str = "v1";

impl Fingerprint {
    /// Of a JSON value: usually the body, or those of its fields that carry the intent. Leave out
    /// what differs between attempts, such as a time of sending.
    #[must_use]
    pub fn of_json(value: &Value) -> Self {
        let mut text = String::new();
        canonical(value, &mut text);
        Self::of_parts([b"json".as_slice(), text.as_bytes()])
    }

    /// Of several texts of bytes; their borders count.
    #[must_use]
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut digest = Context::new(&SHA256);
        for part in parts {
            digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part);
        }
        let hex: String = digest.finish().as_ref().iter().map(|it| format!("{it:02x}")).collect();
        Self(format!("{VERSION}:{hex}").into())
    }

    /// Of a request: its method, its path with query, and its body, as JSON if it is JSON.
    #[must_use]
    pub fn of_request(method: &str, target: &str, body: &[u8]) -> Self {
        let head = [method.as_bytes(), target.as_bytes()];
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => {
                let mut text = String::new();
                canonical(&value, &mut text);
                Self::of_parts(head.into_iter().chain([b"json".as_slice(), text.as_bytes()]))
            }
            Err(_) => Self::of_parts(head.into_iter().chain([b"bytes".as_slice(), body])),
        }
    }

    /// The text that is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn stored(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes JSON so that equal values have equal texts: members sorted by name, no white space, one
/// spelling for each number. (In the spirit of RFC 8785, whose numbers and order are those of
/// JavaScript; nobody else has to compute these.)
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|it| it.0);
            text.push('{');
            for (index, (name, value)) in sorted.into_iter().enumerate() {
                if index != 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                canonical(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, value) in items.iter().enumerate() {
                if index != 0 {
                    text.push(',');
                }
                canonical(value, text);
            }
            text.push(']');
        }
        Value::Number(number) => text.push_str(&spelled(number)),
        Value::Null | Value::Bool(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}

/// `1`, `1.0` and `1e0` are one number.
fn spelled(number: &Number) -> String {
    // Beyond it, neighbouring whole numbers share a representation.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => {
            // Minus zero is zero.
            format!("{:.0}", float + 0.0)
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Fingerprint {
        Fingerprint::of_json(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn order_white_space_and_spelling_do_not_matter() {
        let base = of(r#"{"a":1,"b":[1,{"c":"x","d":null}]}"#);
        for same in [
            "{ \"b\" : [ 1 , {\"d\":null,\n\"c\":\"x\"} ] , \"a\" : 1 }",
            r#"{"a":1.0,"b":[1e0,{"c":"\u0078","d":null}]}"#,
        ] {
            assert_eq!(of(same), base, "{same}");
        }
        assert_eq!(of("-0.0"), of("0"));
    }

    #[test]
    fn what_means_something_else_differs() {
        let all: Vec<_> = [
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"a":"1"}"#,
            r#"{"a":1,"b":null}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":1.5}"#,
            r#"{"a":9007199254740993}"#,
            r#"{"a":9007199254740992}"#,
            "{}",
            "[]",
            "null",
            r#""""#,
        ]
        .map(of)
        .into();
        for (index, one) in all.iter().enumerate() {
            for other in all.iter().skip(index + 1) {
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn the_target_and_the_borders_of_parts_count() {
        let one = Fingerprint::of_request("POST", "/orders/1/cancel", b"{}");
        assert_eq!(one, Fingerprint::of_request("POST", "/orders/1/cancel", b" { } "));
        for (method, target, body) in [
            ("POST", "/orders/2/cancel", b"{}".as_slice()),
            ("PUT", "/orders/1/cancel", b"{}"),
            ("POST", "/orders/1/cancel", b""),
            ("POST", "/orders/1/cancel", b"{ not json"),
        ] {
            assert_ne!(one, Fingerprint::of_request(method, target, body), "{target}");
        }
        let split = |parts: [&str; 2]| Fingerprint::of_parts(parts.map(str::as_bytes));
        assert_ne!(split(["ab", "c"]), split(["a", "bc"]));
    }

    #[test]
    fn the_first_algorithm_never_changes() {
        // Computed with another implementation of SHA-256.
        let known = "v1:e151a62c954e6bea60ee99fc91ede2e707b4cddce8d5bcac309ed6eb105be3df";
        assert_eq!(of(r#"{"b":2,"a":1}"#).as_str(), known);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\é]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-d]{0,2}", inner, 0..4)
                    .prop_map(|it| Value::Object(it.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn equal_values_and_only_they_have_equal_fingerprints(one in json(), other in json()) {
            let again: Value = serde_json::from_str(&serde_json::to_string_pretty(&one).unwrap()).unwrap();
            prop_assert_eq!(Fingerprint::of_json(&one), Fingerprint::of_json(&again));
            prop_assert_eq!(
                Fingerprint::of_json(&one) == Fingerprint::of_json(&other), one == other
            );
        }
    }
}
