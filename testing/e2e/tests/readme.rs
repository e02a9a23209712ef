//! The README's own lines, as a newcomer pastes them.

use std::process::Stdio;
use std::time::Duration;

use tradewind_e2e::Estate;

/// The shell lines under the heading "First requests".
fn first_requests() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let section = readme.split("## First requests").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|it| it.split("```").next().unwrap());
    blocks.collect()
}

#[tokio::test]
async fn the_lines_of_the_readme_do_what_it_says() {
    let estate = Estate::start().await;
    let ports = estate.ports;
    let mut lines = first_requests();
    assert!(5 < lines.lines().count(), "{lines}");
    for (default, own) in
        [(9000, ports.gateway), (9010, ports.admin), (8761, ports.registry), (9001, ports.order)]
    {
        lines = lines.replace(&format!("127.0.0.1:{default}"), &format!("127.0.0.1:{own}"));
    }
    // Every request must succeed; what each prints ends with a mark.
    let prologue = "set -eu\ncurl() { command curl --fail-with-body --show-error --max-time 10 \"$@\" && echo; }\n";
    let script = format!("{prologue}{lines}");
    let run = tokio::process::Command::new("sh")
        .arg("-c")
        .arg(&script)
        .current_dir(estate.data().parent().unwrap())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output =
        tokio::time::timeout(Duration::from_secs(120), run).await.expect("an end").unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}\n{printed}\n{errors}");
    let answers: Vec<serde_json::Value> = printed
        .lines()
        .filter(|it| it.starts_with(['{', '[']))
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    let products = &answers[0];
    assert_eq!(products["items"].as_array().unwrap().len(), 3, "{printed}");
    let quote = answers.iter().find(|it| it["total_cents"].is_i64()).unwrap();
    assert_eq!(quote["lines"].as_array().unwrap().len(), 2, "{quote}");
    let shipped = answers.iter().find(|it| it["state"] == "shipped").unwrap();
    let account = answers.iter().find(|it| it["balance"].is_i64()).unwrap();
    assert_eq!(account["balance"], shipped["points"], "{account}");
    let trail = answers.iter().find(|it| it["events"].is_array()).unwrap();
    assert_eq!(trail["xid"], shipped["xid"], "{trail}");
    let stock = |id| {
        let product = answers.iter().rev().find(|it| it["sku"].is_string() && it["id"] == id);
        product.unwrap()["available"].as_i64().unwrap()
    };
    assert_eq!(stock(1), products["items"][0]["available"].as_i64().unwrap() - 2);
    let goods = answers.iter().find(|it| it["sku"].is_string()).unwrap();
    assert_eq!(goods["id"], 1, "the new route answers: {goods}");
    let counted = answers.iter().find(|it| it["interfaces"].is_array()).unwrap();
    let quotes = counted["interfaces"].as_array().unwrap().iter();
    let quotes = quotes.clone().find(|it| it["interface"] == "POST /quotes").unwrap();
    assert_eq!(quotes["success"], 1, "{quotes}");
}
