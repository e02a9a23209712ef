//! The same business steps as small services, so that the price of each guarantee is seen by
//! itself. Each part is a process of its own: this program, started with `part NAME`.
//!
//! | path | what an order does |
//! |---|---|
//! | `/bare` | asks inventory for the price; inserts the order; takes the stock, credits the points and inserts the outbound order over HTTP, all at once, a local transaction each |
//! | `/keyed` | the same, with an idempotency key claimed beside the order and an answer stored at the end |
//! | `/told` | the same, but warehouse hears of it by a message of the outbox that is written with the answer |
//!
//! None of them undoes anything: a failure in the middle leaves half an order.

mod order;
mod others;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use tradewind_base::Tasks;
use tradewind_service::config::{Reader, Sources};
use tradewind_service::runtime::RuntimeConfig;
use tradewind_service::{Shared, SharedConfig, Stop, telemetry};

pub(crate) const ORDER: &str = "bench-order";
pub(crate) const INVENTORY: &str = "bench-inventory";
pub(crate) const POINTS: &str = "bench-points";
pub(crate) const WAREHOUSE: &str = "bench-warehouse";
/// The topic of the message about a placed order.
const TOPIC: &str = "bench.placed";

/// What a part is told on its command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Part {
    /// Which service.
    name: String,
    /// Where it listens.
    #[arg(long)]
    bind: SocketAddr,
    /// The folder of the data.
    #[arg(long)]
    data: PathBuf,
    /// The URL of the registry.
    #[arg(long)]
    registry: String,
}

impl Part {
    /// Runs the part until its standard input closes.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        // As the binary does it in `tradewind up`.
        RuntimeConfig::shared().start()?.block_on(self.serve())
    }

    async fn serve(&self) -> anyhow::Result<()> {
        let flag = |key: &str, value: String| (key.to_owned(), value);
        let flags = vec![
            flag("tradewind.data", self.data.display().to_string()),
            flag("discovery.urls", self.registry.clone()),
            flag("part.bind", self.bind.to_string()),
        ];
        let mut reader = Reader::new(Sources { flags, ..Sources::default() });
        let shared = SharedConfig::read(&mut reader);
        let config = tradewind_host::HostConfig::read(&mut reader.section("part"), self.bind);
        let _telemetry = telemetry::init(&telemetry::TelemetryConfig::default())?;
        let tasks = Tasks::new();
        let stop = Stop::on_signals(true, &tasks)?;
        let shared = Shared::open(shared).context("cannot open the data folder")?;
        let start = |name| tradewind_host::Host::new(name, config, shared, stop);
        match self.name.as_str() {
            ORDER => order::run(start(ORDER)?).await,
            INVENTORY => others::inventory(start(INVENTORY)?).await,
            POINTS => others::points(start(POINTS)?).await,
            WAREHOUSE => others::warehouse(start(WAREHOUSE)?).await,
            other => anyhow::bail!("there is no part {other}"),
        }
    }
}
