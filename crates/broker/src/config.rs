//! The settings of the broker: section `broker`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tradewind_host::HostConfig;
use tradewind_service::config::Reader;

use crate::machine::delivery::Rules;
use crate::machine::schedule::Schedule;

/// Where it listens by default.
const BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8092);

/// The settings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What every service has.
    pub host: HostConfig,
    /// How messages are delivered.
    pub settings: Settings,
}

/// How messages are delivered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Deliveries on their way at once, in all.
    pub deliveries_max: usize,
    /// Deliveries on their way at once for one subscription.
    pub deliveries_per_subscription: usize,
    /// The longest wait for a subscriber's answer.
    pub attempt_timeout: Duration,
    /// Pauses and limits of deliveries.
    pub rules: Rules,
    /// When the producer of an undecided message is asked, and how often.
    pub checks: Schedule,
    /// How long after its deadline an undecided branch waits before its initiator is asked.
    pub branch_grace: Duration,
    /// How often the table is scanned for what is due.
    pub scan_every: Duration,
    /// How long finished messages are kept; a repeat with the same id is recognised as long.
    pub retention: Duration,
}

impl Default for Settings {
    /// 256 deliveries at once, 32 for a subscription; 20 attempts over about five hours; 24 checks
    /// over about a day and a half; finished messages for two days.
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self {
            deliveries_max: 256,
            deliveries_per_subscription: 32,
            attempt_timeout: 10 * second,
            rules: Rules {
                retry: Schedule { first: second / 2, longest: 1800 * second, times: 20 },
                soon: second / 2,
                asked_max: 3600 * second,
            },
            checks: Schedule { first: 10 * second, longest: 7200 * second, times: 24 },
            branch_grace: 2 * second,
            scan_every: second / 4,
            retention: 48 * 3600 * second,
        }
    }
}

impl Config {
    /// Reads the section `broker`.
    pub fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section(crate::SERVICE);
        let host = HostConfig::read(&mut section, BIND);
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
        let mut it = Settings::default();
        let meaning = "deliveries on their way at once, in all";
        it.deliveries_max =
            section.get_within("deliveries_max", it.deliveries_max, &(1..=4096), meaning);
        let meaning = "deliveries on their way at once for one subscription";
        let places = it.deliveries_per_subscription;
        it.deliveries_per_subscription =
            section.get_within("deliveries_per_subscription", places, &(1..=1024), meaning);
        let meaning = "longest wait for a subscriber's answer";
        it.attempt_timeout = section.get_within(
            "attempt_timeout",
            it.attempt_timeout,
            &(second / 10..=300 * second),
            meaning,
        );
        let retry = &mut it.rules.retry;
        let meaning = "attempts after which a delivery becomes a dead letter";
        retry.times = section.get_within("attempts_max", retry.times, &(1..=1000), meaning);
        let pauses = second / 100..=day;
        let meaning = "pause after the first failed attempt; it doubles";
        retry.first = section.get_within("retry_first", retry.first, &pauses, meaning);
        let meaning = "longest pause between two attempts";
        retry.longest = section.get_within("retry_longest", retry.longest, &pauses, meaning);
        let meaning = "pause before a producer is asked about an undecided message; it doubles";
        it.checks.first = section.get_within("check_first", it.checks.first, &pauses, meaning);
        let meaning = "times a producer is asked before a message is parked";
        it.checks.times = section.get_within("checks_max", it.checks.times, &(1..=1000), meaning);
        let meaning = "how long finished messages are kept and repeats recognised";
        it.retention = section.get_within("retention", it.retention, &(day..=365 * day), meaning);
        Self { host, settings: it }
    }
}

#[cfg(test)]
mod tests {
    use tradewind_service::config::Sources;

    use super::*;

    fn read(file: &str) -> Result<Config, String> {
        let file = Some(("tradewind.toml".into(), file.to_owned()));
        let mut reader = Reader::new(Sources { file, environment: vec![], flags: vec![] });
        let config = Config::read(&mut reader);
        reader.finish().map(|_| config).map_err(|it| it.to_string())
    }

    #[test]
    fn the_defaults_promise_hours_of_retry_and_a_day_of_checks() {
        let config = read("").unwrap();
        assert_eq!(config.host.edge.bind, BIND);
        let hours = |it: Schedule| it.span().as_secs() / 3600;
        assert!((4..8).contains(&hours(config.settings.rules.retry)));
        assert!(24 <= hours(config.settings.checks));
        assert!(Duration::from_secs(24 * 3600) <= config.settings.retention);
    }

    #[test]
    fn every_mistake_is_told() {
        let errors =
            read("[broker]\nattempts_max = 0\nretention = \"1h\"\nnope = 1\nretry_first = \"x\"")
                .unwrap_err();
        for key in ["attempts_max", "retention", "nope", "retry_first"] {
            assert!(errors.contains(key), "{key}: {errors}");
        }
    }
}
