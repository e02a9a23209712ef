//! Two inventory processes that take locks on the products they reserve.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;

use super::{LIMIT, available};
use crate::{Client, Estate, POLL, Settings, Storage, eventually, insist_on_placing, wanted};

/// Buyers at the same time.
const BUYERS: usize = 8;
/// Orders beyond what there is.
const TOO_MANY: i64 = 6;
/// Where a Try has its locks, and has not begun its local transaction.
const ENTERED: &str = "tcc.inventory.reserve.try.entered";
/// What a process that runs needs for a local transaction, with much to spare.
const LOCAL_LIMIT: Duration = Duration::from_millis(500);

/// Under locks, concurrent orders for the same two products sell exactly what there is, through
/// both processes; each grant of a lock has a higher fencing token, and no row takes a lower one.
///
/// # Panics
/// When it is not so.
pub async fn locked_products_are_sold_once_by_two_processes(storage: Storage) {
    let estate = Estate::start_on(storage, locks()).await;
    let sale = Sale::open(&estate, 8..=60).await;
    sale.close(&estate).await;
}

/// The same while a process stands still with the lock in its hand until the lease has run out and
/// the other one has the lock too: two owners, and the stock is right.
///
/// # Panics
/// When it is not so.
pub async fn a_process_that_stands_still_with_the_lock_sells_nothing_twice(storage: Storage) {
    let estate = Estate::start_faulty_on(storage, locks()).await;
    // More than is sold before the process stands still.
    let sale = Sale::open(&estate, 80..=200).await;
    let owner = eventually("a process stands still with the lock", LIMIT, async || {
        let process = estate.stops(ENTERED).await;
        // It may be in the middle of a local transaction as well, for somebody else: the rows that
        // holds nobody gets, the rows of the lock among them.
        if ends(&estate, LOCAL_LIMIT).await {
            return Ok(process);
        }
        estate.go_on(ENTERED, &process);
        Err("it holds rows as well".to_owned())
    })
    .await;
    let (token, _) = highest(&estate, sale.scarce);
    // Not over HTTP: the gateway may ask the one that stands still.
    let left = format!("SELECT on_hand - frozen FROM stock WHERE product_id = {}", sale.scarce);
    assert!(0 < estate.number("inventory", &left).unwrap(), "there is something left to sell");
    // Granted again: the lease of the one that stands still is over.
    let taken = eventually("the other process has the lock", LIMIT, async || {
        wanted(highest(&estate, sale.scarce).0, |it| token < *it)
    });
    taken.await;
    estate.go_on(ENTERED, &owner);
    sale.close(&estate).await;
}

fn locks() -> Settings {
    vec![("inventory.lock", "sql".to_owned())]
}

