//! The borrowed view of a request head that every decision works on.
//!
//! A data path parses heads its own way and fills this view; nothing here allocates or knows the
//! types of an HTTP library.

/// A request head, borrowed.
pub trait Head {
    /// The method, as sent; methods are case-sensitive.
    fn method(&self) -> &str;
    /// The path as sent, before normalising; without the query.
    fn path(&self) -> &str;
    /// The query as sent, without the question mark.
    fn query(&self) -> Option<&str>;
    /// All header fields in order. Names in whatever case they came.
    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])>;

    /// The values of one field, in order.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers().filter(move |(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first value of one field, if it is text.
    fn text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.values(name).next().and_then(|it| std::str::from_utf8(it).ok())
    }
}

/// A head made of plain slices: for tests, and for data paths that parse into slices.
#[derive(Clone, Copy, Debug)]
pub struct Slices<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as sent.
    pub path: &'a str,
    /// The query as sent.
    pub query: Option<&'a str>,
    /// The header fields.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl Head for Slices<'_> {
    fn method(&self) -> &str {
        self.method
    }
    fn path(&self) -> &str {
        self.path
    }
    fn query(&self) -> Option<&str> {
        self.query
    }
    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().copied()
    }
}

/// Splits a comma-separated field value into its trimmed, non-empty members.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|it| *it == b',').map(<[u8]>::trim_ascii).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_ignores_case_and_keeps_order() {
        let head = Slices {
            method: "GET",
            path: "/",
            query: None,
            headers: &[("Accept", b"a"), ("accept", b"b"), ("other", b"\xff")],
        };
        assert_eq!(head.values("ACCEPT").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(head.text("accept"), Some("a"));
        assert_eq!(head.text("other"), None);
        assert_eq!(list(b" a,, b ,").collect::<Vec<_>>(), [b"a", b"b"]);
    }
}
