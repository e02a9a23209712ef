//! Statuses, and the summary of a table by them.

use std::fmt;

/// Where an instance stands in its life, as Eureka names it.
///
/// The order of the variants is the alphabetical order of the wire names, which is the order of
/// [`crate::hash_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Registered, but must not be called.
    Down,
    /// Taken out of traffic on purpose.
    OutOfService,
    /// Not ready yet.
    Starting,
    /// Nobody knows; also what an unreadable status is read as.
    Unknown,
    /// Ready for calls.
    Up,
}

impl Status {
    /// Every status, in the order of its wire name.
    pub const ALL: [Self; 5] =
        [Self::Down, Self::OutOfService, Self::Starting, Self::Unknown, Self::Up];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "DOWN",
            Self::OutOfService => "OUT_OF_SERVICE",
            Self::Starting => "STARTING",
            Self::Unknown => "UNKNOWN",
            Self::Up => "UP",
        }
    }

    /// The status of this exact name; `None` for any other text, lower case included.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Reads as the bodies are read: any text that is not a name is [`Status::Unknown`].
    #[must_use]
    pub fn lenient(name: &str) -> Self {
        Self::from_name(name).unwrap_or(Self::Unknown)
    }

    /// What a `v1` client is shown: it knows UP, DOWN and STARTING, everything else is DOWN.
    #[must_use]
    pub const fn for_v1(self) -> Self {
        match self {
            Self::Up | Self::Down | Self::Starting => self,
            Self::OutOfService | Self::Unknown => Self::Down,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// `apps__hashcode` of a table: for each status that occurs, in the order of the names, the name
/// and how often, each followed by an underscore. Empty for an empty table. Give it every instance,
/// not only those that are UP.
pub fn hash_code(statuses: impl IntoIterator<Item = Status>) -> String {
    let mut counts = Status::ALL.map(|status| (status, 0_usize));
    for status in statuses {
        for (counted, count) in &mut counts {
            *count += usize::from(*counted == status);
        }
    }
    let occurring = counts.into_iter().filter(|(_, count)| *count > 0);
    occurring.map(|(status, count)| format!("{status}_{count}_")).collect()
}
