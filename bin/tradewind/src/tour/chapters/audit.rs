//! The books of all services, checked against each other.

use std::process::Stdio;
use std::time::Duration;

use crate::tour::proof::{Held, Unmet, hold};
use crate::tour::scene::Scene;

/// How long the audit may take.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn tell(scene: &Scene<'_>) -> Held {
    let story = scene.story;
    story.chapter(
        7,
        "The audit",
        "After all of that: does every order have its stock, its points, its message and its \
         shipment, once each? The audit reads all databases and checks the shop's invariants.",
    );
    story.does("tradewind audit");
    let failed = |it: std::io::Error| Unmet::new("the audit running", it);
    let mut command = scene.estate.command("audit").map_err(failed)?;
    let run = command.stdin(Stdio::null()).output();
    let run = tokio::time::timeout(LIMIT, run).await;
    let output = run.map_err(|it| Unmet::new("the audit's end", it))?.map_err(failed)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let told = printed.trim_end();
    if !told.is_empty() {
        story.sees(told);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    hold(
        output.status.success(),
        "exit code 0 of the audit",
        format!("{}: {errors}", output.status),
    )?;
    story.held("Nothing was lost, doubled or left half done, whatever broke on the way.");
    Ok(())
}
