//! Benches beside their peers: `cargo run --release -p bench -- NAME|all`.
//!
//! A bench runs ours and each peer found on the machine in interleaved rounds, so that a slow
//! minute of the machine hits all alike, prints a table and writes `target/bench/NAME.json`. What
//! counts is the ratio within one run. Everything measured is built as what ships is, this program
//! too ([`dist`]). Add a bench as a module with a function of the type
//! [`Bench`] and a line in [`BENCHES`].
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

mod dist;
mod machine_facts;
mod order;
mod report;
mod sql;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

use crate::report::Report;

/// A bench: runs for a bounded time and reports.
type Bench = fn(&Settings) -> anyhow::Result<Report>;

/// Every bench, by name.
const BENCHES: &[(&str, Bench)] = &[("sql", sql::run), ("order", order::run)];

/// Runs benches and writes what they measured to target/bench.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// Which bench, or `all`.
    name: String,
    /// How often each contender is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many seconds one measurement takes.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How many seconds what a bench freezes stays frozen.
    #[arg(long, default_value_t = 60.0)]
    outage: f64,
    /// Another build of the binary: `order` measures both by turns, and nothing else.
    #[arg(long)]
    against: Option<PathBuf>,
    /// Measure the profile `dist` without the compiler having learned from a run: minutes sooner,
    /// and slower than what ships.
    #[arg(long)]
    untrained: bool,
}

/// What is asked for by programs, never by people.
#[derive(Debug, Parser)]
#[command(name = "bench")]
enum Internal {
    /// A server of a comparison.
    Part(order::parts::Part),
    /// The work that a build learns its profile from.
    Train(order::train::Train),
}

/// What every bench needs to know.
#[derive(Debug)]
struct Settings {
    rounds: usize,
    span: Duration,
    outage: Duration,
    /// Another build of the binary, to be measured by turns.
    against: Option<PathBuf>,
    /// On the disk of the checkout, which a temporary folder in memory would not be.
    folder: PathBuf,
}

fn main() -> ExitCode {
    let internal = std::env::args().nth(1).is_some_and(|it| it == "part" || it == "train");
    let done = match internal.then(Internal::parse) {
        Some(Internal::Part(part)) => part.run(),
        Some(Internal::Train(train)) => train.run(),
        None => run(&Arguments::parse()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let chosen: Vec<_> =
        BENCHES.iter().filter(|it| arguments.name == "all" || arguments.name == it.0).collect();
    let names = || BENCHES.iter().map(|it| it.0).collect::<Vec<_>>().join(", ");
    anyhow::ensure!(!chosen.is_empty(), "no bench `{}`; there are: {}", arguments.name, names());
    if let Some(other) = &arguments.against {
        anyhow::ensure!(other.is_file(), "--against: there is no program at {}", other.display());
    }
    dist::enter(arguments.untrained)?;
    let settings = Settings {
        rounds: arguments.rounds.clamp(1, 100),
        span: Duration::try_from_secs_f64(arguments.seconds.clamp(0.1, 60.0))?,
        outage: Duration::try_from_secs_f64(arguments.outage.clamp(1.0, 600.0))?,
        against: arguments.against.clone(),
        folder: machine_facts::target_folder().join("bench"),
    };
    std::fs::create_dir_all(&settings.folder).context("cannot make target/bench")?;
    for (name, bench) in chosen {
        println!("{}", machine_facts::headline(name));
        let report = bench(&settings).with_context(|| format!("bench {name}"))?;
        println!("{report}");
        let path = settings.folder.join(format!("{name}.json"));
        std::fs::write(&path, report.json()?).context("cannot write the report")?;
        println!("written to {}", path.display());
    }
    Ok(())
}
