//! What the shop sells on its first day: 200 articles of 12 categories, in code.
//!
//! The table in `data` lists lines (a kettle, a sweater) and the axes they vary along (colour,
//! size, capacity); an article is one choice on every axis. The order of the table fixes the ids,
//! so every installation knows the same product under the same id. What is in a database already
//! is never touched: the table matters at the first start only.

mod data;

/// One category of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Category {
    /// How it is named in addresses and queries: `tea-coffee`.
    pub slug: &'static str,
    /// What people read.
    pub title: &'static str,
    lines: &'static [Line],
}

/// A line of articles that differ along its axes only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    code: &'static str,
    name: &'static str,
    /// The price of the cheapest article, in cents.
    price_cents: i64,
    axes: &'static [Axis],
}

/// What articles of a line differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    attribute: &'static str,
    choices: &'static [Choice],
}

/// One value of an axis: its code in the article number, its text, what it adds to the price.
type Choice = (&'static str, &'static str, i64);

/// One article of the first day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Article {
    /// Its id: its place in the table, from 1.
    pub id: i64,
    /// The article number: the line's code and the codes of the choices.
    pub sku: String,
    /// The name with the choices: `Thermos Flask, 750 ml, Graphite`.
    pub name: String,
    /// The slug of its category.
    pub category: &'static str,
    /// What it is in each respect: `("colour", "Graphite")`.
    pub attributes: Vec<(&'static str, &'static str)>,
    /// The price in cents of [`CURRENCY`].
    pub price_cents: i64,
    /// How many are there.
    pub on_hand: i64,
}

/// The currency of every price in the table (ISO 4217).
pub const CURRENCY: &str = "CNY";

/// The categories in the order in which they are shown.
#[must_use]
pub fn categories() -> &'static [Category] {
    data::CATEGORIES
}

/// All articles in the order of their ids.
#[must_use]
pub fn articles() -> Vec<Article> {
    let mut all = Vec::new();
    for category in data::CATEGORIES {
        for line in category.lines {
            for choices in combinations(line.axes) {
                // The table has 200 articles: a test counts them.
                let id = i64::try_from(all.len() + 1).unwrap_or(i64::MAX);
                all.push(article(id, category.slug, line, &choices));
            }
        }
    }
    all
}

fn article(
    id: i64,
    category: &'static str,
    line: &Line,
    choices: &[(&'static str, Choice)],
) -> Article {
    let mut it = Article {
        id,
        sku: line.code.to_owned(),
        name: line.name.to_owned(),
        category,
        attributes: Vec::new(),
        price_cents: line.price_cents,
        on_hand: stock_of_first_day(id),
    };
    for (attribute, (code, text, extra_cents)) in choices {
        it.sku = format!("{}-{code}", it.sku);
        it.name = format!("{}, {text}", it.name);
        it.price_cents += extra_cents;
        it.attributes.push((attribute, text));
    }
    it
}

/// Every way to choose one value on each axis; the first axis varies slowest.
fn combinations(axes: &'static [Axis]) -> Vec<Vec<(&'static str, Choice)>> {
    let mut all = vec![Vec::new()];
    for axis in axes {
        let with = |known: &Vec<_>| {
            let known = known.clone();
            axis.choices.iter().map(move |choice| {
                let mut more = known.clone();
                more.push((axis.attribute, *choice));
                more
            })
        };
        all = all.iter().flat_map(with).collect();
    }
    all
}

/// How many of an article there are at first: some run out, a few are down to the last one, the
/// rest vary between 5 and 245. Fixed, so that every installation starts alike.
const fn stock_of_first_day(id: i64) -> i64 {
    if id % 37 == 0 {
        0
    } else if id % 41 == 0 {
        1
    } else {
        5 + (id * 173) % 241
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn two_hundred_articles_of_twelve_categories_each_with_its_own_number_and_name() {
        let all = articles();
        assert_eq!(all.len(), 200);
        assert_eq!(categories().len(), 12);
        assert_eq!(all.iter().map(|it| &it.sku).collect::<BTreeSet<_>>().len(), 200);
        assert_eq!(all.iter().map(|it| &it.name).collect::<BTreeSet<_>>().len(), 200);
        for category in categories() {
            let count = all.iter().filter(|it| it.category == category.slug).count();
            assert!((8..=25).contains(&count), "{}: {count}", category.slug);
        }
    }

    #[test]
    fn every_article_fits_its_columns_and_has_a_sane_price() {
        for it in articles() {
            assert!(it.sku.len() <= 48 && it.name.len() <= 120, "{}", it.sku);
            let ascii = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
            assert!(it.sku.bytes().all(ascii), "{}", it.sku);
            assert!((500..=500_000).contains(&it.price_cents), "{}: {}", it.sku, it.price_cents);
        }
    }

    #[test]
    fn the_stock_of_the_first_day_has_gaps_last_pieces_and_plenty() {
        let all = articles();
        let with = |on_hand: i64| all.iter().filter(|it| it.on_hand == on_hand).count();
        assert_eq!((with(0), with(1)), (5, 4));
        assert!(all.iter().all(|it| (0..=245).contains(&it.on_hand)));
        assert!(all[0].on_hand > 100, "the first requests of the guide buy product 1");
    }

    #[test]
    fn a_line_varies_along_every_axis() {
        let all = articles();
        let flasks: Vec<_> = all.iter().filter(|it| it.sku.starts_with("KIT-FLASK")).collect();
        assert_eq!(flasks.len(), 6);
        assert_eq!(flasks[0].name, "Thermos Flask, 500 ml, Cherry");
        assert_eq!(flasks[0].attributes, [("capacity", "500 ml"), ("colour", "Cherry")]);
        assert!(flasks[0].price_cents < flasks[5].price_cents);
    }
}
