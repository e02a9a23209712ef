//! Configuration: defaults, then the file, then the environment, then flags; the later one wins.
//!
//! A server asks for each setting by name, with its default and its meaning, and gets a value at
//! once. Mistakes do not stop the reading: they are collected, and [`Reader::finish`] hands back
//! all of them together, each with its key, where it came from and what would be right. What was
//! asked for is also what is known, so an unknown key, an unknown `TRADEWIND__…` variable and the
//! commented dump of the effective configuration come for free.
//!
//! The file is TOML: tables are sections. The environment variable of `gateway.admin.bind` is
//! `TRADEWIND__GATEWAY__ADMIN__BIND`; a list is separated by commas there.
//!
//! ```
//! use std::time::Duration;
//! use tradewind_service::config::{Reader, Sources};
//!
//! let file = "[gateway]\nbind = \"127.0.0.1:9000\"\ntimeout = \"250ms\"\n";
//! let mut reader = Reader::new(Sources {
//!     file: Some(("tradewind.toml".into(), file.into())),
//!     environment: vec![("TRADEWIND__GATEWAY__TIMEOUT".into(), "2s".into())],
//!     flags: vec![],
//! });
//! let mut gateway = reader.section("gateway");
//! let bind: String = gateway.get("bind", String::new(), "address to listen on");
//! let timeout = gateway.get("timeout", Duration::from_secs(1), "longest wait for an answer");
//! let described = reader.finish()?;
//! assert_eq!((bind.as_str(), timeout), ("127.0.0.1:9000", Duration::from_secs(2)));
//! assert!(described.to_string().contains("longest wait for an answer"));
//! # Ok::<(), tradewind_service::config::ConfigErrors>(())
//! ```

mod dump;
mod error;
mod setting;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use tradewind_base::SecretString;

pub use dump::Described;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use setting::{ByteSize, Setting};
pub use sources::Sources;

use dump::Entry;
use error::nearest;
use sources::{Raw, RawValue};

/// What the dump shows of a secret. It is not accepted as one: a dump that is used as a
/// configuration must not make three stars the password.
pub const HIDDEN: &str = "***";

/// Reads settings and collects every mistake.
#[derive(Debug)]
pub struct Reader {
    state: State,
}

#[derive(Debug, Default)]
struct State {
    raw: BTreeMap<String, Raw>,
    entries: Vec<Entry>,
    known: BTreeSet<String>,
    foreign: BTreeSet<String>,
    errors: Vec<ConfigError>,
}

/// One section of the configuration: `[gateway]`, or `[gateway.admin]` below it.
pub struct Section<'a> {
    state: &'a mut State,
    path: String,
}

// === impl Reader ===

impl Reader {
    /// Takes in all sources. A file that is not TOML is one of the mistakes that
    /// [`Reader::finish`] reports.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        let (raw, errors) = sources.merge();
        Self { state: State { raw, errors, ..State::default() } }
    }

    /// The section `name`; a dotted name reaches further down.
    pub fn section(&mut self, name: &str) -> Section<'_> {
        Section { state: &mut self.state, path: name.to_owned() }
    }

    /// Leaves the section `name` to another program: its keys are neither read nor unknown.
    pub fn leave_out(&mut self, name: &str) {
        self.state.foreign.insert(format!("{name}."));
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// All mistakes of all sources: text that is not TOML, values that are not what is expected,
    /// keys and `TRADEWIND__` variables that nobody asked for, and what [`Section::invalid`] added.
    pub fn finish(mut self) -> Result<Described, ConfigErrors> {
        let State { raw, known, foreign, errors, .. } = &mut self.state;
        for (key, raw) in raw {
            let left_out = foreign.iter().any(|it| key.starts_with(it.as_str()));
            if known.contains(key) || left_out {
                continue;
            }
            let below = format!("{key}.");
            let problem = if known.iter().any(|it| it.starts_with(&below)) {
                "is a section, not a value".to_owned()
            } else {
                match nearest(key, known) {
                    Some(near) => format!("no such key; did you mean `{near}`?"),
                    None => "no such key; `config --dump` lists them all".to_owned(),
                }
            };
            errors.push(ConfigError { key: key.clone(), origin: raw.origin.clone(), problem });
        }
        if errors.is_empty() {
            Ok(Described::new(self.state.entries))
        } else {
            Err(ConfigErrors::new(self.state.errors))
        }
    }
}

// === impl Section ===

