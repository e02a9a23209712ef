//! What is retried and what is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use tradewind_base::Problem;
use tradewind_call::{CallError, Outcome, Policy};

use crate::support::{Inventory, Server, answer, eventually, json, lamp, setup};

/// A server without room, that asks to come again.
async fn full() -> Server {
    Server::start(|_| async {
        let problem = Problem::unavailable("edge.busy", "no room");
        let mut answer = answer(503, "application/problem+json", &problem.to_json());
        answer.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
        answer
    })
    .await
}

/// R2.4
#[tokio::test]
async fn an_idempotent_call_goes_on_to_the_instance_that_has_room() {
    let (full, free) = (full().await, Server::lamps().await);
    let setup = setup(vec![full.instance(), free.instance()], Policy::default());
    for _ in 0..10 {
        setup.client.product("1").await.unwrap();
        // A POST that was declared idempotent.
        setup.client.search(&lamp()).await.unwrap();
        setup.client.remove(1).await.unwrap();
        setup.client.stock(1, 'a', 3).await.unwrap();
    }
    assert_eq!(free.seen().len(), 40);
    assert!(!full.seen().is_empty());
}

/// R2.4
#[tokio::test]
async fn another_call_takes_503_for_an_answer() {
    let full = full().await;
    let setup = setup(vec![full.instance(), full.instance()], Policy::default());
    let error = setup.client.add(&lamp()).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, "edge.busy");
    assert_eq!(error.problem().unwrap().retry_after_seconds, Some(1));
    assert!(!error.outcome_unknown());
    assert_eq!(full.seen().len(), 1);
}

/// R2.4
#[tokio::test]
async fn the_budget_stops_a_storm() {
    let servers = [full().await, full().await];
    let mut policy = Policy::default();
    policy.budget.min_per_second = 1;
    policy.budget.percent = 10;
    let setup = setup(servers.iter().map(Server::instance).collect(), policy);
    let calls = 300;
    for _ in 0..calls {
        setup.client.product("1").await.unwrap_err();
    }
    let attempts: usize = servers.iter().map(|it| it.seen().len()).sum();
    let stats = setup.client.channel().stats();
    // A reserve of 10 and a tenth of the calls; twice that if a window ends meanwhile.
    assert!((calls + 10..=calls + 80).contains(&attempts), "{attempts}");
    assert_eq!(stats.attempts, attempts as u64);
    assert_eq!(stats.retries + stats.retries_denied, calls as u64);
    assert_eq!(stats.of(Outcome::ServerError), calls as u64);
}

/// R2.4
#[tokio::test]
async fn an_answer_ends_the_call_whatever_it_is() {
    for status in [302, 400, 404, 409, 429, 500, 502, 504] {
        let server =
            Server::start(move |_| async move { answer(status, "text/plain", "no") }).await;
        let setup = setup(vec![server.instance()], Policy::default());
        let error = setup.client.product("1").await.unwrap_err();
        assert_eq!(error.status().unwrap().as_u16(), status);
        assert_eq!(server.seen().len(), 1, "{status}");
    }
}

/// R2.4
#[tokio::test]
async fn the_same_instance_is_tried_again_where_the_policy_says_so() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let server = Server::start(move |_| {
        let first = counted.fetch_add(1, Ordering::SeqCst) < 2;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            json(&lamp())
        }
    })
    .await;
    let policy = Policy {
        read: Duration::from_millis(100),
        retries_same: 2,
        retries_next: 0,
        ..Policy::default()
    };
    let setup = setup(vec![server.instance()], policy);
    setup.client.product("1").await.unwrap();
    assert_eq!(server.seen().len(), 3);

    count.store(0, Ordering::SeqCst);
    let error = setup.client.add(&lamp()).await.unwrap_err();
    assert!(matches!(&error, CallError::Timeout { sent: true, attempts: 1, .. }), "{error:?}");
    assert_eq!(server.seen().len(), 4, "a POST that was sent is not repeated");
}

/// R2.4
#[tokio::test]
async fn a_refused_repeat_does_not_hide_that_the_first_attempt_may_have_been_carried_out() {
    let deaf = Server::start(|_| std::future::pending()).await;
    let busy = Server::start(|_| async { answer(409, "text/plain", "already there") }).await;
    let policy = Policy { read: Duration::from_millis(60), ..Policy::default() };
    let setup = setup(vec![deaf.instance(), busy.instance()], policy);
    let (mut settled, mut unsettled) = (0, 0);
    for _ in 0..4 {
        let error = setup.client.stock(1, 'a', 1).await.unwrap_err();
        assert_eq!(error.status().unwrap().as_u16(), 409);
        match &error {
            CallError::Unsettled { .. } => unsettled += usize::from(error.outcome_unknown()),
            CallError::Status { .. } => settled += usize::from(!error.outcome_unknown()),
            other => panic!("{other:?}"),
        }
        // What changes nothing has no outcome to be unsure of.
        let error = setup.client.product("1").await.unwrap_err();
        assert!(matches!(&error, CallError::Status { .. }), "{error:?}");
    }
    let puts =
        |server: &Server| server.seen().iter().filter(|it| it.method == http::Method::PUT).count();
    assert_eq!((unsettled, settled), (puts(&deaf), puts(&busy) - puts(&deaf)));
    assert!(0 < puts(&deaf), "the turns bring the deaf one up for a PUT");
}

/// Nobody is left to repeat it on; that does not make the first attempt one that never was.
#[tokio::test]
async fn an_attempt_that_may_have_been_carried_out_is_not_forgotten_when_all_leave() {
    let server = Server::start(|_| std::future::pending()).await;
    let setup = setup(vec![server.instance()], Policy::default());
    let (result, ()) = tokio::join!(setup.client.stock(1, 'a', 3), async {
        eventually("the request has arrived", || server.seen().len() == 1).await;
        setup.discovery.replace(Vec::new());
        server.kill().await;
    });
    let error = result.unwrap_err();
    assert!(matches!(error, CallError::Transport { sent: true, .. }), "{error:?}");
    assert!(error.outcome_unknown());
}
