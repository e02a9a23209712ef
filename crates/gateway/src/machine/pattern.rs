//! Path patterns in the language of Ant, as Zuul's route tables use it.
//!
//! `?` stands for one character of a segment, `*` for any number of characters of one segment
//! (none included), `**` as a whole segment for any number of segments (none included). So
//! `/order/**` matches `/order`, `/order/` and `/order/a/b`. Characters are compared exactly, with
//! their case, escaped ones in their escaped form. `{name}` variables are refused: Zuul's routes have no use for them.

use std::cmp::Ordering;
use std::fmt;

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The pattern is empty or does not start with a slash.
    #[error("must start with `/`")]
    NotAbsolute,
    /// Longer than the column.
    #[error("must have at most {} characters", Pattern::LEN_MAX)]
    TooLong,
    /// The literal text could never match a normalised path.
    #[error("could never match: {0}")]
    Unmatchable(super::path::PathError),
    /// `**` beside other characters.
    #[error("`**` must be a whole segment")]
    DoubleStar,
    /// More than [`Pattern::DOUBLE_STARS_MAX`] of them.
    #[error("at most {} segments may be `**`", Pattern::DOUBLE_STARS_MAX)]
    TooManyDoubleStars,
    /// A `{variable}`.
    #[error("variables in braces are not supported; use `*`")]
    Variable,
    /// The pattern is not written as paths are: `/%6frder` is `/order`.
    #[error("must be written as paths are: plain characters, other escapes in upper case")]
    NotNormal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    /// With `?` or `*`.
    Glob(Box<str>),
    /// `**`
    Any,
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    segments: Vec<Segment>,
}

impl Pattern {
    /// The longest pattern, in characters: the size of the column.
    pub const LEN_MAX: usize = 255;
    /// The most `**` in one pattern; it bounds what matching can cost.
    pub const DOUBLE_STARS_MAX: usize = 3;

    /// Compiles a pattern.
    ///
    /// # Errors
    /// When the text is not a pattern, or one that can never match.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let Some(inner) = text.strip_prefix('/') else { return Err(PatternError::NotAbsolute) };
        if Self::LEN_MAX < text.chars().count() {
            return Err(PatternError::TooLong);
        }
        if text.contains(['{', '}']) {
            return Err(PatternError::Variable);
        }
        // A question mark is no path character, but here it is a wildcard: look at the rest.
        let literal = text.replace('?', "x");
        match super::path::normalise(&literal) {
            Ok(it) if it == literal => (),
            Ok(_) => return Err(PatternError::NotNormal),
            Err(error) => return Err(PatternError::Unmatchable(error)),
        }
        let segments = inner.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        let any = segments.iter().filter(|it| **it == Segment::Any).count();
        if Self::DOUBLE_STARS_MAX < any {
            return Err(PatternError::TooManyDoubleStars);
        }
        Ok(Self { text: text.into(), segments })
    }

    /// The text it was made of.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a normalised path matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let inner = path.strip_prefix('/').unwrap_or(path);
        let parts: Vec<&str> = inner.split('/').collect();
        matches(&self.segments, &parts)
    }

    /// What stands before the first segment with a wildcard, without the slash at its end; empty
    /// when that is the first segment.
    ///
    /// This is what `strip_prefix` takes away. As with Zuul a pattern without wildcards has no
    /// prefix to strip: `None`.
    #[must_use]
    pub fn literal_prefix(&self) -> Option<String> {
        let wild = self.segments.iter().position(|it| !matches!(it, Segment::Literal(_)))?;
        let mut prefix = String::new();
        for segment in self.segments.iter().take(wild) {
            if let Segment::Literal(text) = segment {
                prefix.push('/');
                prefix.push_str(text);
            }
        }
        Some(prefix)
    }

    /// The first segment, if every matching path starts with it.
    #[must_use]
    pub fn first_literal(&self) -> Option<&str> {
        match self.segments.first() {
            Some(Segment::Literal(text)) => Some(text),
            Some(Segment::Glob(_) | Segment::Any) | None => None,
        }
    }

    /// Orders patterns, the more specific one first.
    ///
    /// Segment by segment from the left: literal text before a segment with wildcards, among those
    /// the one with more literal characters, `**` last; a pattern that ends before the other is
    /// less specific only if the other goes on with something other than `**`. What is still equal
    /// is ordered by its text, so the order is total and does not depend on the table.
    #[must_use]
    pub fn specificity(&self, other: &Self) -> Ordering {
        let length = self.segments.len().max(other.segments.len());
        (0..length)
            .map(|at| weight(self.segments.get(at)).cmp(&weight(other.segments.get(at))).reverse())
            .find(|it| it.is_ne())
            .unwrap_or_else(|| self.text.cmp(&other.text))
    }
}

/// More specific is larger.
fn weight(segment: Option<&Segment>) -> (u8, usize) {
    match segment {
        Some(Segment::Literal(_)) => (3, 0),
        Some(Segment::Glob(text)) => (2, text.bytes().filter(|it| !b"?*".contains(it)).count()),
        None => (1, 0),
        Some(Segment::Any) => (0, 0),
    }
}

fn segment(text: &str) -> Result<Segment, PatternError> {
    match text {
        "**" => Ok(Segment::Any),
        it if it.contains("**") => Err(PatternError::DoubleStar),
        it if it.contains(['?', '*']) => Ok(Segment::Glob(it.into())),
        it => Ok(Segment::Literal(it.into())),
    }
}

