//! One way to write a path, decided once.
//!
//! A gateway and the service behind it that read one path in two ways are the root of most access
//! bypasses. So a path is normalised before it is routed, exactly these bytes are forwarded, and
//! whatever different servers are known to read differently is refused:
//!
//! - dot segments, written plainly or encoded, at any place;
//! - `%2F`, `%5C`, `\`, `;`, an empty segment (`//`), encoded control characters;
//! - a percent sign that escapes nothing, a doubly escaped one (`%25` before two hexadecimal
//!   digits), escapes that are not UTF-8, bytes outside visible ASCII.
//!
//! Normalising decodes escaped unreserved characters (RFC 3986 §6.2.2.2) and writes the remaining
//! escapes in upper case (§6.2.2.1).

use std::borrow::Cow;

/// Why a path was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The target does not start with a slash.
    #[error("the target must be an absolute path")]
    NotAbsolute,
    /// A segment is `.` or `..`.
    #[error("dot segments are refused")]
    DotSegment,
    /// Two slashes in a row.
    #[error("empty segments are refused")]
    EmptySegment,
    /// An encoded slash or backslash, or a backslash.
    #[error("encoded slashes and backslashes are refused")]
    HiddenSlash,
    /// A semicolon: some servers cut the segment there.
    #[error("path parameters (`;`) are refused")]
    Parameter,
    /// An encoded control character.
    #[error("encoded control characters are refused")]
    Control,
    /// A percent sign without two hexadecimal digits, or doubly encoded text.
    #[error("a percent sign must escape exactly one byte, once")]
    Escape,
    /// The escaped bytes are not UTF-8.
    #[error("the escaped bytes must be UTF-8")]
    NotUtf8,
    /// A byte outside visible ASCII, or a fragment.
    #[error("the path may hold visible ASCII characters only")]
    Byte,
}

/// Writes a path in its one form; borrows when it already is.
///
/// # Errors
/// When the path is of a kind that servers are known to read differently.
///
/// ```
/// use tradewind_gateway::machine::path::{PathError, normalise};
/// assert_eq!(normalise("/%6frders/caf%c3%a9").unwrap(), "/orders/caf%C3%A9");
/// assert_eq!(normalise("/a/%2e%2e/b"), Err(PathError::DotSegment));
/// ```
pub fn normalise(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let out = if raw.bytes().all(is_plain) { Cow::Borrowed(raw) } else { Cow::Owned(decode(raw)?) };
    segments(&out)?;
    Ok(out)
}

/// Bytes that stand for themselves in a path, apart from the percent sign.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/'
        | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

const fn is_unreserved(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~')
}

fn decode(raw: &str) -> Result<String, PathError> {
    let bytes = raw.as_bytes();
    let mut out = String::with_capacity(raw.len());
    let mut real = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            check_literal(byte)?;
            out.push(char::from(byte));
            real.push(byte);
            at += 1;
            continue;
        }
        let value = escape(bytes, at).ok_or(PathError::Escape)?;
        check_escaped(bytes, at, value)?;
        if is_unreserved(value) {
            out.push(char::from(value));
        } else {
            const DIGITS: [char; 16] =
                ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
            out.push('%');
            out.extend([DIGITS[usize::from(value >> 4)], DIGITS[usize::from(value & 15)]]);
        }
        real.push(value);
        at += 3;
    }
    std::str::from_utf8(&real).map_err(|_| PathError::NotUtf8)?;
    Ok(out)
}

const fn check_literal(byte: u8) -> Result<(), PathError> {
    match byte {
        b'\\' => Err(PathError::HiddenSlash),
        b';' => Err(PathError::Parameter),
        it if is_plain(it) => Ok(()),
        // Not allowed in a path by RFC 3986, though clients send some of them: harmless ones pass.
        b'"' | b'[' | b']' | b'^' | b'{' | b'|' | b'}' => Ok(()),
        _ => Err(PathError::Byte),
    }
}

