//! What products cost, remembered for a moment.
//!
//! An order is decided up to `order.place_limit` after it asked for prices, so a price of some age
//! always was what it could be placed at. Up to `order.price_keep` an answer serves other orders as
//! well, and a product that many buy at once is not asked about for each of them. What is left of a
//! product is remembered too and means nothing: whether it can be had, or is still on sale, the
//! reservation says. Quotes show it, so they ask each time ([`Remembered::asking`]); what they learn
//! is remembered, and nobody orders from this process at a price older than the quote it gave.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tradewind::call::CallError;

use super::{Ask, Availability, AvailableItem, Inventory};

/// Most products that are remembered: a few megabytes.
const PRODUCTS_MAX: usize = 10_000;

/// Inventory, and what it said a moment ago.
#[derive(Clone, Debug)]
pub struct Remembered<I> {
    inventory: I,
    shelf: Arc<Mutex<Shelf>>,
    always: bool,
}

impl<I> Remembered<I> {
    /// Asks `inventory` about what it has not said within `keep`; zero: about everything.
    #[must_use]
    pub fn new(inventory: I, keep: Duration) -> Self {
        let shelf = Shelf { keep, items: HashMap::new() };
        Self { inventory, shelf: Arc::new(Mutex::new(shelf)), always: false }
    }

    /// The same, with the same memory, that asks each time.
    #[must_use]
    pub fn asking(self) -> Self {
        Self { always: true, ..self }
    }
}

impl<I: Inventory + Sync> Inventory for Remembered<I> {
    async fn availability(&self, ask: &Ask) -> Result<Availability, CallError> {
        // Before the question: an answer is as old as what it was read from.
        let now = Instant::now();
        let lock = || self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let found = if self.always { None } else { lock().find(ask, now) };
        if let Some(answer) = found {
            return Ok(answer);
        }
        let answer = self.inventory.availability(ask).await?;
        lock().put(&answer, now);
        Ok(answer)
    }
}

/// What was said, and when it was asked.
#[derive(Debug)]
struct Shelf {
    keep: Duration,
    items: HashMap<i64, (Instant, AvailableItem)>,
}

impl Shelf {
    /// An answer to the whole question, or none.
    fn find(&self, ask: &Ask, now: Instant) -> Option<Availability> {
        let fresh = |id: i64| {
            let (asked, item) = self.items.get(&id)?;
            (now.saturating_duration_since(*asked) < self.keep).then(|| item.clone())
        };
        let items = ask.items.iter().map(|it| fresh(it.product_id)).collect::<Option<_>>()?;
        Some(Availability { items, unknown: Vec::new() })
    }

