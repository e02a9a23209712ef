//! The full exchange with a server of the same kind.

use tradewind_service::Json;
use tradewind_service::axum::extract::State;

use crate::peers::wire::{SyncAnswer, SyncPage};
use crate::rest::App;

/// The most copies in one answer: with metadata at its limit still some megabytes.
const COPIES_MAX: usize = 200;

pub(super) async fn sync(State(app): State<App>, Json(page): Json<SyncPage>) -> Json<SyncAnswer> {
    let registry = &app.registry;
    let digest = page.into_digest();
    let reply = registry.change(|table, now| table.answer(&digest, COPIES_MAX, now));
    Json(SyncAnswer::new(&registry.node, &registry.epoch, &reply))
}
