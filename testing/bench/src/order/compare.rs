//! What each guarantee costs: the same business steps without, and then with one after the other.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tradewind_base::identity::{USER_HEADER, User};
use tradewind_base::{Clock as _, SystemClock};

use super::buyer::{Buyer, Caller};
use super::estate::{Estate, command, free_addresses};
use super::measure::{Felt, Prober, Sample, closed};
use super::{Bench, LOWER, parts};

/// What the whole way may add to the bare steps: durable steps and exchanges.
const STEPS_MAX: f64 = 2.5;
const EXCHANGES_MAX: f64 = 2.0;

/// A way to place an order.
struct Way<'a> {
    name: &'static str,
    estate: &'a Estate,
    buyer: Arc<Buyer>,
    rounds: Vec<Sample>,
    felt: Vec<Felt>,
}

impl Way<'_> {
    /// The same way, not measured yet.
    fn anew(self) -> Self {
        Self { rounds: Vec::new(), felt: Vec::new(), ..self }
    }
}

impl Bench<'_> {
    /// The bare steps, and one guarantee more at a time, in turns; then the ends of that at other
    /// rates.
    pub(super) async fn compare(
        &mut self,
        shop: &Estate,
        gateway: &Arc<Buyer>,
        (rate, also): (f64, &[f64]),
        folder: &Path,
    ) -> anyhow::Result<()> {
        let (parts, order) = self.parts().await?;
        let direct = shop.process("order")?.address;
        let of_parts = |path| Arc::new(Buyer::new(order, path, Vec::new()));
        let direct = Arc::new(Buyer::new(direct, "/orders", vec![sealed_user(&shop.data)?]));
        let way = |name, estate, buyer| Way { name, estate, buyer, rounds: vec![], felt: vec![] };
        let mut ways = [
            way("bare steps", &parts, of_parts("/bare")),
            way("with a key", &parts, of_parts("/keyed")),
            way("with key and message", &parts, of_parts("/told")),
            way("the order service: TCC, key and message", shop, direct),
            way("the whole way, through the gateway", shop, Arc::clone(gateway)),
        ];
        let probes = tempfile::tempdir_in(folder)?;
        let mut prober = Prober::open(probes.path(), Caller::open(order).await?)?;
        for it in &ways {
            closed(it.estate, &it.buyer, 4, self.settings.span / 2).await?;
        }
        self.by_turns(&mut prober, &mut ways, rate).await?;
        self.prices(&ways);
        let [bare, .., whole] = ways;
        let mut ends = [bare, whole];
        for rate in also {
            ends = ends.map(Way::anew);
            self.by_turns(&mut prober, &mut ends, *rate).await?;
            let [bare, whole] = &ends;
            self.added(bare, whole, &ends, &format!(", at {rate:.0}/s"));
        }
        Ok(())
    }

    async fn by_turns(
        &self,
        prober: &mut Prober,
        ways: &mut [Way<'_>],
        rate: f64,
    ) -> anyhow::Result<()> {
        for _ in 0..self.settings.rounds {
            for it in &mut *ways {
                let (estate, buyer) = (it.estate, &it.buyer);
                let span = self.settings.span * 3 / 2;
                let (sample, felt) = prober.beside(estate, buyer, rate, span).await?;
                it.rounds.push(sample);
                it.felt.push(felt);
            }
        }
        Ok(())
    }

    fn prices(&mut self, ways: &[Way<'_>]) {
        let Some((bare, whole)) = ways.first().zip(ways.last()) else { return };
        let each = |way: &Way<'_>, of: fn(&Sample) -> f64| way.rounds.iter().map(of).collect();
        let felt = |of: fn(&Felt) -> f64| -> Vec<f64> {
            ways.iter().flat_map(|it| &it.felt).map(of).collect()
        };
        self.note("one durable step, felt beside the load", ("ms", LOWER), &felt(|it| it.step));
        self.note("one exchange, felt beside the load", ("ms", LOWER), &felt(|it| it.exchange));
        for (what, unit, of) in [
            ("p50", "ms", (|it| it.p50) as fn(&Sample) -> f64),
            ("p99", "ms", |it| it.p99),
            ("CPU of an order", "ms", |it| it.cpu),
            ("durable commits of an order", "", |it| it.commits),
        ] {
            let base: Vec<f64> = each(bare, of);
            for way in ways {
                let rounds: Vec<f64> = each(way, of);
                let peer = (way.name != bare.name).then_some(("bare", base.as_slice()));
                self.report.add(
                    (format!("{what}: {}", way.name), unit, LOWER),
                    &rounds,
                    peer,
                    None,
                );
            }
        }
        self.added(bare, whole, ways, "");
    }

    /// What the whole way adds to the bare steps, beside what it may add, as felt beside `all`.
    fn added<'a>(
        &mut self,
        bare: &Way<'_>,
        whole: &Way<'_>,
        all: impl IntoIterator<Item = &'a Way<'a>>,
        when: &str,
    ) {
        let added: Vec<f64> = whole
            .rounds
            .iter()
            .zip(&bare.rounds)
            .map(|(whole, bare)| (whole.p50 - bare.p50).max(0.0))
            .collect();
        let allowed: Vec<f64> = all
            .into_iter()
            .flat_map(|it| &it.felt)
            .map(|it| STEPS_MAX * it.step + EXCHANGES_MAX * it.exchange)
            .collect();
        let metric = format!("p50 that the whole way adds to the bare steps{when}");
        let peer = Some(("2.5 durable steps and 2 exchanges", allowed.as_slice()));
        self.report.add((metric, "ms", LOWER), &added, peer, Some(1.0));
        for (name, way) in [("bare", bare), ("whole", whole)] {
            let steps: Vec<f64> = way.felt.iter().map(|it| it.step).collect();
            let metric = format!("one durable step, felt beside the {name} way{when}");
            self.note(&metric, ("ms", LOWER), &steps);
        }
    }

    /// The services of the comparison: as many processes as in the shop.
    async fn parts(&self) -> anyhow::Result<(Estate, SocketAddr)> {
        let mut parts = Estate::empty(&self.settings.folder)?;
        let addresses = free_addresses(8)?;
        let mut addresses = addresses.into_iter();
        let mut next = || addresses.next().context("no address");
        let (data, registry) = (parts.data.clone(), next()?);
        for (name, bind) in [("registry", registry), ("broker", next()?)] {
            let mut command = command(&self.binary, &data);
            let urls = format!("discovery.urls=http://{registry}");
            command.args([name, "--supervised", "--set", &urls]);
            command.args(["--set", &format!("{name}.bind={bind}")]);
            parts.add(name, bind, &mut command).await?;
        }
        let own = std::env::current_exe()?;
        let mut last = registry;
        let (stock, goods) = (parts::INVENTORY, parts::WAREHOUSE);
        for name in [stock, stock, parts::POINTS, goods, goods, parts::ORDER] {
            last = next()?;
            let mut command = Command::new(&own);
            command.args(["part", name, "--bind", &last.to_string()]);
            command.arg("--data").arg(&data).args(["--registry", &format!("http://{registry}")]);
            parts.add(name, last, &mut command).await?;
        }
        let buyer = Buyer::new(last, "/bare", Vec::new());
        for _ in 0..100 {
            // Until it has found everybody.
            if buyer.place().await.is_ok_and(|it| it == 201) {
                return Ok((parts, last));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("the services of the comparison place no order")
    }
}

/// The gateway's word on a user, for who asks the order service itself.
fn sealed_user(data: &Path) -> anyhow::Result<String> {
    let keys = tradewind_service::Keys::load_or_create(data)?;
    let user = User { id: "usr_bench".into(), name: "Bench".into(), roles: Vec::new() };
    let end = SystemClock::new().now() + Duration::from_secs(3600);
    Ok(format!("{USER_HEADER}: {}\r\n", user.seal(keys.seal(), end)?))
}
