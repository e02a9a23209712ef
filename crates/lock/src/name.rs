//! What is locked, and the number that a grant carries.

use std::fmt;
use std::sync::Arc;

use tradewind_sql::Value;

/// The name of a lock: 1 to 190 visible ASCII characters. Upper and lower case differ.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockName(Arc<str>);

/// Why a text is not a name, or names are not a set that can be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, too long, or with other characters.
    #[error("the name of a lock has 1 to {} visible ASCII characters", LockName::LEN_MAX)]
    Form,
    /// No name at all, or too many.
    #[error("1 to {} different names can be locked at once", Names::COUNT_MAX)]
    Count,
}

impl LockName {
    /// The longest name, in bytes.
    pub const LEN_MAX: usize = 190;

    /// Reads a name.
    ///
    /// # Errors
    /// When it is empty, too long or has characters that cannot be seen.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let visible = text.bytes().all(|it| it.is_ascii_graphic());
        if text.is_empty() || Self::LEN_MAX < text.len() || !visible {
            return Err(NameError::Form);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One or several names, each once, sorted: two that want the same names touch them in the same
/// order. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Names(Arc<[LockName]>);

impl Names {
    /// The most names of one acquisition: an order of the shop has at most as many lines.
    pub const COUNT_MAX: usize = 100;

    /// One name.
    ///
    /// # Errors
    /// When it is not a name.
    pub fn one(name: &str) -> Result<Self, NameError> {
        Self::several([name])
    }

    /// Several names in any order; one that comes twice counts once.
    ///
    /// # Errors
    /// When one of them is not a name, or there are none or too many.
    pub fn several<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Result<Self, NameError> {
        let mut sorted = Vec::new();
        for name in names {
            let name = LockName::parse(name.as_ref())?;
            if let Err(place) = sorted.binary_search(&name) {
                if sorted.len() == Self::COUNT_MAX {
                    return Err(NameError::Count);
                }
                sorted.insert(place, name);
            }
        }
        if sorted.is_empty() { Err(NameError::Count) } else { Ok(Self(sorted.into())) }
    }

    /// The names, sorted.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &LockName> {
        self.0.iter()
    }

    /// How many: at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.0.binary_search_by(|it| it.as_str().cmp(name)).ok()
    }

    /// The first in order.
    pub(crate) fn first(&self) -> Option<&LockName> {
        self.0.first()
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
        }
        Ok(())
    }
}

/// The fencing token of one grant: higher than that of every earlier grant of the same name.
///
/// It is a parameter of a statement (`params![…, token]`). Tokens of different names, or of
/// different databases, say nothing about each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(i64);

impl Token {
    /// What a name has before its first grant.
    pub const ZERO: Self = Self(0);

    /// From the number.
    #[must_use]
    pub const fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }

    /// The token of the grant after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl From<Token> for Value {
    fn from(token: Token) -> Self {
        Self::Integer(token.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_each_is_there_once() {
        let names = Names::several(["b", "a", "b", "B"]).unwrap();
        assert_eq!(names.to_string(), "B, a, b");
        assert_eq!(names, Names::several(["B", "b", "a"]).unwrap());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", "a b", "a\n", "é", &"x".repeat(LockName::LEN_MAX + 1)] {
            assert_eq!(Names::one(bad), Err(NameError::Form), "{bad}");
        }
        assert!(Names::one(&"x".repeat(LockName::LEN_MAX)).is_ok());
        assert_eq!(Names::several::<&str>([]), Err(NameError::Count));
        let many: Vec<_> = (0..=Names::COUNT_MAX).map(|it| format!("n{it}")).collect();
        assert_eq!(Names::several(&many), Err(NameError::Count));
        assert!(Names::several(many.iter().skip(1).chain(many.iter().skip(1))).is_ok());
    }
}
