//! A basket: what a customer wants, read from a body and valid by construction.
//!
//! A basket has 1 to 100 lines, each of another product, with 1 to 999 pieces each. The same
//! product on two lines is refused, not added up: whoever sends it twice may mean either.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fields::{Mistakes, Object, Reading, whole};

/// The most lines of a basket.
pub const LINES_MAX: usize = 100;
/// The most pieces on a line.
pub const QUANTITY_MAX: u32 = 999;

/// A valid basket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basket {
    lines: Vec<Line>,
}

/// One line of a basket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The product; positive.
    pub product_id: i64,
    /// How many: 1 to [`QUANTITY_MAX`].
    pub quantity: u32,
}

/// What was read of a body: the basket or what is wrong with it, and which products it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    /// The lines that name a product, by their index, so that unknown products can be named beside
    /// the other mistakes.
    pub(crate) products: BTreeMap<usize, i64>,
    pub(crate) outcome: Result<Basket, Mistakes>,
}

impl Basket {
    /// The lines, in the order of the body.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}

impl Draft {
    /// Reads a body like `{"items":[{"product_id":1,"quantity":2}]}`.
    pub(crate) fn read(body: &Value) -> Self {
        Self::read_among(body, &["items"])
    }

    /// Reads the basket of a body that has other fields as well: `known` are all of them.
    pub(crate) fn read_among(body: &Value, known: &[&str]) -> Self {
        let mut mistakes = Mistakes::default();
        let mut products = BTreeMap::new();
        let mut lines = Vec::new();
        for (index, item) in items(body, known, &mut mistakes).iter().enumerate().take(LINES_MAX) {
            let Some(item) = Object::element(item, "items", index, ITEM, &mut mistakes) else {
                continue;
            };
            let product_id = item.field(ITEM[0], PRODUCT_ID, &mut mistakes, product_id);
            let quantity = item.field(ITEM[1], QUANTITY, &mut mistakes, quantity);
            let Some(product_id) = product_id else { continue };
            if let Some(first) = products.iter().find(|it| *it.1 == product_id).map(|it| *it.0) {
                let message = format!("is on line items[{first}] already; add up the quantities");
                mistakes.note_at(index + 1, item.path(ITEM[0]), message);
                continue;
            }
            products.insert(index, product_id);
            lines.extend(quantity.map(|quantity| Line { product_id, quantity }));
        }
        let outcome = if mistakes.is_empty() { Ok(Basket { lines }) } else { Err(mistakes) };
        Self { products, outcome }
    }

    /// The same with what is wrong elsewhere in the body.
    pub(crate) fn with(mut self, mistakes: Mistakes) -> Self {
        self.outcome = match self.outcome {
            Ok(basket) if mistakes.is_empty() => Ok(basket),
            Ok(_) => Err(mistakes),
            Err(found) => Err(found.and(mistakes)),
        };
        self
    }
}

const ITEM: &[&str] = &["product_id", "quantity"];
const PRODUCT_ID: &str = "the id of a product: a whole number from 1";
const QUANTITY: &str = "a whole number from 1 to 999";

fn items<'a>(body: &'a Value, known: &[&str], mistakes: &mut Mistakes) -> &'a [Value] {
    let expected = "a list of 1 to 100 lines, each with product_id and quantity";
    let list = |it: &'a Value| it.as_array().map_or(Reading::Malformed, Reading::Good);
    let items = Object::body(body, known, mistakes)
        .and_then(|body| body.field("items", expected, mistakes, list));
    let Some(items) = items else { return &[] };
    if !(1..=LINES_MAX).contains(&items.len()) {
        mistakes.note("items", format!("has {} lines; it must be {expected}", items.len()));
    }
    items
}

fn product_id(value: &Value) -> Reading<i64> {
    whole(value, |it| i64::try_from(it).ok().filter(|it| 0 < *it))
}

