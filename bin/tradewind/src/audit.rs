//! `tradewind audit`: the shop's invariants over all its databases.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tradewind_base::{Clock as _, SystemClock};
use tradewind_shop_audit::{ReadError, Report, Urls};
use tradewind_sql::DatabaseUrl;

use crate::cli::Audit;
use crate::config::Config;
use crate::signals::Signals;

/// Every invariant holds.
const CLEAN: u8 = 0;
/// Some rows break an invariant; they are printed.
const BROKEN: u8 = 1;
/// A database could not be read: nothing is known.
const UNREADABLE: u8 = 2;

/// Reads all databases once, or again and again.
pub(crate) fn run(config: &Config, options: &Audit) -> ExitCode {
    let expected = match options.expect.as_deref().map(expected).transpose() {
        Ok(expected) => expected,
        Err(error) => return crate::explain(&error, UNREADABLE),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let urls = urls(config);
            let code = runtime.block_on(rounds(&urls, options, expected.as_deref()));
            code.map_or_else(|it| crate::explain(&it, UNREADABLE), ExitCode::from)
        }
        Err(error) => crate::complain(&error, UNREADABLE),
    }
}

async fn rounds(urls: &Urls, options: &Audit, expected: Option<&[String]>) -> anyhow::Result<u8> {
    let clock = SystemClock::new();
    let round = async || {
        let done = tradewind_shop_audit::audit(urls, expected, &clock).await;
        tell(options, &clock.now().to_string(), done)
    };
    let Some(pause) = options.watch else { return Ok(round().await) };
    let mut signals = Signals::new(false)?;
    let mut worst = CLEAN;
    loop {
        let next = async {
            let code = round().await;
            worst = worse(worst, code);
            tokio::time::sleep(Duration::from_secs(pause)).await;
        };
        tokio::select! {
            () = signals.next() => return Ok(worst),
            () = next => {}
        }
    }
}

/// What is known to be broken counts more than what could not be read.
const fn worse(one: u8, other: u8) -> u8 {
    match (one, other) {
        (BROKEN, _) | (_, BROKEN) => BROKEN,
        (UNREADABLE, _) | (_, UNREADABLE) => UNREADABLE,
        _ => CLEAN,
    }
}

/// Prints what came of a round; its exit code.
fn tell(options: &Audit, at: &str, done: Result<Report, Vec<ReadError>>) -> u8 {
    match done {
        Ok(report) => {
            let broken = report.violations() != 0;
            crate::print(&match (options.json, options.watch) {
                // One document on one line, so that rounds can be told apart.
                (true, _) => format!("{}\n", report.json()),
                (false, None) => report.to_string(),
                (false, Some(_)) if broken => format!("{at} {}\n{report}", report.summary()),
                (false, Some(_)) => format!("{at} {}\n", report.summary()),
            });
            if broken { BROKEN } else { CLEAN }
        }
        Err(errors) => {
            for error in errors {
                let text = format!("{:#}", anyhow::Error::from(error));
                drop(writeln!(std::io::stderr().lock(), "tradewind: {text}"));
            }
            UNREADABLE
        }
    }
}

/// Where the databases are: where the servers have them.
fn urls(config: &Config) -> Urls {
    let data = &config.shared.data;
    let file = |service: &str| data.join(format!("{service}.db"));
    let url = |service: &str, host: &tradewind_host::HostConfig| {
        let named = host.database.clone().map(|it| it.0);
        named.unwrap_or_else(|| DatabaseUrl::sqlite(&file(service)))
    };
    Urls {
        order: url("order", &config.order.host),
        inventory: url("inventory", &config.inventory.host),
        points: url("points", &config.points.host),
        warehouse: url("warehouse", &config.warehouse.host),
        broker: url("broker", &config.broker.host),
        coordinator: url("coordinator", &config.coordinator.host),
    }
}

/// The ids in a file, one a line; empty lines and those that begin with `#` are left out.
fn expected(path: &Path) -> anyhow::Result<Vec<String>> {
    let wrong = || format!("cannot read the list of orders {}", path.display());
    // To open a pipe that nobody writes into is to wait for ever.
    let is_file = std::fs::metadata(path).with_context(wrong)?.is_file();
    anyhow::ensure!(is_file, "{}: it is not a regular file", wrong());
    let text = std::fs::read_to_string(path).with_context(wrong)?;
    let lines = text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}