/// At most [`Pattern::DOUBLE_STARS_MAX`] levels of recursion branch.
fn matches(pattern: &[Segment], parts: &[&str]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return parts.is_empty() };
    match (first, parts.split_first()) {
        (Segment::Any, _) => (0..=parts.len())
            .any(|skip| parts.get(skip..).is_some_and(|remaining| matches(rest, remaining))),
        (Segment::Literal(text), Some((part, parts))) => **text == **part && matches(rest, parts),
        (Segment::Glob(text), Some((part, parts))) => {
            glob(text.as_bytes(), part.as_bytes()) && matches(rest, parts)
        }
        (Segment::Literal(_) | Segment::Glob(_), None) => false,
    }
}

/// Matching with one point to return to: linear memory, at most quadratic time.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p + 1, t));
                p += 1;
            }
            Some(&it) if it == b'?' || Some(&it) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match back {
                Some((after, from)) => {
                    back = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|it| *it == b'*'))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pattern: &str, path: &str, want: bool) {
        let pattern = Pattern::parse(pattern).unwrap();
        assert_eq!(pattern.matches(path), want, "{pattern} {path}");
    }

    #[test]
    fn matching_follows_ant() {
        for path in ["/order", "/order/", "/order/a", "/order/a/b/"] {
            check("/order/**", path, true);
        }
        for path in ["/", "/orders", "/orde", "/x/order", "/ORDER"] {
            check("/order/**", path, false);
        }
        check("/a", "/a", true);
        check("/a", "/a/", false);
        check("/a/*", "/a/b", true);
        check("/a/*", "/a/", true);
        check("/a/*", "/a", false);
        check("/a/*", "/a/b/c", false);
        check("/a/?", "/a/b", true);
        check("/a/?", "/a/bc", false);
        check("/a/?", "/a/", false);
        check("/a/*.json", "/a/x.json", true);
        check("/a/*.json", "/a/.jsonx", false);
        check("/a/b*c*d", "/a/bxxcyyd", true);
        check("/a/b*c*d", "/a/bxxcyy", false);
        check("/**/c", "/a/b/c", true);
        check("/**/c", "/c", true);
        check("/**/c", "/a/b/d", false);
        check("/a/**/b/**/c", "/a/x/b/y/z/c", true);
        check("/**", "/", true);
        check("/", "/", true);
        check("/", "/a", false);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        use PatternError as E;
        let table = [
            ("", E::NotAbsolute),
            ("order/**", E::NotAbsolute),
            ("/a**", E::DoubleStar),
            ("/***", E::DoubleStar),
            ("/{id}", E::Variable),
            ("/a//b", E::Unmatchable(crate::machine::path::PathError::EmptySegment)),
            ("/../b", E::Unmatchable(crate::machine::path::PathError::DotSegment)),
            ("/a b", E::Unmatchable(crate::machine::path::PathError::Byte)),
            ("/%6frder", E::NotNormal),
            ("/**/a/**/b/**/c/**", E::TooManyDoubleStars),
        ];
        for (text, want) in table {
            assert_eq!(Pattern::parse(text), Err(want), "{text}");
        }
        assert_eq!(Pattern::parse(&format!("/{}", "a".repeat(255))), Err(E::TooLong));
        assert!(Pattern::parse(&format!("/{}", "a".repeat(254))).is_ok());
    }

    /// R3.1a
    #[test]
    fn the_literal_prefix_is_what_stands_before_the_first_wildcard() {
        let table = [
            ("/order/**", Some("/order")),
            ("/api/order/*/x", Some("/api/order")),
            ("/api/ord*", Some("/api")),
            ("/a?/b", Some("")),
            ("/**", Some("")),
            ("/order", None),
        ];
        for (text, want) in table {
            assert_eq!(Pattern::parse(text).unwrap().literal_prefix().as_deref(), want, "{text}");
        }
    }

    #[test]
    fn the_more_specific_comes_first() {
        let ordered = [
            "/a/b/c", "/a/b/*", "/a/b", "/a/b/**", "/a/bc*", "/a/b*", "/a/*/c", "/a/*", "/a/**",
            "/*", "/**",
        ];
        for (at, text) in ordered.iter().enumerate() {
            for later in &ordered[at + 1..] {
                let order =
                    Pattern::parse(text).unwrap().specificity(&Pattern::parse(later).unwrap());
                assert_eq!(order, Ordering::Less, "{text} before {later}");
            }
        }
    }

    /// The definition, slow and plain, to compare with.
    fn glob_by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                glob_by_definition(rest, text)
                    || (!text.is_empty() && glob_by_definition(pattern, &text[1..]))
            }
            (Some((b'?', rest)), Some((_, text))) => glob_by_definition(rest, text),
            (Some((a, rest)), Some((b, text))) => a == b && glob_by_definition(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn glob_equals_its_definition(pattern in "[ab?*]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                glob_by_definition(pattern.as_bytes(), text.as_bytes())
            );
        }

        #[test]
        fn specificity_is_a_total_order(a in "(/[ab*?]{1,2}){1,3}", b in "(/[ab*?]{1,2}){1,3}") {
            if let (Ok(a), Ok(b)) = (Pattern::parse(&a), Pattern::parse(&b)) {
                prop_assert_eq!(a.specificity(&b), b.specificity(&a).reverse());
                prop_assert_eq!(a.specificity(&b).is_eq(), a == b);
            }
        }
    }
}
