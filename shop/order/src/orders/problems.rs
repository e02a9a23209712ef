//! What the caller is told when there is no order, or no cancellation.

use tradewind::base::Problem;
use tradewind::service::Failure;
use tradewind::service::answer::chain;
use tradewind::service::axum::http::StatusCode;
use tradewind::sql::{self, TransactionError};
use tradewind::transaction::Tried;

use super::{Failed, OrderId, WorkError};

/// A failed first phase, told to the caller: a refusal of the business is 409 in the words of the
/// service that refused, everything else is 503 and names the service.
pub(super) fn of_tried(what: &str, tried: Tried) -> Problem {
    match tried {
        // With another status the call was wrong, and nothing is said of the order.
        Tried::Refused { problem, .. }
            if problem.status == StatusCode::CONFLICT && !problem.code.starts_with("tcc.") =>
        {
            *problem
        }
        Tried::Refused { service, problem, .. } | Tried::Unavailable { service, problem, .. } => {
            tracing::warn!(service, code = problem.code, detail = problem.detail, "no reservation");
            unavailable(what, &service)
        }
        // Not called for what succeeded.
        Tried::Reserved => Problem::internal(),
    }
}

pub(super) fn unavailable(what: &str, service: &str) -> Problem {
    let detail = format!("{service} did not answer in time; nothing was {what}; try again");
    Problem::unavailable("order.unavailable", detail)
        .field(format!("service:{service}"), "is not available")
        .retry_after(1)
}

pub(super) fn too_late(what: &str) -> Problem {
    let detail = format!("the time for a decision ran out; nothing was {what}; try again");
    Problem::unavailable("order.too-late", detail).retry_after(1)
}

pub(super) fn crowded() -> Failure {
    let detail = "more orders are being placed than can be in their time; nothing was ordered; \
                  try again";
    Problem::unavailable("order.crowded", detail).retry_after(1).into()
}

pub(super) fn unknown_order() -> Failure {
    Problem::new(
        StatusCode::NOT_FOUND,
        "order.unknown",
        "there is no such order of yours; GET /orders lists them",
    )
    .title("Unknown order")
    .into()
}

pub(super) fn unknown_id() -> Failure {
    let detail = "no order is known under this id";
    Problem::new(StatusCode::NOT_FOUND, "order.unknown", detail).title("Unknown order").into()
}

pub(super) fn state(code: &str, detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, code, detail)
}

pub(super) fn shipped(id: OrderId) -> Problem {
    state("order.shipped", format!("order {id} has shipped and cannot be cancelled any more"))
}

pub(super) fn in_flight() -> Failure {
    let detail = "another request with this key is at work; repeat this one to get its answer";
    state("idempotency.in-flight", detail.to_owned()).retry_after(1).into()
}

pub(super) fn mismatch() -> Failure {
    let detail = "this key was used for another request; use a new key for a new intent";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency.mismatch", detail)
        .field("header:idempotency-key", "was used with another content")
        .into()
}

/// A local transaction that did not happen, or of which nothing was told yet.
pub(super) fn database(error: &Failed) -> Failure {
    match error {
        TransactionError::Refused(refused) if !passing(refused) => Failure::internal(error),
        _ => {
            tracing::error!(error = chain(error), "a local transaction failed");
            let detail = "orders cannot be read or written for now; repeat with the same key";
            Problem::unavailable("order.database-unavailable", detail).into()
        }
    }
}

/// Whether a statement failed for what has nothing to do with the order: a full disk, a lock, or a
/// process that stood still in the middle of it.
fn passing(error: &WorkError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(it) = cause {
        if let Some(it) = it.downcast_ref::<sql::Error>() {
            return it.is_transient();
        }
        cause = it.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tradewind::sql::{Database, DatabaseUrl, Options, Transaction};

    use super::*;

    /// A process that was frozen finds its statements out of time when it goes on.
    #[tokio::test]
    async fn a_statement_that_was_stopped_is_no_fault_of_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite(&folder.path().join("it.db"));
        let options = Options { run_time_max: Duration::from_millis(1), ..Options::default() };
        let database = Database::open(&url, options, "it", &[]).unwrap();
        for (sql, status) in [
            (
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                    SELECT COUNT(*) FROM n",
                503,
            ),
            ("SELECT 1 FROM nowhere", 500),
        ] {
            let work = move |tx: &mut Transaction<'_>| {
                Ok::<_, WorkError>(tx.query(sql, &[], |row| row.get::<i64>(0))?)
            };
            let error = database.transaction("it", work).await.unwrap_err();
            assert_eq!(database_status(&error), status, "{error:?}");
        }
    }

    fn database_status(error: &Failed) -> u16 {
        super::database(error).problem().status.as_u16()
    }

    /// What is refused stays refused under its key, so it must be the business that refuses.
    #[test]
    fn only_the_business_refuses_an_order() {
        for (status, code, told) in [
            (409, "inventory.insufficient", (409, "inventory.insufficient")),
            (409, "tcc.expired", (503, "order.unavailable")),
            (401, "edge.unauthorized", (503, "order.unavailable")),
            (404, "edge.not-found", (503, "order.unavailable")),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let problem = Box::new(Problem::new(status, code, "test"));
            let tried = Tried::Refused { branch: 1, service: "inventory".to_owned(), problem };
            let problem = of_tried("ordered", tried);
            assert_eq!((problem.status.as_u16(), &*problem.code), told);
        }
    }
}
