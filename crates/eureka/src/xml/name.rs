//! Metadata keys as element names and back.

use std::borrow::Cow;

/// Whether a character may begin a name as it is. Narrower than XML's own rule: only characters
/// on which its editions agree, because parsers in use follow different ones. No colon, which
/// would make a namespace of what is before it.
const fn begins(it: char) -> bool {
    matches!(it,
        'A'..='Z' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{ff}'
        | '\u{4e00}'..='\u{9fa5}')
}

/// Writes a key as a name. The key must not be empty: there is no such name.
pub(super) fn encode(out: &mut String, key: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for (at, it) in key.char_indices() {
        match it {
            '_' => out.push_str("__"),
            '$' => out.push_str("_-"),
            _ if begins(it) => out.push(it),
            '0'..='9' | '-' | '.' if at > 0 => out.push(it),
            _ => {
                for unit in it.encode_utf16(&mut [0; 2]) {
                    out.push_str("_.");
                    for shift in [12, 8, 4, 0] {
                        let digit = HEX.get(usize::from((*unit >> shift) & 0xf));
                        out.push(digit.copied().map_or('0', char::from));
                    }
                }
            }
        }
    }
}

/// Reads a name as a key. Names that were not made by [`encode`] are taken as they are as far as
/// possible; a lone `_` is one.
pub(super) fn decode(name: &str) -> Cow<'_, str> {
    if !name.contains('_') {
        return Cow::Borrowed(name);
    }
    let mut key = String::with_capacity(name.len());
    let mut units: Vec<u16> = Vec::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('_') {
        if !before.is_empty() {
            flush(&mut key, &mut units);
            key.push_str(before);
        }
        if let Some((unit, left)) = hex(after) {
            units.push(unit);
            rest = left;
            continue;
        }
        flush(&mut key, &mut units);
        let (it, left) = match (after.strip_prefix('_'), after.strip_prefix('-')) {
            (Some(left), _) => ('_', left),
            (None, Some(left)) => ('$', left),
            (None, None) => ('_', after),
        };
        key.push(it);
        rest = left;
    }
    flush(&mut key, &mut units);
    key.push_str(rest);
    Cow::Owned(key)
}

/// `.` and four hex digits.
fn hex(after: &str) -> Option<(u16, &str)> {
    let (digits, left) = after.strip_prefix('.')?.split_at_checked(4)?;
    let hexadecimal = digits.bytes().all(|it| it.is_ascii_hexdigit());
    let unit = u16::from_str_radix(digits, 16).ok().filter(|_| hexadecimal)?;
    Some((unit, left))
}

/// Units come in pairs for characters beyond the first 65,536; half a pair is no character.
fn flush(key: &mut String, units: &mut Vec<u16>) {
    let decoded = char::decode_utf16(units.drain(..));
    key.extend(decoded.map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(key: &str) -> String {
        let mut out = String::new();
        encode(&mut out, key);
        out
    }

    #[test]
    fn keys_become_names_and_come_back() {
        for (key, name) in [
            ("zone", "zone"),
            ("a_b", "a__b"),
            ("d$e", "d_-e"),
            ("management.port", "management.port"),
            ("1st", "_.0031st"),
            ("-x", "_.002Dx"),
            ("a b", "a_.0020b"),
            ("a:b", "a_.003Ab"),
            ("_.0031", "__.0031"),
            ("区", "区"),
            ("😀", "_.D83D_.DE00"),
            ("<", "_.003C"),
        ] {
            assert_eq!(encoded(key), name);
            assert_eq!(decode(name), key);
        }
    }

    #[test]
    fn names_of_other_makers_are_taken_as_they_are() {
        for (name, key) in [("a_b", "a_b"), ("_", "_"), ("a_.zz", "a_.zz"), ("x_", "x_")] {
            assert_eq!(decode(name), key);
        }
        assert_eq!(decode("_.D83D"), "\u{fffd}");
        assert_eq!(decode("_.+031"), "_.+031");
    }
}