fn quantity(value: &Value) -> Reading<u32> {
    whole(value, |it| u32::try_from(it).ok().filter(|it| (1..=QUANTITY_MAX).contains(it)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The wrong fields, and whether the body has the wrong form.
    fn wrong(body: &Value) -> (Vec<String>, bool) {
        match Draft::read(body).outcome {
            Ok(_) => (Vec::new(), false),
            Err(mistakes) => {
                let malformed = mistakes.malformed();
                (mistakes.into_errors().into_iter().map(|it| it.field).collect(), malformed)
            }
        }
    }

    fn one(product_id: &Value, quantity: &Value) -> Value {
        json!({"items": [{"product_id": product_id, "quantity": quantity}]})
    }

    fn huge() -> Value {
        serde_json::from_str("99999999999999999999").unwrap()
    }

    #[test]
    fn a_good_basket_is_read_in_order() {
        let body = json!({"items": [{"product_id": 7, "quantity": 999}, {"product_id": 3, "quantity": 1}]});
        let basket = Draft::read(&body).outcome.unwrap();
        let lines = [Line { product_id: 7, quantity: 999 }, Line { product_id: 3, quantity: 1 }];
        assert_eq!(basket.lines(), lines);
    }

    #[test]
    fn each_mistake_names_its_field() {
        let quantity = vec!["items[0].quantity".to_owned()];
        for bad in [json!(0), json!(-1), json!(1000), json!(u64::MAX)] {
            assert_eq!(wrong(&one(&json!(1), &bad)), (quantity.clone(), false), "{bad}");
        }
        for bad in
            [json!(1.0), json!(1.5), json!("1"), json!(null), json!(true), json!([1]), huge()]
        {
            assert_eq!(wrong(&one(&json!(1), &bad)), (quantity.clone(), true), "{bad}");
        }
        let product_id = vec!["items[0].product_id".to_owned()];
        for bad in [json!(0), json!(-1), json!(u64::MAX)] {
            assert_eq!(wrong(&one(&bad, &json!(1))), (product_id.clone(), false), "{bad}");
        }
        for bad in [json!(1.0), json!("1"), json!(null), huge()] {
            assert_eq!(wrong(&one(&bad, &json!(1))), (product_id.clone(), true), "{bad}");
        }
    }

    #[test]
    fn a_body_of_another_form_names_what_is_wrong() {
        for (bad, field) in [
            (json!(null), "body"),
            (json!([]), "body"),
            (json!({}), "items"),
            (json!({"items": null}), "items"),
            (json!({"items": {}}), "items"),
            (json!({"items": [3]}), "items[0]"),
            (json!({"items": [{"quantity": 1}]}), "items[0].product_id"),
            (json!({"items": [{"product_id": 1}]}), "items[0].quantity"),
            (json!({"items": [{"product_id": 1, "quantity": 1, "price": 1}]}), "items[0].price"),
            (json!({"items": [{"product_id": 1, "quantity": 1}], "total": 1}), "total"),
        ] {
            assert_eq!(wrong(&bad), (vec![field.to_owned()], true), "{bad}");
        }
        assert_eq!(wrong(&json!({"items": []})), (vec!["items".to_owned()], false));
    }

    #[test]
    fn all_mistakes_of_a_basket_are_listed_at_once() {
        let body = json!({"note": "", "items": [
            {"product_id": 1, "quantity": 0},
            {"product_id": 1, "quantity": 1},
            {"product_id": "x", "quantity": 1000, "colour": "red"},
        ]});
        assert_eq!(
            wrong(&body).0,
            [
                "note",
                "items[0].quantity",
                "items[1].product_id",
                "items[2].colour",
                "items[2].product_id",
                "items[2].quantity",
            ]
        );
        assert_eq!(Draft::read(&body).products, BTreeMap::from([(0, 1)]));
    }

    #[test]
    fn a_hundred_lines_pass_and_one_more_does_not() {
        let lines = |count: i64| {
            let items: Vec<_> =
                (1..=count).map(|it| json!({"product_id": it, "quantity": 1})).collect();
            json!({"items": items})
        };
        assert_eq!(wrong(&lines(100)).0, Vec::<String>::new());
        assert_eq!(wrong(&lines(101)), (vec!["items".to_owned()], false));
    }

    proptest! {
        /// Whatever comes in, what is called a basket keeps its promises.
        #[test]
        fn a_basket_is_valid_by_construction(items in prop::collection::vec((-3_i64..9, -3_i64..1200), 0..120)) {
            let body = json!({"items": items.iter().map(|(id, quantity)| json!({"product_id": id, "quantity": quantity})).collect::<Vec<_>>()});
            let draft = Draft::read(&body);
            if let Ok(basket) = draft.outcome {
                prop_assert!((1..=LINES_MAX).contains(&basket.lines().len()));
                prop_assert!(basket.lines().iter().all(|it| 0 < it.product_id && (1..=QUANTITY_MAX).contains(&it.quantity)));
                let distinct: std::collections::BTreeSet<_> = basket.lines().iter().map(|it| it.product_id).collect();
                prop_assert_eq!(distinct.len(), basket.lines().len());
            } else {
                let good = (1..=LINES_MAX).contains(&items.len())
                    && items.iter().all(|(id, quantity)| 0 < *id && (1..=999).contains(quantity))
                    && items.iter().map(|it| it.0).collect::<std::collections::BTreeSet<_>>().len() == items.len();
                prop_assert!(!good);
            }
        }
    }
}
