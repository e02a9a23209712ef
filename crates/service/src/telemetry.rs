//! Logs on standard error and metrics for Prometheus.
//!
//! A log line is constant text with its data in fields, readable text on a terminal, JSON lines
//! for a collector. Secrets are kept out of it at the source: header values are never logged, and
//! the types of secrets show nothing of them.

mod metrics;
mod process;
mod sink;

use std::fmt;
use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use metrics::Metrics;
use sink::Sink;

use crate::config::{Reader, Setting};

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// How to log.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// The level, or directives like `info,tradewind_registry=debug`.
    pub level: String,
    /// Text or JSON.
    pub format: Format,
    /// Whether text has colours; when `None`, only on a terminal.
    pub color: Option<bool>,
}

/// Logging is on as long as the process runs; dropping the guard, at its end, waits until the last
/// lines are written.
#[derive(Debug)]
#[must_use = "the last lines are lost when it is dropped at once"]
pub struct Guard(Sink);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The level is not one.
    #[error("`{level}` is not a log level or a list of directives")]
    Level {
        /// What was given.
        level: String,
        /// The cause.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The thread that writes the log cannot be started.
    #[error("failed to start the thread that writes the log")]
    Thread(#[source] io::Error),
    /// Another subscriber is installed.
    #[error("logging is already set up in this process")]
    Twice,
}

impl Setting for Format {
    const EXPECTED: &'static str = "text or json";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("it is neither".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Json => "json".to_owned(),
        }
    }
}

impl TelemetryConfig {
    /// Reads the section `log`.
    pub fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("log");
        let level = section.get(
            "level",
            "info".to_owned(),
            "least level that is logged: error, warn, info, debug, trace; or directives like info,tradewind_registry=debug",
        );
        if let Err(error) = filter(&level) {
            section.invalid("level", format!("not a level or a list of directives: {error}"));
        }
        let format = section.get("format", Format::Text, "how a log line is written");
        let color = section.optional("color", "colours in text; absent: only on a terminal");
        Self { level, format, color }
    }
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Text, color: None }
    }
}

/// Crates whose finest levels show what goes over the wire, headers with secrets included: only
/// asked for by name do they log it.
const QUIET: &str = "h2=info,hyper=info,hyper_util=info,rustls=info,";

/// The filter of a level or list of directives; a later directive wins over an earlier one.
fn filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(format!("{QUIET}{level}"))
}

/// Starts logging to standard error, and logs every panic.
///
/// # Errors
/// When the level is malformed or logging has been started before.
pub fn init(config: &TelemetryConfig) -> Result<Guard, TelemetryError> {
    let level = config.level.clone();
    let filter = filter(&config.level).map_err(|source| TelemetryError::Level { level, source })?;
    let registry = tracing_subscriber::registry().with(filter);
    let sink = Sink::start(io::stderr(), config.format).map_err(TelemetryError::Thread)?;
    let layer = tracing_subscriber::fmt::layer().with_writer(sink.clone());
    let started = match config.format {
        Format::Text => {
            let ansi = config.color.unwrap_or_else(|| io::stderr().is_terminal());
            registry.with(layer.with_ansi(ansi)).try_init()
        }
        Format::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    started.map_err(|_| TelemetryError::Twice)?;
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(panic = panic_text(info.payload()), place, "panicked");
    }));
    Ok(Guard(sink))
}

/// The text a panic carries.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "no text"
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn the_wire_is_logged_only_when_asked_for_by_name() {
        let shown = |level: &str| filter(level).unwrap().to_string();
        assert!(shown("trace").contains("h2=info"));
        assert!(shown("info,h2=trace").contains("h2=trace"));
        assert!(!shown("info,h2=trace").contains("h2=info"));
    }

    #[test]
    fn a_level_that_is_none_is_a_mistake() {
        for (level, good) in [("debug", true), ("info,tradewind=trace", true), ("lout=laut", false)]
        {
            let text = format!("[log]\nlevel = \"{level}\"\nformat = \"json\"");
            let file = Some(("tradewind.toml".into(), text));
            let mut reader = Reader::new(Sources { file, ..Sources::default() });
            let config = TelemetryConfig::read(&mut reader);
            assert_eq!(config.format, Format::Json);
            assert_eq!(reader.finish().is_ok(), good, "{level}");
        }
    }
}
