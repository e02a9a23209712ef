//! The one binary: parse, build, run, drain, exit code.

mod audit;
mod cli;
mod config;
mod load;
mod server;
mod signals;
mod tour;
mod up;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

/// Servers of small messages live on small allocations: the system's allocator took a seventh of
/// the CPU time of an order. jemalloc hands out first what was freed last and is still in the cache;
/// where ten processes share two cores, one that goes round its pages is a tenth slower.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Everything went as it should.
const OK: u8 = 0;
/// The command failed while running.
const FAILED: u8 = 1;
/// The configuration or the command line is wrong: nothing was started.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Tour(options) = cli.command {
        return tour::run(&cli, options);
    }
    // It needs no configuration, so a wrong one does not keep it from running.
    if let Command::Load(arguments) = &cli.command {
        return match load::wanted(arguments) {
            Ok(wanted) => load::run(&wanted).map_or_else(|it| explain(&it, FAILED), ExitCode::from),
            Err(error) => explain(&error, MISCONFIGURED),
        };
    }
    let sources = match config::sources(&cli) {
        Ok(sources) => sources,
        Err(error) => return complain(&error, MISCONFIGURED),
    };
    let (config, described) = match config::Config::read(sources) {
        Ok(read) => read,
        Err(error) => return complain(&error, MISCONFIGURED),
    };
    let outcome = match cli.command {
        Command::Audit(options) => return audit::run(&config, &options),
        Command::Config { dump } => {
            let text =
                if dump { described.to_string() } else { "the configuration is valid\n".into() };
            print(&text);
            return ExitCode::from(OK);
        }
        // Gone its own way above: it reads its configuration otherwise.
        Command::Tour(_) => Ok(()),
        // Gone its own way above.
        Command::Load(_) => Ok(()),
        Command::Up => up::run(&cli, config),
        Command::Registry => server::run(&cli, config, server::Kind::Registry),
        Command::Coordinator => server::run(&cli, config, server::Kind::Coordinator),
        Command::Broker => server::run(&cli, config, server::Kind::Broker),
        Command::Gateway => server::run(&cli, config, server::Kind::Gateway),
        Command::Shop { service } => server::run(&cli, config, service.into()),
    };
    match outcome {
        Ok(()) => ExitCode::from(OK),
        Err(error) => explain(&error, FAILED),
    }
}

/// Complains with all causes.
fn explain(error: &anyhow::Error, code: u8) -> ExitCode {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        text = format!("{text}: {cause}");
    }
    complain(&text, code)
}

fn print(text: &str) {
    // A reader that went away (`tradewind config --dump | head`) is no failure of ours.
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}

fn complain(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    drop(writeln!(std::io::stderr().lock(), "tradewind: {error}"));
    ExitCode::from(code)
}
