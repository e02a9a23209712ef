//! The books of all services, checked against each other.

use std::process::Stdio;
use std::time::Duration;

use crate::tour::proof::{Held, Unmet};
use crate::tour::scene::{Scene, TEA};

/// How long the audit may take.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn tell(scene: &Scene<'_>) -> Held {
    let story = scene.story;
    story.chapter(
        7,
        "The audit",
        "After all of that: has every order its stock, its points, its message and its shipment, \
         once each? One more order, so that there is something to check also when this chapter is \
         told alone; then the audit reads all databases and checks the invariants of the shop.",
    );
    scene.placed("tour-audit", TEA, 1).await?;
    scene.all_shipped().await?;
    let told = scene.told_placed();
    let list = scene.estate.folder().join("orders.txt");
    let failed = |it: std::io::Error| Unmet::new("the audit running", it);
    std::fs::write(&list, told.join("\n")).map_err(failed)?;
    let orders = told.len();
    story.does(format!("tradewind audit --expect orders.txt  (all orders answered 201: {orders})"));
    let mut command = scene.estate.command("audit").map_err(failed)?;
    let run = command.arg("--expect").arg(&list).stdin(Stdio::null()).output();
    let run = tokio::time::timeout(LIMIT, run).await;
    let output = run.map_err(|it| Unmet::new("the audit's end", it))?.map_err(failed)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let saw = format!("{}\n{}\n{}", output.status, printed.trim(), errors.trim());
        return Err(Unmet::new("exit code 0 of the audit", saw));
    }
    let (rows, summary) = printed.trim_end().rsplit_once('\n').unwrap_or_default();
    story.quotes(rows);
    story.sees(summary);
    story.held(
        "Nothing was lost, doubled or left half done, whatever broke on the way: effects are read \
         before their causes, so that the audit is right also while orders run.",
    );
    Ok(())
}
