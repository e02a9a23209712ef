//! The verdict: what the buyers were told against what the shop says when everything is settled.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use tradewind_e2e::{Client, Estate};

use crate::ledger::{Cancelling, Ledger, Told};
use crate::machine::shopping::Product;
use crate::reply::short;

/// The products, by id.
///
/// # Errors
/// When the catalogue cannot be read.
pub async fn catalogue(estate: &Estate) -> anyhow::Result<Vec<Product>> {
    let mut products = Vec::new();
    let mut client = estate.gateway();
    for page in 1.. {
        let answer = client.get(&format!("/inventory/products?size=100&page={page}")).await?;
        anyhow::ensure!(answer.status == StatusCode::OK, "no catalogue: {}", short(&answer));
        let page = answer.json()["items"].as_array().cloned().unwrap_or_default();
        if page.is_empty() {
            break;
        }
        let number = |it: &serde_json::Value, name: &str| it[name].as_i64().unwrap_or_default();
        products.extend(
            page.iter().map(|it| Product { id: number(it, "id"), stock: number(it, "available") }),
        );
    }
    products.sort_by_key(|it| it.id);
    anyhow::ensure!(!products.is_empty(), "the catalogue is empty");
    Ok(products)
}

/// Everything that contradicts the ledger.
///
/// # Errors
/// When the shop cannot be asked.
pub async fn of(
    estate: &Estate,
    ledger: &Ledger,
    before: &[Product],
    tokens: &[(String, String)],
) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut shipped = BTreeSet::new();
    for (user, token) in tokens {
        let mut client = estate.gateway().bearer(token);
        shipped.extend(orders(&mut client, ledger, user, &mut found).await?);
        points(&mut client, ledger, user, &shipped, &mut found).await?;
    }
    ids(ledger, &mut found);
    stock(ledger, before, &catalogue(estate).await?, &shipped, &mut found);
    Ok(found)
}

/// One order for each key, one key for each order.
fn ids(ledger: &Ledger, found: &mut Vec<String>) {
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    for (id, entry) in ledger.accepted() {
        if let Some(other) = keys.insert(id, &entry.key) {
            found.push(format!("{id}: one order for two keys: {other} and {}", entry.key));
        }
    }
    for entry in &ledger.entries {
        if let Told::Unknown(last) = &entry.told {
            found.push(format!("{}: never got a definite answer; last: {last}", entry.key));
        }
        if let Cancelling::Unknown(last) = &entry.cancelling {
            let key = &entry.key;
            found
                .push(format!("{key}: its cancellation never got a definite answer; last: {last}"));
        }
    }
}

/// The user's orders are those the buyers were told of, in states that fit; gives those that
/// shipped.
async fn orders(
    client: &mut Client,
    ledger: &Ledger,
    user: &str,
    found: &mut Vec<String>,
) -> anyhow::Result<BTreeSet<String>> {
    let mut states = listed(client).await?;
    let mut shipped = BTreeSet::new();
    for (id, entry) in ledger.accepted().filter(|it| it.1.user == user) {
        let Some(state) = states.remove(id) else {
            found.push(format!("{id} ({}) was accepted and is not there", entry.key));
            continue;
        };
        let read = client.get(&format!("/order/orders/{id}")).await?;
        if read.status != StatusCode::OK || read.json()["state"] != *state {
            found.push(format!("{id} ({}) cannot be read: {}", entry.key, short(&read)));
        }
        let fits = match entry.cancelling {
            Cancelling::Never | Cancelling::TooLate => state == "shipped",
            Cancelling::Cancelled => state == "cancelled",
            Cancelling::Unknown(_) => state == "shipped" || state == "cancelled",
        };
        if !fits {
            let told = &entry.cancelling;
            found.push(format!("{id} ({}) is {state}; its cancellation: {told:?}", entry.key));
        }
        if state == "shipped" {
            shipped.insert(id.to_owned());
        }
    }
    // What is left nobody was told of: it must have failed.
    for (id, state) in states.iter().filter(|it| it.1 != "failed") {
        let order = client.get(&format!("/order/orders/{id}")).await?.json();
        let address = order["address"].as_str().unwrap_or_default();
        let key = address.split(',').next().unwrap_or_default();
        let told = ledger.entries.iter().find(|it| it.key == key).map(|it| &it.told);
        found.push(format!("{id} ({key}) is {state}, and its buyer was told: {told:?}"));
    }
    Ok(shipped)
}

/// All orders of a user, with their states.
async fn listed(client: &mut Client) -> anyhow::Result<BTreeMap<String, String>> {
    let (mut all, mut before) = (BTreeMap::new(), String::new());
    loop {
        let answer = client.get(&format!("/order/orders?size=100{before}")).await?;
        anyhow::ensure!(answer.status == StatusCode::OK, "no list: {}", short(&answer));
        let page = answer.json();
        for it in page["items"].as_array().into_iter().flatten() {
            let text = |name: &str| it[name].as_str().unwrap_or_default().to_owned();
            all.insert(text("id"), text("state"));
        }
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => return Ok(all),
        }
    }
}

/// The balance is the sum of what the shipped orders earn.
async fn points(
    client: &mut Client,
    ledger: &Ledger,
    user: &str,
    shipped: &BTreeSet<String>,
    found: &mut Vec<String>,
) -> anyhow::Result<()> {
    let mine = ledger.accepted().filter(|it| it.1.user == user && shipped.contains(it.0));
    let earned: i64 = mine.map(|it| it.1.points).sum();
    let account = client.get("/points/accounts/me").await?.json();
    if account["balance"] != earned || account["pending"] != 0 {
        found.push(format!("{user} earned {earned} points and has {account}"));
    }
    Ok(())
}

/// What is gone from the shelves is what shipped.
fn stock(
    ledger: &Ledger,
    before: &[Product],
    after: &[Product],
    shipped: &BTreeSet<String>,
    found: &mut Vec<String>,
) {
    let mut sold: BTreeMap<i64, i64> = BTreeMap::new();
    for (_, entry) in ledger.accepted().filter(|it| shipped.contains(it.0)) {
        for line in &entry.lines {
            *sold.entry(line.product).or_default() += line.quantity;
        }
    }
    let left: BTreeMap<_, _> = after.iter().map(|it| (it.id, it.stock)).collect();
    for Product { id, stock } in before {
        let expected = stock - sold.get(id).copied().unwrap_or(0);
        if left.get(id) != Some(&expected) {
            let now = left.get(id);
            found.push(format!("product {id}: {expected} should be left, there are {now:?}"));
        }
    }
}
