//! What a newcomer does: start it, log in, look around, get a quote; stop it, start it again.

use std::time::Duration;

use http::StatusCode;
use tradewind_e2e::{Estate, Ports, alive};

/// R0.3: gateway → route → instance from the registry → service → declared client → local copy
/// of the registry → balance → HTTP, on real processes.
#[tokio::test]
async fn a_buyer_logs_in_lists_products_and_gets_a_quote() {
    let estate = Estate::start().await;
    let mut anyone = estate.gateway();

    let products = anyone.get("/inventory/products?size=5").await.unwrap();
    assert_eq!(products.status, StatusCode::OK, "{}", products.text());
    assert_eq!(products.json()["items"].as_array().unwrap().len(), 5);
    assert_eq!(products.json()["total"], 200);

    let mut alice = estate.alice().await;
    let basket = serde_json::json!({"items": [
        {"product_id": 1, "quantity": 2},
        {"product_id": 7, "quantity": 1},
    ]});
    let quote = alice.post("/order/quotes", &basket).await.unwrap();
    assert_eq!(quote.status, StatusCode::OK, "{}", quote.text());
    let quote = quote.json();
    let lines = quote["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 2);
    let mut total = 0;
    for (line, asked) in lines.iter().zip(basket["items"].as_array().unwrap()) {
        let id = asked["product_id"].as_i64().unwrap();
        let product = anyone.get(&format!("/inventory/products/{id}")).await.unwrap().json();
        assert_eq!(line["product_id"], id);
        assert_eq!(line["name"], product["name"]);
        assert_eq!(line["unit_price_cents"], product["price_cents"]);
        let expected =
            product["price_cents"].as_i64().unwrap() * asked["quantity"].as_i64().unwrap();
        assert_eq!(line["line_total_cents"], expected);
        total += expected;
    }
    assert_eq!(quote["total_cents"], total);
}

/// Ctrl-C ends everything in order and in time, leaves no process, and loses nothing.
#[tokio::test]
async fn ctrl_c_leaves_nothing_behind_and_the_same_data_goes_on() {
    let mut estate = Estate::start().await;
    let token = estate.token().await;
    let before = estate.gateway().get("/inventory/products?size=100").await.unwrap().json();
    let children = estate.processes();
    assert_eq!(children.len(), 9, "{children:?}");

    let (code, took) = estate.interrupt().await;
    assert_eq!(code, Some(0), "{}", estate.logs());
    assert!(took < Duration::from_secs(10), "took {took:?}");
    let left: Vec<_> = children.iter().filter(|it| alive(it.pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!estate.data().join("run.json").exists());

    estate.start_again().await;
    let after = estate.gateway().get("/inventory/products?size=100").await.unwrap().json();
    assert_eq!(before, after);
    // The signing key is on disk: who was logged in still is.
    let me = estate.gateway().bearer(&token).get("/order/me").await.unwrap();
    assert_eq!(me.status, StatusCode::OK, "{}", me.text());
}

/// A supervisor that is killed takes everything with it, and the data is as it was.
#[tokio::test]
async fn a_killed_supervisor_leaves_no_process_and_starts_again() {
    let mut estate = Estate::start().await;
    estate.kill().await;
    estate.start_again().await;
    let products = estate.gateway().get("/inventory/products").await.unwrap();
    assert_eq!(products.json()["total"], 200);
}

/// A second `up` says which folder is taken, and by what setting to move it; one on another
/// folder says which port.
#[tokio::test]
async fn a_second_start_says_what_is_taken() {
    let estate = Estate::start().await;
    let run = |data: std::path::PathBuf, ports: Ports| async move {
        let output = tokio::process::Command::new(tradewind_e2e::binary())
            .args(["up", "--set"])
            .arg(format!("registry.bind=127.0.0.1:{}", ports.registry))
            .arg("--data")
            .arg(data)
            .output()
            .await
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = run(estate.data(), estate.ports).await;
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("--data"), "{error}");

    let other = tempfile::tempdir().unwrap();
    let (code, error) = run(other.path().join("data"), estate.ports).await;
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains(&estate.ports.registry.to_string()), "{error}");
    assert!(error.contains("--set registry.bind="), "{error}");
}

/// Every mistake in the configuration is told at once, and nothing starts.
#[tokio::test]
async fn all_mistakes_of_the_configuration_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tradewind.toml");
    std::fs::write(&file, "[registry]\nbnd = \"x\"\n[gateway]\nbind = \"nowhere\"\n").unwrap();
    let output = tokio::process::Command::new(tradewind_e2e::binary())
        .current_dir(folder.path())
        .env("TRADEWIND__ORDER__BIND", "99")
        .arg("up")
        .output()
        .await
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    for part in ["registry.bnd", "registry.bind", "gateway.bind", "TRADEWIND__ORDER__BIND"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert!(!folder.path().join("data").exists());
}
