//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::load::Load;

/// The server side of a Spring-Cloud-style estate: registry, gateway, calls and a shop that
/// proves them.
#[derive(Debug, Parser)]
#[command(name = "tradewind", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to run.
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Configuration file; without it `tradewind.toml` of the current folder, if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Sets one key, over file and environment: `--set registry.bind=127.0.0.1:8762`.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,

    /// Folder for databases, keys, logs and the state of `up`; the same as the key
    /// `tradewind.data`.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Ends when standard input closes: how a supervisor that died takes its children along.
    #[arg(long, global = true, hide = true)]
    pub(crate) supervised: bool,
}

/// What to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything on this machine, each server its own process; Ctrl-C drains and ends all of it.
    Up,
    /// A guided tour: starts everything for itself on free ports and in a temporary folder, places
    /// orders, breaks things, and says what it saw; exit code 0 only if all held, 1 if something did
    /// not, 130 if it was interrupted.
    Tour(Tour),
    /// Checks the shop's invariants over all its databases, which it only reads, whether the shop
    /// runs or not; exit code 0 when all hold, 1 with the rows that break one, 2 when a database
    /// cannot be read.
    Audit(Audit),
    /// Open-loop load on one address: requests come on a schedule, whatever the target does, and
    /// each response time counts from the instant its request was due.
    Load(Box<Load>),
    /// The service registry: Eureka REST and the native change stream.
    Registry,
    /// The TCC coordinator, for initiators without a database and in other languages.
    Coordinator,
    /// The reliable-message server.
    Broker,
    /// The API gateway.
    Gateway,
    /// One service of the shop.
    Shop {
        /// Which one.
        service: ShopService,
    },
    /// Checks the configuration; with `--dump` prints every key with value, origin and meaning.
    Config {
        /// Print the effective configuration.
        #[arg(long)]
        dump: bool,
    },
}

/// How the audit goes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Audit {
    /// Print JSON, one document for each round.
    #[arg(long)]
    pub(crate) json: bool,
    /// Check again and again with this many seconds in between; one line for each round. Ctrl-C
    /// ends it with the worst code of all rounds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) watch: Option<u64>,
    /// Ids of orders that callers were told are placed, one a line: each must be there (JOIN-4).
    #[arg(long, value_name = "FILE")]
    pub(crate) expect: Option<PathBuf>,
}

/// How the tour goes. Of the configuration it takes what the command line names, and no more;
/// ports and data folder are its own.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Tour {
    /// Tell this chapter alone.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=7))]
    pub(crate) chapter: Option<u8>,
    /// Keep the folder with databases and logs.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// The services of the shop.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ShopService {
    /// Login, quotes, orders.
    Order,
    /// Catalogue and stock.
    Inventory,
    /// Points accounts of buyers.
    Points,
    /// Outbound orders and shipping.
    Warehouse,
}
