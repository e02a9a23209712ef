//! Development tasks, started as `cargo xtask TASK`.
//!
//! | task | what it does |
//! |---|---|
//! | `test` | everything CI runs: format, lints, tidy, docs, plain tests, tests with real servers |
//! | `tidy` | the rules of this repository that no lint knows; `--fix` rewrites what is generated |
//! | `services` | installs and starts the real servers, says how to reach them, ends them with Enter |
//! | `dist` | the binary that ships: built with a profile of its own work |
//! | `soak` | the long suites: many more property-test cases, long load, 10,000 orders in a storm |

mod cargo;
mod dist;
mod services;
mod soak;
mod test;
mod tidy;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

/// Development tasks.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything CI runs.
    Test {
        /// Leave out the tests that need real servers.
        #[arg(long)]
        plain: bool,
    },
    /// The rules of this repository that no lint knows.
    Tidy {
        /// Rewrite what is generated.
        #[arg(long)]
        fix: bool,
    },
    /// Installs and starts the real servers and waits for Enter.
    Services,
    /// Builds the binary that ships, with a profile of its own work: target/trained/tradewind.
    Dist(dist::Dist),
    /// The long suites.
    Soak {
        /// How long the load lasts, in seconds.
        #[arg(long, default_value_t = 600)]
        seconds: u32,
    },
}

fn main() -> anyhow::Result<()> {
    let root = root();
    match Cli::parse().task {
        Task::Test { plain } => test::run(&root, plain),
        Task::Tidy { fix } => tidy::run(&root, fix),
        Task::Services => services::run(&root),
        Task::Dist(options) => dist::run(&root, options),
        Task::Soak { seconds } => soak::run(&root, seconds),
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
