//! The client's key, and within what it is unique.

use std::fmt;

/// The key a client chose for one intent: 1 to 255 visible ASCII characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<str>);

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or nothing within the quotes.
    #[error("must not be empty")]
    Empty,
    /// More than [`Key::LEN_MAX`] characters.
    #[error("must have at most {} characters", Key::LEN_MAX)]
    Long,
    /// Spaces, control characters, or anything beyond ASCII.
    #[error("must have visible ASCII characters only")]
    Invisible,
    /// It starts like a structured string (RFC 8941 §3.3.3) but is none.
    #[error("starts with a quote but is no quoted string")]
    Quotes,
}

impl Key {
    /// The longest key, in characters.
    pub const LEN_MAX: usize = 255;

    /// Reads the value of an `Idempotency-Key` header: bare, as most clients send it, or as the
    /// quoted string of the IETF draft. Both forms of a text are the same key.
    ///
    /// # Errors
    /// When it is no key.
    pub fn parse(value: &str) -> Result<Self, KeyError> {
        let value = value.trim_matches([' ', '\t']);
        let text = match value.strip_prefix('"') {
            Some(rest) => unquote(rest)?,
            None => value.to_owned(),
        };
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if !text.bytes().all(|it| it.is_ascii_graphic()) {
            return Err(KeyError::Invisible);
        }
        if Self::LEN_MAX < text.len() {
            return Err(KeyError::Long);
        }
        Ok(Self(text.into()))
    }

    /// The text, without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key for one step of the work that somebody else does: always the same for this key and
    /// step. `None` when it would be too long.
    #[must_use]
    pub fn child(&self, step: &str) -> Option<Self> {
        let text = format!("{}/{step}", self.0);
        let fits = text.len() <= Self::LEN_MAX && step.bytes().all(|it| it.is_ascii_graphic());
        fits.then(|| Self(text.into()))
    }
}

/// What is in a structured string, after its first quote.
fn unquote(rest: &str) -> Result<String, KeyError> {
    let mut text = String::with_capacity(rest.len());
    let mut characters = rest.chars();
    loop {
        match characters.next() {
            Some('"') => break,
            Some('\\') => match characters.next() {
                Some(escaped @ ('"' | '\\')) => text.push(escaped),
                _ => return Err(KeyError::Quotes),
            },
            Some(other) => text.push(other),
            None => return Err(KeyError::Quotes),
        }
    }
    if characters.next().is_some() { Err(KeyError::Quotes) } else { Ok(text) }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Within what a key is unique: who asks, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    subject: Box<str>,
    operation: Box<str>,
}

/// Why there is no such scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Who asks is nobody, or has too long a name.
    #[error("the subject of a scope has 1 to {} characters and no space around it", Scope::LEN_MAX)]
    Subject,
    /// The operation has no name or too long a one.
    #[error("the operation of a scope has 1 to {} visible ASCII characters", Scope::LEN_MAX)]
    Operation,
}

impl Scope {
    /// The longest subject and operation, in characters.
    pub const LEN_MAX: usize = 120;

    /// `subject` is the tenant or user as the server knows it, never as a client names itself;
    /// `operation` is fixed in the program: `order.place`.
    ///
    /// # Errors
    /// When one of them is empty or too long.
    pub fn new(subject: &str, operation: &str) -> Result<Self, ScopeError> {
        let subject_len = subject.chars().count();
        // MySQL ignores spaces at the end when it compares.
        let plain = subject.trim() == subject && !subject.contains('\0');
        if !(1..=Self::LEN_MAX).contains(&subject_len) || !plain {
            return Err(ScopeError::Subject);
        }
        let visible = operation.bytes().all(|it| it.is_ascii_graphic());
        if !visible || !(1..=Self::LEN_MAX).contains(&operation.len()) {
            return Err(ScopeError::Operation);
        }
        Ok(Self { subject: subject.into(), operation: operation.into() })
    }

    /// Who asks.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// For what.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_and_a_quoted_key_are_the_same() {
        let bare = Key::parse("8e03978e-40d5").unwrap();
        assert_eq!(Key::parse("\"8e03978e-40d5\"").unwrap(), bare);
        assert_eq!(Key::parse("  8e03978e-40d5\t").unwrap(), bare);
        assert_eq!(Key::parse(r#""a\"b\\c""#).unwrap().as_str(), r#"a"b\c"#);
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_reason() {
        let long = "x".repeat(256);
        for (value, reason) in [
            ("", KeyError::Empty),
            ("   ", KeyError::Empty),
            ("\"\"", KeyError::Empty),
            ("a b", KeyError::Invisible),
            ("\"a b\"", KeyError::Invisible),
            ("é", KeyError::Invisible),
            ("a\u{7f}", KeyError::Invisible),
            ("\"abc", KeyError::Quotes),
            ("\"abc\"x", KeyError::Quotes),
            ("\"abc\\", KeyError::Quotes),
            ("\"a\\b\"", KeyError::Quotes),
            ("\"", KeyError::Quotes),
            (&long, KeyError::Long),
        ] {
            assert_eq!(Key::parse(value), Err(reason), "{value}");
        }
        assert!(Key::parse(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn a_child_is_another_key_and_always_the_same() {
        let key = Key::parse("k").unwrap();
        assert_eq!(key.child("pay"), key.child("pay"));
        assert_ne!(key.child("pay"), key.child("ship"));
        assert!(Key::parse(&"x".repeat(255)).unwrap().child("pay").is_none());
    }

    #[test]
    fn a_scope_has_somebody_and_something() {
        assert!(Scope::new("ü", "order.place").is_ok());
        assert_eq!(Scope::new("", "x"), Err(ScopeError::Subject));
        assert_eq!(Scope::new(&"é".repeat(121), "x"), Err(ScopeError::Subject));
        assert_eq!(Scope::new("u ", "x"), Err(ScopeError::Subject));
        assert_eq!(Scope::new("u", ""), Err(ScopeError::Operation));
        assert_eq!(Scope::new("u", "a b"), Err(ScopeError::Operation));
    }
}
