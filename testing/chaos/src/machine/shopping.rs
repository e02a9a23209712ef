//! What the buyers do.

use std::time::Duration;

use tradewind_base::Rng;

use super::{Seed, chance, within};

/// A product of the catalogue, as it was at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Its id.
    pub id: i64,
    /// How many there were.
    pub stock: i64,
}

/// One line of a basket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The product.
    pub product: i64,
    /// How many.
    pub quantity: i64,
}

/// How an order is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Click {
    /// Once.
    Once,
    /// Twice at the same moment, on two connections.
    Twice,
}

/// What a buyer does about an order that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Looks at it.
    Look,
    /// Sends the same request with the same key once more.
    Repeat,
    /// Sends another body with the same key.
    OtherBody,
    /// Cancels it after this time.
    Cancel {
        /// So late.
        after: Duration,
        /// How the request is sent.
        click: Click,
        /// And whether once more when it was answered.
        again: bool,
    },
    /// Reads and cancels the order of somebody else.
    Foreign,
    /// Sends the request of an earlier order of its own once more.
    RepeatOld,
}

/// One visit to the shop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Its number, from 0.
    pub number: u64,
    /// What is in the basket; each product once.
    pub lines: Vec<Line>,
    /// How the order is sent.
    pub click: Click,
    /// What follows if it is accepted, in this order.
    pub then: Vec<Then>,
    /// Picks among things that the plan cannot know, such as whose order is looked at.
    pub pick: u64,
}

/// How many products everybody wants.
const POPULAR: usize = 8;
/// A product with at most so many is rare.
const RARE: i64 = 12;
/// The longest time until an order is cancelled, in milliseconds: some have shipped by then.
const CANCEL_MS_MAX: u64 = 2500;

/// The endless shopping of one buyer.
#[derive(Debug)]
pub struct Shopping {
    seed: Seed,
    name: String,
    products: Vec<Product>,
    rare: Vec<Product>,
    number: u64,
}

impl Shopping {
    /// What buyer `buyer` does in this catalogue.
    #[must_use]
    pub fn new(seed: Seed, buyer: usize, products: &[Product]) -> Self {
        let rare = products.iter().filter(|it| it.stock <= RARE).copied().collect();
        let name = format!("buyer {buyer}");
        Self { seed, name, products: products.to_vec(), rare, number: 0 }
    }

    fn product(&self, rng: &mut Rng) -> i64 {
        let from: &[Product] = match rng.below(100) {
            // Nearly sold out, or sold out: many want the same last piece.
            0..12 if !self.rare.is_empty() => &self.rare,
            12..30 => self.products.get(..POPULAR).unwrap_or(&self.products),
            _ => &self.products,
        };
        from.get(rng.below(from.len())).map_or(1, |it| it.id)
    }

    fn lines(&self, rng: &mut Rng) -> Vec<Line> {
        let count = match rng.below(100) {
            0..70 => 1,
            70..92 => 2,
            _ => 3,
        };
        let mut lines: Vec<Line> = Vec::with_capacity(count);
        for _ in 0..count {
            let product = self.product(rng);
            let quantity = if chance(rng, 85) { 1 } else { 2 };
            if lines.iter().all(|it| it.product != product) {
                lines.push(Line { product, quantity });
            }
        }
        lines
    }
}

fn cancel(rng: &mut Rng) -> Then {
    let longest = if chance(rng, 50) { CANCEL_MS_MAX } else { 200 };
    Then::Cancel {
        after: Duration::from_millis(within(rng, 0, longest)),
        click: if chance(rng, 20) { Click::Twice } else { Click::Once },
        again: chance(rng, 30),
    }
}

impl Iterator for Shopping {
    type Item = Visit;

    fn next(&mut self) -> Option<Visit> {
        let mut rng = self.seed.stream(&self.name, self.number);
        let lines = self.lines(&mut rng);
        let click = if chance(&mut rng, 12) { Click::Twice } else { Click::Once };
        let mut then = Vec::new();
        for (percent, what) in [
            (25, Then::Look),
            (10, Then::Repeat),
            (8, Then::OtherBody),
            (6, Then::Foreign),
            (8, Then::RepeatOld),
        ] {
            then.extend(chance(&mut rng, percent).then_some(what));
        }
        if chance(&mut rng, 25) {
            then.push(cancel(&mut rng));
        }
        // What was done before and after a cancellation is another thing.
        then.extend(chance(&mut rng, 8).then_some(Then::Repeat));
        let visit = Visit { number: self.number, lines, click, then, pick: rng.u64() };
        self.number += 1;
        Some(visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Vec<Product> {
        (1..=100).map(|id| Product { id, stock: if id % 20 == 0 { 1 } else { 100 } }).collect()
    }

    fn visits(seed: u64, buyer: usize) -> Vec<Visit> {
        Shopping::new(Seed(seed), buyer, &catalogue()).take(2000).collect()
    }

    /// CHAOS-1, CHAOS-4.
    #[test]
    fn the_same_seed_gives_the_same_visits() {
        assert_eq!(visits(4, 3), visits(4, 3));
        assert_ne!(visits(4, 3), visits(4, 2));
        assert_ne!(visits(4, 3), visits(5, 3));
    }

    #[test]
    fn baskets_are_legal_and_everything_happens() {
        let all = visits(11, 0);
        for it in &all {
            assert!((1..=3).contains(&it.lines.len()));
            for line in &it.lines {
                assert!((1..=2).contains(&line.quantity) && (1..=100).contains(&line.product));
                assert_eq!(
                    it.lines.iter().filter(|other| other.product == line.product).count(),
                    1
                );
            }
        }
        let some = |wanted: fn(&Then) -> bool| all.iter().any(|it| it.then.iter().any(wanted));
        assert!(all.iter().any(|it| it.click == Click::Twice));
        assert!(some(|it| *it == Then::Look) && some(|it| *it == Then::Repeat));
        assert!(some(|it| *it == Then::OtherBody) && some(|it| *it == Then::Foreign));
        assert!(some(|it| *it == Then::RepeatOld));
        assert!(some(|it| matches!(it, Then::Cancel { click: Click::Twice, .. })));
        assert!(some(|it| matches!(it, Then::Cancel { again: true, .. })));
        let rare = all.iter().filter(|it| it.lines.iter().any(|it| it.product % 20 == 0)).count();
        assert!(100 < rare, "{rare}");
    }
}
