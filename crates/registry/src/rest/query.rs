//! Query strings as Java servers read them.

use std::collections::HashSet;

use percent_encoding::percent_decode_str;
use tradewind_eureka::Status;

/// Decoded pairs in order.
#[derive(Debug)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Reads `a=b&c=d`. What is not UTF-8 is replaced, as servers of the time do.
    pub(super) fn parse(query: Option<&str>) -> Self {
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let pairs = query.unwrap_or_default().split('&').filter(|it| !it.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
        )
    }

    /// The first value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }

    /// `lastDirtyTimestamp`; one that is not a number counts as none.
    pub(super) fn dirty(&self) -> Option<i64> {
        self.get("lastDirtyTimestamp")?.parse().ok()
    }

    /// A status by its name; `Err` for a text that is none.
    pub(super) fn status(&self, name: &str) -> Result<Option<Status>, ()> {
        self.get(name).map(|it| Status::from_name(it).ok_or(())).transpose()
    }

    /// All of them, the first value of each name.
    pub(super) fn into_first(self) -> Vec<(String, String)> {
        // In linear time: a query may be full of short names.
        let mut held = HashSet::new();
        self.0.into_iter().filter(|(name, _)| held.insert(name.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_the_first_value_wins() {
        let pairs = Pairs::parse(Some("a=1%202&b=x+y&a=3&c&status=UP&lastDirtyTimestamp=17"));
        assert_eq!(
            (pairs.get("a"), pairs.get("b"), pairs.get("c")),
            (Some("1 2"), Some("x y"), Some(""))
        );
        assert_eq!((pairs.dirty(), pairs.status("status")), (Some(17), Ok(Some(Status::Up))));
        let names: Vec<_> = pairs.into_first().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b", "c", "status", "lastDirtyTimestamp"]);
        assert_eq!(Pairs::parse(Some("value=up")).status("value"), Err(()));
        assert_eq!(Pairs::parse(None).dirty(), None);
    }
}
