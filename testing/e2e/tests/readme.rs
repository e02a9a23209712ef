//! The README's own lines, as a newcomer pastes them.

use std::process::Stdio;

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
    let output = tokio::process::Command::new("sh")
        .arg("-c")
        .arg(&script)
        .current_dir(estate.data().parent().unwrap())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
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
    let goods = answers.iter().find(|it| it["sku"].is_string()).unwrap();
    assert_eq!(goods["id"], 1, "the new route answers: {goods}");
    let counted = answers.iter().find(|it| it["interfaces"].is_array()).unwrap();
    let quotes = counted["interfaces"].as_array().unwrap().iter();
    let quotes = quotes.clone().find(|it| it["interface"] == "POST /quotes").unwrap();
    assert_eq!(quotes["success"], 1, "{quotes}");
}
