//! What a basket costs and whether it can be had: pure arithmetic over inventory's answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::basket::Basket;
use crate::inventory::{Availability, AvailableItem};
use crate::money::{Currency, Money, MoneyError};

/// The price of a basket at this moment. Nothing is reserved by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// The currency of every amount (ISO 4217).
    pub currency: String,
    /// One per line of the basket, in its order.
    pub lines: Vec<QuoteLine>,
    /// The sum of the lines, in the smallest unit of the currency.
    pub total_cents: i64,
    /// Whether every line can be had in full.
    pub sufficient: bool,
}

/// One line of a quote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteLine {
    /// The product.
    pub product_id: i64,
    /// Its article number.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// How many were asked for.
    pub quantity: u32,
    /// The price of one.
    pub unit_price_cents: i64,
    /// The price of all of them.
    pub line_total_cents: i64,
    /// How many can be bought now.
    pub available: i64,
    /// Whether that is enough.
    pub sufficient: bool,
}

/// Why there is no quote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// These lines, by their index, name products that are not on sale.
    #[error("{} of the products are not on sale", .0.len())]
    Unknown(Vec<usize>),
    /// Inventory's answer is not one to this question.
    #[error("the answer of inventory about product {product_id} makes no sense: {why}")]
    Nonsense {
        /// The product.
        product_id: i64,
        /// What is wrong.
        why: &'static str,
    },
    /// The amounts do not add up to one.
    #[error("the basket has no total")]
    Money(#[from] MoneyError),
}

impl Quote {
    /// Prices a basket.
    ///
    /// # Errors
    /// When a product is not on sale, the answer does not fit the basket, or a sum does not fit.
    pub fn price(basket: &Basket, answer: &Availability) -> Result<Self, QuoteError> {
        let known: BTreeMap<_, _> = answer.items.iter().map(|it| (it.product_id, it)).collect();
        let mut unknown = Vec::new();
        let mut lines = Vec::with_capacity(basket.lines().len());
        let mut total: Option<Money> = None;
        for (index, line) in basket.lines().iter().enumerate() {
            let product_id = line.product_id;
            let Some(item) = known.get(&product_id) else {
                if !answer.unknown.contains(&product_id) {
                    return Err(QuoteError::Nonsense { product_id, why: "it is missing" });
                }
                unknown.push(index);
                continue;
            };
            let unit = unit_price(item)?;
            let line_total = unit.times(line.quantity)?;
            total = Some(match total {
                Some(sum) => sum.plus(line_total)?,
                None => line_total,
            });
            lines.push(QuoteLine {
                product_id,
                sku: item.sku.clone(),
                name: item.name.clone(),
                quantity: line.quantity,
                unit_price_cents: unit.cents(),
                line_total_cents: line_total.cents(),
                available: item.available,
                sufficient: i64::from(line.quantity) <= item.available,
            });
        }
        match total {
            Some(total) if unknown.is_empty() => Ok(Self {
                currency: total.currency().to_string(),
                sufficient: lines.iter().all(|it| it.sufficient),
                lines,
                total_cents: total.cents(),
            }),
            // A basket has at least one line: without a total, all of them are unknown.
            Some(_) | None => Err(QuoteError::Unknown(unknown)),
        }
    }
}

fn unit_price(item: &AvailableItem) -> Result<Money, QuoteError> {
    let nonsense = |why| QuoteError::Nonsense { product_id: item.product_id, why };
    if item.price_cents < 1 {
        return Err(nonsense("its price is not positive"));
    }
    if item.available < 0 {
        return Err(nonsense("there are fewer than none of it"));
    }
    Ok(Money::new(item.price_cents, Currency::parse(&item.currency)?)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::basket::Draft;

    fn basket(lines: &[(i64, u32)]) -> Basket {
        let items: Vec<_> =
            lines.iter().map(|it| json!({"product_id": it.0, "quantity": it.1})).collect();
        Draft::read(&json!({ "items": items })).outcome.unwrap()
    }

    fn item(product_id: i64, price_cents: i64, available: i64) -> AvailableItem {
        AvailableItem {
            product_id,
            sku: format!("SKU-{product_id}"),
            name: format!("Thing {product_id}"),
            price_cents,
            currency: "CNY".into(),
            available,
        }
    }

    fn answer(items: Vec<AvailableItem>, unknown: &[i64]) -> Availability {
        Availability { items, unknown: unknown.to_vec() }
    }

    #[test]
    fn lines_follow_the_basket_whatever_the_order_of_the_answer() {
        let answer = answer(vec![item(2, 500, 1), item(1, 250, 10)], &[]);
        let quote = Quote::price(&basket(&[(1, 3), (2, 2)]), &answer).unwrap();
        assert_eq!(quote.lines.iter().map(|it| it.product_id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(
            quote.lines.iter().map(|it| it.line_total_cents).collect::<Vec<_>>(),
            [750, 1000]
        );
        assert_eq!((quote.total_cents, quote.currency.as_str()), (1750, "CNY"));
        assert_eq!(quote.lines.iter().map(|it| it.sufficient).collect::<Vec<_>>(), [true, false]);
        assert!(!quote.sufficient);
    }

    #[test]
    fn every_unknown_product_is_named() {
        let answer = answer(vec![item(2, 500, 1)], &[1, 3]);
        let error = Quote::price(&basket(&[(1, 1), (2, 1), (3, 1)]), &answer).unwrap_err();
        assert_eq!(error, QuoteError::Unknown(vec![0, 2]));
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_no_price() {
        let one = basket(&[(1, 999)]);
        let nonsense = |answer: Availability| {
            assert!(matches!(Quote::price(&one, &answer), Err(QuoteError::Nonsense { .. })));
        };
        nonsense(answer(vec![], &[]));
        nonsense(answer(vec![item(1, 0, 1)], &[]));
        nonsense(answer(vec![item(1, -5, 1)], &[]));
        nonsense(answer(vec![item(1, 5, -1)], &[]));
        let huge = answer(vec![item(1, i64::MAX, 1)], &[]);
        assert_eq!(Quote::price(&one, &huge), Err(QuoteError::Money(MoneyError::Overflow)));
        let euro = AvailableItem { currency: "EUR".into(), ..item(2, 5, 1) };
        let mixed = answer(vec![item(1, 5, 1), euro], &[]);
        let two = basket(&[(1, 1), (2, 1)]);
        assert!(matches!(
            Quote::price(&two, &mixed),
            Err(QuoteError::Money(MoneyError::Mixed(..)))
        ));
    }

    proptest! {
        /// The sum of the lines is the total (ORDER-3), and a line is price times quantity.
        #[test]
        fn the_lines_add_up(prices in prop::collection::vec((1_i64..1_000_000, 1_u32..=999, 0_i64..2000), 1..=100)) {
            let lines: Vec<_> = (1_i64..).zip(&prices).map(|(id, it)| (id, it.1)).collect();
            let items = (1_i64..).zip(&prices).map(|(id, it)| item(id, it.0, it.2)).collect();
            let quote = Quote::price(&basket(&lines), &answer(items, &[])).unwrap();
            prop_assert_eq!(quote.total_cents, quote.lines.iter().map(|it| it.line_total_cents).sum::<i64>());
            for (line, (price, quantity, available)) in quote.lines.iter().zip(&prices) {
                prop_assert_eq!(line.line_total_cents, price * i64::from(*quantity));
                prop_assert_eq!(line.sufficient, i64::from(*quantity) <= *available);
            }
            prop_assert_eq!(quote.sufficient, quote.lines.iter().all(|it| it.sufficient));
        }
    }
}
