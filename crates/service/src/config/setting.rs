//! Types a setting can have.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// A type that a setting can have.
pub trait Setting: Sized {
    /// What a right value looks like, to be read after the word "expected".
    const EXPECTED: &'static str;

    /// Reads a value.
    ///
    /// # Errors
    /// What is wrong with the text, without what is expected.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value as text that [`Setting::parse`] reads.
    fn show(&self) -> String;

    /// Reads a list of the file. Only lists take one.
    ///
    /// # Errors
    /// What is wrong with the list.
    fn parse_list(_items: &[String]) -> Result<Self, String> {
        Err("it is a list".to_owned())
    }

    /// The value as TOML.
    fn toml(&self) -> String {
        quoted(&self.show())
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

macro_rules! number {
    ($($type:ty => $expected:literal),* $(,)?) => {$(
        impl Setting for $type {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|error| format!("`{}`: {error}", short(text)))
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn toml(&self) -> String {
                self.show()
            }
        }
    )*};
}

number! {
    u8 => "a number from 0 to 255",
    u16 => "a number from 0 to 65535",
    u32 => "a number that is not negative",
    u64 => "a number that is not negative",
    usize => "a number that is not negative",
    i64 => "a number",
    NonZeroU16 => "a number from 1 to 65535",
    NonZeroU32 => "a number above 0",
    NonZeroU64 => "a number above 0",
    NonZeroUsize => "a number above 0",
    bool => "true or false",
}

impl Setting for f64 {
    const EXPECTED: &'static str = "a number";

    fn parse(text: &str) -> Result<Self, String> {
        let number: Result<Self, _> = text.trim().parse();
        number.ok().filter(|it| it.is_finite()).ok_or_else(|| not(text))
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }

    fn toml(&self) -> String {
        self.show()
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "a text";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err(not(text));
        }
        Ok(text.into())
    }

    fn show(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str = "an IP address and a port like 127.0.0.1:9000";

    fn parse(text: &str) -> Result<Self, String> {
        // Names are not resolved: what is listened on must not depend on DNS.
        text.trim().replace("localhost:", "127.0.0.1:").parse().map_err(|_| not(text))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for IpAddr {
    const EXPECTED: &'static str = "an IP address";

    fn parse(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|_| not(text))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Duration {
    const EXPECTED: &'static str = "a duration with its unit like 250ms, 3s, 2m or 1h";

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text).ok_or_else(|| not(text))?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err(format!("`{}` has no unit", short(text))),
            _ => return Err(format!("`{}` has an unknown unit", short(text))),
        };
        number.checked_mul(millis).map(Self::from_millis).ok_or_else(|| not(text))
    }

    fn show(&self) -> String {
        let millis = self.as_millis();
        match millis {
            0 => "0s".to_owned(),
            it if it % 86_400_000 == 0 => format!("{}d", it / 86_400_000),
            it if it % 3_600_000 == 0 => format!("{}h", it / 3_600_000),
            it if it % 60_000 == 0 => format!("{}m", it / 60_000),
            it if it % 1000 == 0 => format!("{}s", it / 1000),
            it => format!("{it}ms"),
        }
    }
}

/// A number of bytes, written with its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many KiB.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// So many MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a size in memory, cut to what the machine can address.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0B"),
            it if it % (1 << 30) == 0 => write!(f, "{}GiB", it >> 30),
            it if it % (1 << 20) == 0 => write!(f, "{}MiB", it >> 20),
            it if it % (1 << 10) == 0 => write!(f, "{}KiB", it >> 10),
            it => write!(f, "{it}B"),
        }
    }
}

impl Setting for ByteSize {
    const EXPECTED: &'static str = "a size like 512B, 64KiB, 1MiB or 2GiB";

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text).ok_or_else(|| not(text))?;
        let factor: u64 = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(format!("`{}` has an unknown unit", short(text))),
        };
        number.checked_mul(factor).map(Self).ok_or_else(|| not(text))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl<T: Setting> Setting for Vec<T> {
    const EXPECTED: &'static str = "a list";

    fn parse(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|it| !it.is_empty());
        items.map(item::<T>).collect()
    }

    fn parse_list(items: &[String]) -> Result<Self, String> {
        items.iter().map(|it| item::<T>(it)).collect()
    }

    fn show(&self) -> String {
        self.iter().map(T::show).collect::<Vec<_>>().join(",")
    }

    fn toml(&self) -> String {
        format!("[{}]", self.iter().map(T::toml).collect::<Vec<_>>().join(", "))
    }
}

fn item<T: Setting>(text: &str) -> Result<T, String> {
    T::parse(text).map_err(|reason| format!("{reason} (each item: {})", T::EXPECTED))
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

fn not(text: &str) -> String {
    format!("`{}` is not one", short(text))
}

/// A value as a message shows it.
fn short(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    if text.chars().count() <= SHOWN_MAX {
        return text.escape_debug().to_string();
    }
    let start: String = text.chars().take(SHOWN_MAX).collect();
    format!("{}…", start.escape_debug())
}