impl Section<'_> {
    /// The section `name` below this one.
    pub fn section(&mut self, name: &str) -> Section<'_> {
        Section { path: format!("{}.{name}", self.path), state: self.state }
    }

    /// The dotted name of this section.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The setting `key`, or `default` when no source has it. After a mistake the default is
    /// handed out so that the reading can go on; the start fails at [`Reader::finish`].
    pub fn get<T: Setting>(&mut self, key: &'static str, default: T, meaning: &'static str) -> T {
        let shown = default.toml();
        let (value, _) = self.read(key, meaning, T::EXPECTED.to_owned(), Some(shown), |_| Ok(()));
        value.unwrap_or(default)
    }

    /// Like [`Section::get`] for a value that must lie in `range`.
    pub fn get_within<T: Setting + PartialOrd>(
        &mut self,
        key: &'static str,
        default: T,
        range: &RangeInclusive<T>,
        meaning: &'static str,
    ) -> T {
        let (low, high) = (range.start().show(), range.end().show());
        let expected = format!("{} from {low} to {high}", T::EXPECTED);
        let check = |it: &T| {
            if range.contains(it) {
                Ok(())
            } else {
                Err(format!("{} is not from {low} to {high}", it.show()))
            }
        };
        let shown = default.toml();
        let (value, _) = self.read(key, meaning, expected.clone(), Some(shown), check);
        value.unwrap_or(default)
    }

    /// A setting that may be absent.
    pub fn optional<T: Setting>(&mut self, key: &'static str, meaning: &'static str) -> Option<T> {
        self.read(key, meaning, T::EXPECTED.to_owned(), None, |_| Ok(())).0
    }

    /// A setting that has no default: its absence is a mistake, and `None` comes back after any.
    pub fn required<T: Setting>(&mut self, key: &'static str, meaning: &'static str) -> Option<T> {
        let (value, found) = self.read(key, meaning, T::EXPECTED.to_owned(), None, |_| Ok(()));
        if !found {
            self.invalid(key, format!("must be set: {meaning}; expected {}", T::EXPECTED));
        }
        value
    }

    /// A secret that may be absent. The dump and every error hide its value; what the dump shows
    /// in its place ([`HIDDEN`]) is a mistake.
    pub fn secret(&mut self, key: &'static str, meaning: &'static str) -> Option<SecretString> {
        let full = self.full(key);
        let raw = self.state.raw.get(&full).cloned();
        let value = match raw.as_ref().map(|it| &it.value) {
            Some(RawValue::One(text)) if text == HIDDEN => {
                self.invalid(
                    key,
                    "is what a dump shows in place of the secret; put the secret here",
                );
                None
            }
            Some(RawValue::One(text)) if !text.is_empty() => Some(SecretString::from(text.clone())),
            Some(_) => {
                self.invalid(key, "expected a text that is not empty");
                None
            }
            None => None,
        };
        let shown = value.as_ref().map(|_| format!("\"{HIDDEN}\""));
        let origin = raw.map_or(Origin::Default, |it| it.origin);
        self.note(full, meaning, "a secret text".to_owned(), shown, origin);
        value
    }

    /// Adds a mistake that only the server can see, for instance between two settings.
    pub fn invalid(&mut self, key: &str, problem: impl Into<String>) {
        let key = self.full(key);
        let origin = self.state.raw.get(&key).map_or(Origin::Default, |it| it.origin.clone());
        self.state.errors.push(ConfigError { key, origin, problem: problem.into() });
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// The value, if a source has a right one, and whether any source has the key.
    fn read<T: Setting>(
        &mut self,
        key: &str,
        meaning: &'static str,
        expected: String,
        default: Option<String>,
        check: impl FnOnce(&T) -> Result<(), String>,
    ) -> (Option<T>, bool) {
        let full = self.full(key);
        let Some(raw) = self.state.raw.get(&full).cloned() else {
            self.note(full, meaning, expected, default, Origin::Default);
            return (None, false);
        };
        let parsed = match &raw.value {
            RawValue::One(text) => T::parse(text),
            RawValue::Many(items) => T::parse_list(items),
            RawValue::Other(what) => Err(format!("it is {what}")),
        };
        let value = match parsed.and_then(|it| check(&it).map(|()| it)) {
            Ok(value) => Some(value),
            Err(reason) => {
                let problem = format!("{reason}; expected {expected}");
                let origin = raw.origin.clone();
                self.state.errors.push(ConfigError { key: full.clone(), origin, problem });
                None
            }
        };
        self.note(full, meaning, expected, value.as_ref().map(T::toml).or(default), raw.origin);
        (value, true)
    }

    fn note(
        &mut self,
        key: String,
        meaning: &'static str,
        expected: String,
        value: Option<String>,
        origin: Origin,
    ) {
        if self.state.known.insert(key.clone()) {
            self.state.entries.push(Entry { key, meaning, expected, value, origin });
        }
    }
}

impl fmt::Debug for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
