//! Two programs by turns: this one, and another build of it.
//!
//! These machines are fast one hour and slow the next. What a change is worth is seen only when
//! both programs run in the same minutes; which goes first changes with every round.

use std::path::Path;
use std::sync::Arc;

use super::estate::Estate;
use super::measure::{Sample, closed, open};
use super::{BUYERS, Bench, HIGHER, LOWER, shoppers, stock};
use crate::report::Better;

/// The peer's name in the report.
const OTHER: &str = "other build";
/// Of the first ceiling: what both are offered in the open loop.
const SHARE: f64 = 0.3;

type Read = fn(&Turn) -> f64;

/// What is compared.
const FIGURES: [(&str, &str, Better, Read); 8] = [
    ("ceiling", "1/s", HIGHER, |it| it.ceiling.rate),
    ("ceiling, p50", "ms", LOWER, |it| it.ceiling.p50),
    ("ceiling, CPU of an order", "ms", LOWER, |it| it.ceiling.cpu),
    ("ceiling, durable commits of an order", "", LOWER, |it| it.ceiling.commits),
    ("open loop, p50", "ms", LOWER, |it| it.open.p50),
    ("open loop, p99", "ms", LOWER, |it| it.open.p99),
    ("open loop, CPU of an order", "ms", LOWER, |it| it.open.cpu),
    ("open loop, durable commits of an order", "", LOWER, |it| it.open.commits),
];

/// What one program came to in one round.
struct Turn {
    ceiling: Sample,
    open: Sample,
}

impl Bench<'_> {
    /// Measures this binary and another by turns.
    pub(super) async fn turns(&mut self, other: &Path) -> anyhow::Result<()> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut rate = None;
        let binary = self.binary.clone();
        for round in 0..self.settings.rounds {
            let mut order = [(binary.as_path(), true), (other, false)];
            if round % 2 == 1 {
                order.reverse();
            }
            for (program, is_ours) in order {
                let turn = self.turn(program, &mut rate).await?;
                if is_ours { &mut ours } else { &mut theirs }.push(turn);
            }
        }
        let rate = [rate.unwrap_or_default()];
        self.report.add(("open loop, orders offered".to_owned(), "1/s", HIGHER), &rate, None, None);
        for (name, unit, better, read) in FIGURES {
            let all = |turns: &[Turn]| turns.iter().map(read).collect::<Vec<_>>();
            let (ours, theirs) = (all(&ours), all(&theirs));
            self.report.add((name.to_owned(), unit, better), &ours, Some((OTHER, &theirs)), None);
        }
        Ok(())
    }

    async fn turn(&self, program: &Path, rate: &mut Option<f64>) -> anyhow::Result<Turn> {
        let shop = Estate::up(program, &self.settings.folder, &[]).await?;
        let buyer = Arc::new(shoppers(&shop).await?);
        stock(&shop.data)?;
        closed(&shop, &buyer, 8, self.span(1)).await?;
        let ceiling = closed(&shop, &buyer, BUYERS, self.span(3)).await?;
        let rate = *rate.get_or_insert((SHARE * ceiling.rate).max(1.0));
        let open = open(&shop, &buyer, rate, self.span(4)).await?;
        Ok(Turn { ceiling, open })
    }
}
