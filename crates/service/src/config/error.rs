//! Mistakes in the configuration, each with its place.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No source has the key.
    Default,
    /// The file, with the line of the key, counted from 1.
    File(PathBuf, usize),
    /// An environment variable, by its name.
    Environment(String),
    /// A flag of the command line, by the key it sets.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {problem}", .key, Place(.origin))]
pub struct ConfigError {
    /// The dotted key; empty when the text as a whole is at fault.
    pub key: String,
    /// Where the value came from.
    pub origin: Origin,
    /// What is wrong and what would be right.
    pub problem: String,
}

struct Place<'a>(&'a Origin);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self.0 == Origin::Default { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

/// All mistakes of a configuration, in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The mistakes; never empty.
    pub all: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(super) fn new(mut all: Vec<ConfigError>) -> Self {
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.dedup();
        Self { all }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, plural) = (self.all.len(), if self.all.len() == 1 { "" } else { "s" });
        write!(f, "{count} mistake{plural} in the configuration")?;
        for error in &self.all {
            write!(f, "\n  {}", error.to_string().trim_start())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The known key that was probably meant.
pub(super) fn nearest<'a>(key: &str, known: &'a BTreeSet<String>) -> Option<&'a str> {
    let best = known.iter().map(|it| (distance(key, it), it)).min()?;
    // Farther away it is a guess, not a slip of the hand.
    (best.0 <= (key.len() / 5).clamp(1, 3)).then_some(best.1)
}

/// Levenshtein's distance in bytes; keys are ASCII and short.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut previous = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(b.bytes()) {
            let substituted = diagonal + usize::from(left != right);
            diagonal = *cell;
            *cell = substituted.min(diagonal + 1).min(previous + 1);
            previous = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        for (a, b, expected) in
            [("", "", 0), ("abc", "", 3), ("bind", "bnid", 2), ("port", "ports", 1), ("a", "b", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn only_a_near_key_is_suggested() {
        let known = BTreeSet::from(["gateway.bind".to_owned(), "order.bind".to_owned()]);
        assert_eq!(nearest("gatway.bind", &known), Some("gateway.bind"));
        assert_eq!(nearest("gateway.colour", &known), None);
    }
}
