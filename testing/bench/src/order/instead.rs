//! Locks, the coordinator and MariaDB instead of what is the default.

use std::net::SocketAddr;
use std::sync::Arc;

use super::estate::Process;
use super::measure::{Sample, closed, open, rest};
use super::{BUYERS, Bench, HIGHER, LOWER, STOCK, shoppers, stock};
use crate::sql::mariadb::MariaDb;

impl Bench<'_> {
    /// What can be chosen instead of a default.
    pub(super) async fn instead(&mut self, rate: f64, ceiling: &Sample) -> anyhow::Result<()> {
        let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let locks = [set("inventory.lock", "sql")];
        self.other("locks on products", &locks, None, (rate, ceiling)).await?;
        let coordinator = [set("order.transactions", "coordinator")];
        self.other("coordinator", &coordinator, None, (rate, ceiling)).await?;
        let Some(server) = MariaDb::start(&self.settings.folder).await? else {
            self.report.absent("MariaDB", "the package mariadb-server brings it");
            return Ok(());
        };
        let mut settings = Vec::new();
        for name in ["order", "inventory", "points", "warehouse", "broker"] {
            server.create(&format!("tw_{name}"))?;
            settings.push((format!("{name}.database.url"), server.url_of(&format!("tw_{name}"))));
        }
        self.other("MariaDB", &settings, Some(&server), (rate, ceiling)).await
    }

    async fn other(
        &mut self,
        name: &str,
        settings: &[(String, String)],
        server: Option<&MariaDb>,
        (rate, ceiling): (f64, &Sample),
    ) -> anyhow::Result<()> {
        let mut shop = self.shop(settings).await?;
        match server {
            None => stock(&shop.data)?,
            Some(server) => {
                server.stock(STOCK)?;
                shop.processes.push(Process {
                    name: "mariadbd".to_owned(),
                    pid: server.pid(),
                    address: SocketAddr::from(([127, 0, 0, 1], 9)),
                });
            }
        }
        let buyer = Arc::new(shoppers(&shop).await?);
        closed(&shop, &buyer, 8, self.span(1)).await?;
        let most = closed(&shop, &buyer, BUYERS, self.span(3)).await?;
        let base = [ceiling.rate];
        let metric = format!("{name}: ceiling");
        self.report.add((metric, "1/s", HIGHER), &[most.rate], Some(("default", &base)), None);
        let base = [ceiling.cpu];
        let metric = format!("{name}: CPU of an order at the ceiling");
        self.report.add((metric, "ms", LOWER), &[most.cpu], Some(("default", &base)), None);
        // Never more than it can bear.
        let rate = rate.min(0.7 * most.rate).max(1.0);
        let it = open(&shop, &buyer, rate, self.span(3)).await?;
        self.note(&format!("{name}: p50 at {rate:.0}/s"), ("ms", LOWER), &[it.p50]);
        self.note(&format!("{name}: p99 at {rate:.0}/s"), ("ms", LOWER), &[it.p99]);
        let commits = format!("{name}: durable commits of an order at {rate:.0}/s");
        self.note(&commits, ("", LOWER), &[it.commits]);
        rest(&shop).await
    }
}
