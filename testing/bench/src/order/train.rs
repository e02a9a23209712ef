//! What a build learns its profile from: the work of an ordinary hour.
//!
//! Orders through the gateway, first as many as the shop can take, then one at a time as on a quiet
//! day; with the engine inside the order service and with a coordinator, with locks on products and
//! without. Nothing is measured. Started by `cargo xtask dist` as `bench train PROGRAM`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::estate::{Estate, Process};
use super::measure::{closed, open};
use super::{BUYERS, shoppers, stock};

/// A program with counters in it is several times slower than one without.
const QUIET_RATE: f64 = 60.0;
/// The most that a program may need to write down what it counted.
const END_MAX: Duration = Duration::from_secs(60);

/// Which program, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Train {
    /// A binary that counts what it does (`-C profile-generate`).
    program: PathBuf,
    /// On the disk of the checkout, as everything measured is. Each process writes PID.profraw
    /// there when it ends.
    #[arg(long)]
    folder: PathBuf,
    /// How many seconds each kind of work lasts.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

impl Train {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            self.work(&[]).await?;
            let other = [("order.transactions", "coordinator"), ("inventory.lock", "sql")];
            self.work(&other.map(|(key, value)| (key.to_owned(), value.to_owned()))).await
        })
    }

    async fn work(&self, settings: &[(String, String)]) -> anyhow::Result<()> {
        let span = Duration::from_secs(self.seconds.clamp(1, 600));
        let shop = Estate::up(&self.program, &self.folder, settings).await?;
        let buyer = Arc::new(shoppers(&shop).await?);
        stock(&shop.data)?;
        let crowd = closed(&shop, &buyer, BUYERS, span).await?;
        let quiet = open(&shop, &buyer, QUIET_RATE, span * 2).await?;
        anyhow::ensure!(
            0 < crowd.placed && 0 < quiet.placed,
            "no order was placed: a profile of that is worth nothing"
        );
        let servers = shop.processes.clone();
        shop.stop(END_MAX).await.context("the counts are written at an orderly end")?;
        // One that was killed instead would be compiled as if it never ran.
        for Process { name, pid, .. } in servers {
            let counts = self.folder.join(format!("{pid}.profraw"));
            let written = std::fs::metadata(&counts).is_ok_and(|it| 0 < it.len());
            anyhow::ensure!(written, "{name} did not write what it counted: {}", counts.display());
        }
        Ok(())
    }
}
