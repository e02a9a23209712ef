//! The effective configuration as commented TOML.

use std::fmt;

use super::Origin;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) meaning: &'static str,
    pub(super) expected: String,
    /// As TOML; `None` when it is not set.
    pub(super) value: Option<String>,
    pub(super) origin: Origin,
}

/// A configuration without mistakes. Its text is what `config --dump` prints: TOML that can be
/// read back, each key with its meaning, what it takes and where its value came from. Secrets are
/// shown as `"***"`, which reading back refuses until the secret itself is put there.
#[derive(Debug)]
pub struct Described {
    entries: Vec<Entry>,
}

impl Described {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        // By section; the keys of one section stay in the order they were asked for.
        entries.sort_by(|a, b| split(&a.key).0.cmp(split(&b.key).0));
        Self { entries }
    }

    /// The dotted keys, by section.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|it| it.key.as_str())
    }
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Defaults, then this file, then the environment, then flags: the later wins."
        )?;
        let mut current = None;
        for entry in &self.entries {
            let (section, key) = split(&entry.key);
            if current != Some(section) {
                writeln!(f, "\n[{section}]")?;
                current = Some(section);
            }
            writeln!(f, "# {}", entry.meaning)?;
            writeln!(f, "# {}; from: {}", entry.expected, entry.origin)?;
            match &entry.value {
                Some(value) => writeln!(f, "{key} = {value}")?,
                None => writeln!(f, "# {key} is not set")?,
            }
        }
        Ok(())
    }
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}