    /// Remembers what is on sale. What is not may be in a moment.
    fn put(&mut self, answer: &Availability, asked: Instant) {
        if self.keep.is_zero() {
            return;
        }
        if PRODUCTS_MAX < self.items.len() + answer.items.len() {
            let keep = self.keep;
            self.items.retain(|_, it| asked.saturating_duration_since(it.0) < keep);
        }
        for item in &answer.items {
            if self.items.len() < PRODUCTS_MAX || self.items.contains_key(&item.product_id) {
                let newer = |it: &(Instant, AvailableItem)| asked < it.0;
                if !self.items.get(&item.product_id).is_some_and(newer) {
                    self.items.insert(item.product_id, (asked, item.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::super::AskItem;
    use super::*;

    const KEEP: Duration = Duration::from_secs(2);

    /// Each answer names a price of its own; product 404 is not on sale.
    #[derive(Clone, Debug, Default)]
    struct Counting(Arc<AtomicI64>);

    impl Inventory for Counting {
        async fn availability(&self, ask: &Ask) -> Result<Availability, CallError> {
            let price = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            let (unknown, known) =
                ask.items.iter().map(|it| it.product_id).partition(|it| *it == 404);
            let known: Vec<i64> = known;
            Ok(Availability { items: known.iter().map(|it| item(*it, price)).collect(), unknown })
        }
    }

    fn item(product_id: i64, price_cents: i64) -> AvailableItem {
        AvailableItem {
            product_id,
            sku: format!("SKU-{product_id}"),
            name: format!("Product {product_id}"),
            price_cents,
            currency: "CNY".to_owned(),
            available: 5,
        }
    }

    fn ask(ids: &[i64]) -> Ask {
        Ask { items: ids.iter().map(|it| AskItem { product_id: *it, quantity: 1 }).collect() }
    }

    async fn prices(of: &Remembered<Counting>, ids: &[i64]) -> Vec<i64> {
        let answer = of.availability(&ask(ids)).await.unwrap();
        assert_eq!(answer.items.len() + answer.unknown.len(), ids.len());
        answer.items.iter().map(|it| it.price_cents).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_price_serves_until_it_is_as_old_as_it_may_be() {
        let inventory = Remembered::new(Counting::default(), KEEP);
        assert_eq!(prices(&inventory, &[7]).await, [1]);
        tokio::time::advance(KEEP - Duration::from_millis(1)).await;
        assert_eq!(prices(&inventory, &[7]).await, [1]);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(prices(&inventory, &[7]).await, [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_with_anything_new_in_it_is_asked_whole() {
        let inventory = Remembered::new(Counting::default(), KEEP);
        assert_eq!(prices(&inventory, &[7]).await, [1]);
        assert_eq!(prices(&inventory, &[8, 7]).await, [2, 2]);
        assert_eq!(prices(&inventory, &[7, 8]).await, [2, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_on_sale_is_asked_about_again() {
        let inventory = Remembered::new(Counting::default(), KEEP);
        for _ in 0..2 {
            assert_eq!(inventory.availability(&ask(&[404])).await.unwrap().unknown, [404]);
        }
        assert_eq!(inventory.inventory.0.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quote_asks_and_an_order_after_it_pays_what_it_said() {
        let inventory = Remembered::new(Counting::default(), KEEP);
        let quotes = inventory.clone().asking();
        assert_eq!(prices(&inventory, &[7]).await, [1]);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(prices(&quotes, &[7]).await, [2]);
        assert_eq!(prices(&inventory, &[7]).await, [2]);
        assert_eq!(prices(&quotes, &[7]).await, [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn zero_remembers_nothing() {
        let inventory = Remembered::new(Counting::default(), Duration::ZERO);
        assert_eq!(prices(&inventory, &[7]).await, [1]);
        assert_eq!(prices(&inventory, &[7]).await, [2]);
        assert!(inventory.shelf.lock().unwrap().items.is_empty());
    }

    #[test]
    fn an_answer_that_was_overtaken_takes_no_place_of_a_newer_one() {
        let start = Instant::now();
        let mut shelf = Shelf { keep: KEEP, items: HashMap::new() };
        let said = |price| Availability { items: vec![item(7, price)], unknown: Vec::new() };
        shelf.put(&said(20), start + Duration::from_millis(5));
        shelf.put(&said(10), start);
        let found = shelf.find(&ask(&[7]), start + Duration::from_millis(6)).unwrap();
        assert_eq!(found.items[0].price_cents, 20);
    }

    #[test]
    fn no_more_than_so_many_products_are_remembered() {
        let start = Instant::now();
        let mut shelf = Shelf { keep: KEEP, items: HashMap::new() };
        let put = |shelf: &mut Shelf, id, at| {
            let items = vec![item(id, 1)];
            shelf.put(&Availability { items, unknown: Vec::new() }, at);
        };
        for id in 0..i64::try_from(PRODUCTS_MAX).unwrap() + 10 {
            put(&mut shelf, id, start);
        }
        assert_eq!(shelf.items.len(), PRODUCTS_MAX);
        // When those are old there is room again.
        put(&mut shelf, -1, start + KEEP);
        assert_eq!(shelf.items.len(), 1);
    }
}