/// Whether every transaction that holds rows at the server now has ended within `limit`.
async fn ends(estate: &Estate, limit: Duration) -> bool {
    let newest = "SELECT COALESCE(MAX(trx_id), 0) FROM information_schema.innodb_trx \
         WHERE 0 < trx_rows_locked";
    let newest = estate.number("inventory", newest).expect("a transaction");
    let left = format!(
        "SELECT COUNT(*) FROM information_schema.innodb_trx \
         WHERE 0 < trx_rows_locked AND trx_id <= {newest}"
    );
    let all_end = async {
        while 0 < estate.number("inventory", &left).expect("a number of transactions") {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(limit, all_end).await.is_ok()
}

/// Buyers who want more of a product than there is.
struct Sale {
    scarce: i64,
    plenty: i64,
    stock: i64,
    of_plenty: i64,
    token: String,
    buyers: JoinSet<i64>,
}

impl Sale {
    /// Lets them begin, with a product of which there are so many.
    async fn open(estate: &Estate, few: RangeInclusive<i64>) -> Self {
        let (scarce, plenty) = products(estate, few).await;
        let stock = available(estate, scarce).await;
        let of_plenty = available(estate, plenty).await;
        assert_eq!(highest(estate, scarce), (0, 0), "nobody held the lock before");
        let token = estate.token().await;
        let mut buyers = JoinSet::new();
        let orders: Vec<i64> = (0..stock + TOO_MANY).collect();
        for part in orders.chunks(orders.len().div_ceil(BUYERS)).map(<[i64]>::to_vec) {
            let mut buyer = estate.gateway().bearer(&token);
            buyers.spawn(async move { buy(&mut buyer, &part, (scarce, plenty)).await });
        }
        Self { scarce, plenty, stock, of_plenty, token, buyers }
    }

    /// Waits until all have their answers, and compares them with the stock.
    async fn close(mut self, estate: &Estate) {
        let (mut seen, mut won) = ((0, 0), 0);
        while !self.buyers.is_empty() {
            // What is accepted never goes back.
            let now = highest(estate, self.scarce);
            assert!(seen.0 <= now.0 && seen.1 <= now.1, "{seen:?} was followed by {now:?}");
            seen = now;
            let next = tokio::time::timeout(Duration::from_millis(50), self.buyers.join_next());
            if let Ok(Some(done)) = next.await {
                won += done.expect("a buyer does not panic");
            }
        }
        // An order that could not be decided in time has given back what others were refused for.
        let mut last = estate.gateway().bearer(&self.token);
        while 0 < available(estate, self.scarce).await {
            won += buy(&mut last, &[1000 + won], (self.scarce, self.plenty)).await;
        }
        eventually("all is confirmed or given back", LIMIT, async || {
            let frozen = "SELECT COUNT(*) FROM stock WHERE 0 < frozen";
            wanted(estate.number("inventory", frozen).map_err(|it| it.to_string())?, |it| *it == 0)
        })
        .await;
        assert_eq!(available(estate, self.scarce).await, 0);
        assert_eq!(won, self.stock, "as many were sold as there were");
        assert_eq!(available(estate, self.plenty).await, self.of_plenty - won);
        for port in estate.ports.inventory {
            let by_this = reserved_by(port).await;
            assert!(0 < by_this, "the process on {port} took no part");
        }
        let (granted, fence) = highest(estate, self.scarce);
        assert!(won <= fence && fence <= granted, "each sale has a token: {fence} of {granted}");
    }
}

/// A product of which there are few, and one of which there are many.
async fn products(estate: &Estate, few: RangeInclusive<i64>) -> (i64, i64) {
    let page = estate.gateway().get("/inventory/products?size=100").await.unwrap().json();
    let all: Vec<(i64, i64)> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["available"].as_i64().unwrap(), it["id"].as_i64().unwrap()))
        .collect();
    let scarce = all.iter().filter(|it| few.contains(&it.0)).min().expect("a scarce product");
    let plenty = all.iter().max().expect("a product");
    assert!(scarce.0 + TOO_MANY < plenty.0, "{scarce:?} {plenty:?}");
    (scarce.1, plenty.1)
}

/// Orders one of each product under each of these keys; says how many orders were placed. The
/// lines come in either order: the locks are taken in one.
async fn buy(buyer: &mut Client, keys: &[i64], (one, two): (i64, i64)) -> i64 {
    let mut won = 0;
    for key in keys {
        let (first, second) = if key % 2 == 0 { (one, two) } else { (two, one) };
        let basket = serde_json::json!({
            "items": [
                {"product_id": first, "quantity": 1},
                {"product_id": second, "quantity": 1},
            ],
            "address": "1 Harbour Road",
        });
        let answer = insist_on_placing(buyer, &format!("locked-{key}"), &basket).await;
        match answer.status {
            StatusCode::CREATED => won += 1,
            StatusCode::CONFLICT => {
                assert_eq!(answer.json()["code"], "inventory.insufficient", "{}", answer.text());
            }
            other => panic!("{other} {}", answer.text()),
        }
    }
    won
}

/// The token of the last grant of a product's lock, and the highest that wrote its stock.
fn highest(estate: &Estate, product: i64) -> (i64, i64) {
    let granted = format!(
        "SELECT COALESCE(MAX(token), 0) FROM tradewind_lock WHERE name = 'stock:{product}'"
    );
    let fence = format!("SELECT fence FROM stock WHERE product_id = {product}");
    // The fence first: a token is granted before it is written.
    let fence = estate.number("inventory", &fence).expect("a fence");
    (estate.number("inventory", &granted).expect("a token"), fence)
}

/// How many requests with Trys of reservations, alone or together, one process answered.
async fn reserved_by(port: u16) -> i64 {
    let metrics = Client::new(format!("127.0.0.1:{port}")).get("/metrics").await.unwrap().text();
    let of_try = |it: &&str| {
        it.starts_with("tradewind_http_requests_total")
            && it.contains("/tcc/")
            && (it.contains("/try\"") || it.contains("/trys\""))
            && it.contains("code=\"200\"")
    };
    let counts =
        metrics.lines().filter(of_try).filter_map(|it| it.rsplit(' ').next()?.parse::<i64>().ok());
    counts.sum()
}
