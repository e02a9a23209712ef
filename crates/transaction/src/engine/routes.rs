//! What an initiating service answers about its transactions.

use tradewind_base::id::Xid;
use tradewind_service::axum::extract::State;
use tradewind_service::axum::{Router, routing::get};
use tradewind_service::{Answer, Caller, Failure, Json, Path};

use super::Engine;
use crate::wire::{Outcome, Stuck};

pub(super) fn mount(engine: Engine) -> Router {
    Router::new()
        .route("/tcc/outcome/{xid}", get(outcome))
        .route("/tcc/stuck", get(stuck))
        .with_state(engine)
}

async fn outcome(
    State(engine): State<Engine>,
    _caller: Caller,
    Path(xid): Path<Xid>,
) -> Answer<Outcome> {
    let outcome = engine.outcome(xid).await.map_err(|error| Failure::internal(&error))?;
    Ok(Json(outcome))
}

async fn stuck(State(engine): State<Engine>, _caller: Caller) -> Answer<Stuck> {
    let stuck = engine.stuck().await.map_err(|error| Failure::internal(&error))?;
    Ok(Json(stuck))
}
