//! The layers a configuration is made of, merged into one table of raw values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::{ConfigError, Origin};

/// What every environment variable of ours starts with.
pub(super) const ENVIRONMENT_PREFIX: &str = "TRADEWIND__";

/// Where settings come from, besides their defaults. The later field wins.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file's path, for messages, and its text.
    pub file: Option<(PathBuf, String)>,
    /// Environment variables; those without the prefix `TRADEWIND__` are not looked at.
    pub environment: Vec<(String, String)>,
    /// Flags as dotted key and value.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The environment of this process with the given file and flags.
    #[must_use]
    pub fn of_process(file: Option<(PathBuf, String)>, flags: Vec<(String, String)>) -> Self {
        let text = |it: std::ffi::OsString| it.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        Self { file, environment: environment.collect(), flags }
    }

    pub(super) fn merge(self) -> (BTreeMap<String, Raw>, Vec<ConfigError>) {
        let mut raw = BTreeMap::new();
        let mut errors = Vec::new();
        if let Some((path, text)) = self.file {
            read_file(&path, &text, &mut raw, &mut errors);
        }
        for (name, value) in self.environment {
            if let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX) {
                let key = key.to_ascii_lowercase().replace("__", ".");
                let origin = Origin::Environment(name);
                raw.insert(key, Raw { value: RawValue::One(value), origin });
            }
        }
        for (key, value) in self.flags {
            let origin = Origin::Flag(key.clone());
            raw.insert(key, Raw { value: RawValue::One(value), origin });
        }
        (raw, errors)
    }
}

/// Values may be secrets: only their places are shown.
impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file.as_ref().map(|it| &it.0))
            .field("flags", &self.flags.iter().map(|it| &it.0).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// A value as its source has it.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) value: RawValue,
    pub(super) origin: Origin,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raw").field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[derive(Clone)]
pub(super) enum RawValue {
    One(String),
    Many(Vec<String>),
    /// Nothing a setting can be: what it is instead.
    Other(&'static str),
}

fn read_file(
    path: &std::path::Path,
    text: &str,
    raw: &mut BTreeMap<String, Raw>,
    errors: &mut Vec<ConfigError>,
) {
    let origin = |at: usize| Origin::File(path.to_owned(), line_of(text, at));
    let (table, mistakes) = DeTable::parse_recoverable(text);
    for mistake in mistakes {
        let at = mistake.span().map_or(0, |it| it.start);
        let problem = format!("not TOML: {}", mistake.message());
        errors.push(ConfigError { key: String::new(), origin: origin(at), problem });
    }
    let mut open = vec![(String::new(), table.get_ref())];
    while let Some((prefix, table)) = open.pop() {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let value = match value.get_ref() {
                DeValue::Table(inner) => {
                    open.push((format!("{key}."), inner));
                    continue;
                }
                DeValue::Array(items) => {
                    let texts = items.iter().map(|it| scalar(it.get_ref()));
                    texts.collect::<Option<_>>().map(RawValue::Many)
                }
                other => scalar(other).map(RawValue::One),
            };
            let value = value.unwrap_or(RawValue::Other("a list of lists or tables"));
            raw.insert(key, Raw { value, origin: origin(name.span().start) });
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(it) => Some(it.to_string()),
        // Underscores between digits are TOML's, not ours.
        DeValue::Integer(it) if it.radix() == 10 => Some(it.as_str().replace('_', "")),
        DeValue::Integer(it) => {
            let number = i64::from_str_radix(it.as_str(), it.radix()).ok();
            Some(number.map_or_else(|| it.as_str().to_owned(), |it| it.to_string()))
        }
        DeValue::Float(it) => Some(it.as_str().replace('_', "")),
        DeValue::Boolean(it) => Some(it.to_string()),
        DeValue::Datetime(it) => Some(it.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|it| *it == b'\n').count() + 1
}
