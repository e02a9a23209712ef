//! `tradewind up`: every server as a child process of its own, supervised.
//!
//! The children get their own process groups, so that Ctrl-C at the terminal reaches only the
//! supervisor, which then ends them in order. Each child holds the read end of a pipe as its
//! standard input and leaves when that closes: a supervisor that is killed takes all along.
//!
//! | part | what it decides |
//! |---|---|
//! | [`machine`] | when a dead child is started again, and when to give up |
//! | [`plan`] | which children there are, with their arguments and addresses |
//! | [`claim`] | that the data folder and the ports are free |
//! | [`child`] | one process: start, log, readiness, end |
//! | [`supervisor`] | all of them: order of start and end, `run.json` |

mod child;
mod claim;
mod log;
mod machine;
mod plan;
mod supervisor;

use anyhow::Context as _;

use crate::cli::Cli;
use crate::config::Config;

/// Runs everything until a signal, then ends everything.
///
/// # Errors
/// When the data folder or a port is taken, or a server cannot start.
pub(crate) fn run(cli: &Cli, config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(supervisor::supervise(plan::Plan::of(cli, config)?))
}