fn check_escaped(bytes: &[u8], at: usize, value: u8) -> Result<(), PathError> {
    match value {
        b'/' | b'\\' => Err(PathError::HiddenSlash),
        b';' => Err(PathError::Parameter),
        0..=0x1f | 0x7f => Err(PathError::Control),
        b'%' => {
            let next = |offset| bytes.get(at + offset).is_some_and(u8::is_ascii_hexdigit);
            if next(3) && next(4) { Err(PathError::Escape) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

fn escape(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| {
        char::from(*bytes.get(at + offset)?).to_digit(16).and_then(|it| u8::try_from(it).ok())
    };
    Some(digit(1)? << 4 | digit(2)?)
}

fn segments(path: &str) -> Result<(), PathError> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let mut rest = inner.split('/').peekable();
    while let Some(segment) = rest.next() {
        match segment {
            "." | ".." => return Err(PathError::DotSegment),
            // The last one may be empty: `/` and `/orders/`.
            "" if rest.peek().is_some() => return Err(PathError::EmptySegment),
            _ => (),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_plain_is_borrowed_and_unchanged() {
        for path in ["/", "/orders", "/orders/", "/a-b_c.d~/(x)/1+2,3=4:@&$!*'"] {
            assert!(matches!(normalise(path), Ok(Cow::Borrowed(it)) if it == path), "{path}");
        }
    }

    #[test]
    fn escapes_get_their_one_form() {
        let table = [
            ("/%41%7a%30%2d", "/Az0-"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/100%25", "/100%25"),
            ("/a%25zz", "/a%25zz"),
            ("/x%2ey", "/x.y"),
            ("/%3f%23", "/%3F%23"),
            ("/{id}|x", "/{id}|x"),
        ];
        for (raw, want) in table {
            assert_eq!(normalise(raw).as_deref(), Ok(want), "{raw}");
        }
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        use PathError as E;
        let table = [
            ("", E::NotAbsolute),
            ("*", E::NotAbsolute),
            ("http://h/", E::NotAbsolute),
            ("/.", E::DotSegment),
            ("/..", E::DotSegment),
            ("/a/../b", E::DotSegment),
            ("/a/./b", E::DotSegment),
            ("/a/%2e%2e/b", E::DotSegment),
            ("/a/.%2E", E::DotSegment),
            ("/a/%2e", E::DotSegment),
            ("//", E::EmptySegment),
            ("//a", E::EmptySegment),
            ("/a//b", E::EmptySegment),
            ("/a%2fb", E::HiddenSlash),
            ("/a%2Fb", E::HiddenSlash),
            ("/a%5cb", E::HiddenSlash),
            ("/a\\b", E::HiddenSlash),
            ("/a;b", E::Parameter),
            ("/a%3bb", E::Parameter),
            ("/a%00", E::Control),
            ("/a%0d%0ab", E::Control),
            ("/a%7f", E::Control),
            ("/a%", E::Escape),
            ("/a%2", E::Escape),
            ("/a%zz", E::Escape),
            ("/a%+1", E::Escape),
            ("/a%252e", E::Escape),
            ("/a%252fb", E::Escape),
            ("/a%ff", E::NotUtf8),
            ("/a%c0%af", E::NotUtf8),
            ("/é", E::Byte),
            ("/a#b", E::Byte),
            ("/a b", E::Byte),
            ("/a?b", E::Byte),
        ];
        for (raw, want) in table {
            assert_eq!(normalise(raw), Err(want), "{raw}");
        }
    }

    proptest! {
        /// GATE-2: the form is stable, so a second reader that normalises sees the same path.
        #[test]
        fn normalising_twice_changes_nothing(raw in "/[a-zA-Z0-9%./;\\\\é ]{0,24}") {
            if let Ok(once) = normalise(&raw) {
                prop_assert_eq!(normalise(&once).unwrap(), once.clone());
                prop_assert!(!once.contains("//") && !once.contains("/../") && !once.contains('\\'));
            }
        }

        #[test]
        fn any_text_is_answered_not_panicked_on(raw in "\\PC{0,40}") {
            drop(normalise(&raw));
        }
    }
}
