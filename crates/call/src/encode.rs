//! Percent-encoding of what a parameter puts into the address.

use std::fmt::{self, Display, Write as _};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but the unreserved characters (RFC 3986 §2.3). The standard lets more stand, in
/// some components; but what is escaped though it need not be is read the same by every server,
/// and what stands is not: `+` is a space to some, `;` a separator to others.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The longest address, in bytes: what common servers take.
pub(crate) const ADDRESS_MAX: usize = 8 * 1024;

/// Appends escaped text, up to a bound.
struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if ADDRESS_MAX < self.0.len() + text.len() {
            return Err(fmt::Error);
        }
        self.0.extend(utf8_percent_encode(text, ESCAPED));
        Ok(())
    }
}

/// Appends `value`, escaped.
///
/// # Errors
/// When the address becomes too long, or the value does not display. A part of it may then have
/// been appended.
pub(crate) fn append(to: &mut String, value: &dyn Display) -> fmt::Result {
    write!(Escaping(to), "{value}")
}

/// Whether a whole segment, as appended, would not arrive as it is: empty ones are merged with
/// their neighbours and dot segments resolved (RFC 3986 §5.2.4), escaped or not, by one server or
/// proxy or another. The request would reach another endpoint.
pub(crate) fn misleads(segment: &str) -> bool {
    matches!(segment, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    fn escaped(value: &str) -> String {
        let mut text = String::new();
        append(&mut text, &value).unwrap();
        text
    }

    #[test]
    fn separators_spaces_and_signs_do_not_stand() {
        assert_eq!(
            escaped("a/b?c#d&e=f+g h;i:j@k%l"),
            "a%2Fb%3Fc%23d%26e%3Df%2Bg%20h%3Bi%3Aj%40k%25l"
        );
        assert_eq!(escaped("Az09-._~"), "Az09-._~");
        assert_eq!(escaped("é\r\n\0"), "%C3%A9%0D%0A%00");
    }

    #[test]
    fn an_address_without_end_is_refused() {
        assert!(append(&mut String::new(), &"x".repeat(ADDRESS_MAX + 1)).is_err());
        let mut text = "x".repeat(ADDRESS_MAX);
        assert!(append(&mut text, &"y").is_err());
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(value in any::<String>()) {
            let text = escaped(&value);
            prop_assert!(text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._~%".contains(&it)));
            prop_assert_eq!(percent_decode_str(&text).decode_utf8().unwrap(), value);
        }

        #[test]
        fn pairs_survive_a_reader_of_forms(pairs in prop::collection::vec((any::<String>(), any::<String>()), 0..5)) {
            let query: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value))).collect();
            let query = query.join("&");
            let read: Vec<(String, String)> =
                url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            prop_assert_eq!(read, pairs);
        }
    }
}
