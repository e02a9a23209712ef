//! Runs against a real server on a real socket.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "../examples/limited/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tradewind_base::Tasks;
use tradewind_load::http::{Request, Target};
use tradewind_load::{Arrivals, Plan, Report, Stage, run, run_until};

use server::{Capacity, serve};

const SECOND: Duration = Duration::from_secs(1);

/// The limited service on a port of its own.
async fn limited(capacity: Capacity, tasks: &Tasks) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn("limited", move |cancel| async move {
        serve(listener, capacity, cancel.cancelled_owned()).await.unwrap();
    });
    address
}

fn target(request: &Request, plan: &Plan, tasks: &Tasks) -> Arc<Target> {
    Arc::new(Target::new(request, plan.in_flight_max, "t", tasks).unwrap())
}

async fn offered(rate: f64, capacity: Capacity) -> Report {
    let tasks = Tasks::new();
    let address = limited(capacity, &tasks).await;
    let plan = Plan { in_flight_max: 64, ..Plan::flat(rate, 2 * SECOND) };
    let request = Request::get(format!("http://{address}/"));
    let report = run(&plan, target(&request, &plan, &tasks), |_| {}).await;
    tasks.shutdown(5 * SECOND).await.unwrap();
    report
}

/// R8.2: offered a quarter more than the ceiling, it serves the ceiling, the rest waits, and the
/// client's time grows while the server's stays. Rates are small so that a busy machine can hold
/// them; bounds are loose for the same reason.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_ceiling_waits_and_is_charged_from_when_it_was_due() {
    let report = offered(250.0, Capacity { rate: 200.0, queue: usize::MAX }).await;
    assert_eq!((report.offered, report.served), (500, 500), "{report:?}");
    assert!((185.0..=201.0).contains(&report.rate_served), "{}", report.rate_served);
    assert!((85..=130).contains(&report.backlog_max), "{}", report.backlog_max);
    let longest = report.response.max().unwrap();
    assert!(Duration::from_millis(450) < longest, "{longest:?}");
    // 64 are in flight: the server has none for longer than 64 / 200 s, wherever it waits before.
    let served = report.service.quantile(0.5).unwrap();
    assert!(served < Duration::from_millis(345), "{served:?}");
}

/// R8.2: a bound turns the growth into refusals; what is served is served in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_queue_refuses_the_surplus_and_keeps_the_time_steady() {
    let report = offered(250.0, Capacity { rate: 200.0, queue: 10 }).await;
    assert_eq!(report.served + report.failed["503"], 500, "{report:?}");
    assert!((60..=140).contains(&report.failed["503"]), "{report:?}");
    let usual = report.response.quantile(0.9).unwrap();
    assert!(usual < Duration::from_millis(150), "{usual:?}");
}

/// What came, as the server saw it.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<(Method, Uri, HeaderMap, Bytes)>>);

/// A server that notes everything and answers what the path says.
async fn noting(tasks: &Tasks) -> (SocketAddr, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let note = |State(seen): State<Arc<Seen>>,
                method: Method,
                uri: Uri,
                headers: HeaderMap,
                body: Bytes| async move {
        let status = uri.path().trim_start_matches('/').split('/').next().unwrap().parse();
        seen.0.lock().unwrap().push((method, uri, headers, body));
        match status {
            Ok(0) => std::future::pending().await,
            Ok(it) => StatusCode::from_u16(it).unwrap(),
            Err(_) => StatusCode::OK,
        }
    };
    let app = Router::new().fallback(note).with_state(Arc::clone(&seen));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn("noting", move |cancel| async move {
        let cancel = cancel.cancelled_owned();
        axum::serve(listener, app).with_graceful_shutdown(cancel).await.unwrap();
    });
    (address, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_made_from_the_template() {
    let tasks = Tasks::new();
    let (address, seen) = noting(&tasks).await;
    let request = Request {
        method: Method::POST,
        headers: vec![
            ("x-number".into(), "{number:1..3}".into()),
            ("authorization".into(), "Bearer x".into()),
        ],
        body: br#"{"items":[{"product_id":{number:1..200},"quantity":1}],"note":"{sequence}"}"#
            .to_vec(),
        idempotency_key: true,
        ..Request::get(format!("http://{address}/200/{{sequence}}?q={{id}}"))
    };
    let plan = Plan {
        stages: vec![Stage::ramp(0.0, 200.0, SECOND)],
        arrivals: Arrivals::Poisson { seed: 7 },
        ..Plan::flat(1.0, SECOND)
    };
    let report = run(&plan, target(&request, &plan, &tasks), |_| {}).await;
    assert_eq!(report.served, report.offered, "{report:?}");
    let seen = std::mem::take(&mut *seen.0.lock().unwrap());
    assert_eq!(seen.len() as u64, report.offered);
    let mut keys = BTreeSet::new();
    for (method, uri, headers, body) in &seen {
        assert_eq!(method, Method::POST);
        let sequence = uri.path().strip_prefix("/200/").unwrap();
        assert_eq!(uri.query().unwrap().len(), 2 + 32);
        assert_eq!(headers["authorization"], "Bearer x");
        assert!(["1", "2", "3"].contains(&headers["x-number"].to_str().unwrap()));
        assert_eq!(headers["idempotency-key"].to_str().unwrap(), format!("t-{sequence}"));
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body["note"], sequence);
        assert!((1..=200).contains(&body["items"][0]["product_id"].as_u64().unwrap()));
        keys.insert(headers["idempotency-key"].clone().to_str().unwrap().to_owned());
    }
    assert_eq!(keys.len(), seen.len(), "every request has a key of its own");
    tasks.shutdown(5 * SECOND).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_apart() {
    let tasks = Tasks::new();
    let (address, _) = noting(&tasks).await;
    let plan = Plan::flat(50.0, SECOND / 10);
    let short = Request { timeout: SECOND / 5, ..Request::get("") };
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (url, class) in [
        (format!("http://{address}/409"), "409"),
        (format!("http://{address}/500"), "500"),
        (format!("http://{address}/0"), "timeout"),
        (format!("http://{closed}/"), "refused"),
    ] {
        let request = Request { url, ..short.clone() };
        let report = run(&plan, target(&request, &plan, &tasks), |_| {}).await;
        assert_eq!((report.served, report.failed_total()), (0, 5), "{class}: {report:?}");
        assert_eq!(report.failed[class], 5, "{report:?}");
    }
    let nobody = Request { url: format!("http://{closed}/"), ..short.clone() };
    assert!(target(&nobody, &plan, &tasks).probe().await.unwrap_err().refused());
    tasks.shutdown(5 * SECOND).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_run_with_what_was_measured_until_then() {
    let tasks = Tasks::new();
    let (address, _) = noting(&tasks).await;
    let plan = Plan::flat(100.0, 3600 * SECOND);
    let stop = CancellationToken::new();
    let mut ticks = 0;
    let watch = |_: &_| {
        ticks += 1;
        stop.cancel();
    };
    let request = Request::get(format!("http://{address}/"));
    let run = run_until(&plan, target(&request, &plan, &tasks), watch, stop.clone());
    let report = tokio::time::timeout(30 * SECOND, run).await.unwrap();
    assert!(report.stopped);
    assert!(100 <= report.served, "{report:?}");
    assert!(1 <= ticks);
    assert_eq!(report.offered, report.served + report.unfinished);
    tasks.shutdown(5 * SECOND).await.unwrap();
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_is() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let tasks = Tasks::new();
    let said = |request: Request| {
        let error = Target::new(&request, 1, "t", &tasks).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    };
    let get = |url: &str| Request::get(url);
    assert!(said(get("https://example.org/")).contains("https is not supported"));
    assert!(said(get("127.0.0.1:80")).contains("no address such as"));
    assert!(said(get("http://user:secret@a/")).contains("no address such as"));
    assert!(said(get("http://a:99999/")).contains("port"));
    assert!(said(get("http://a/b c")).contains("no path"));
    assert!(said(get("http://a/{sequense}")).contains("no placeholder"));
    let header = |name: &str, value: &str| Request {
        headers: vec![(name.into(), value.into())],
        ..get("http://a/")
    };
    assert!(said(header("a b", "c")).contains("no header"));
    assert!(said(header("a", "b\r\nc: d")).contains("no header"));
    assert!(said(Request { method: Method::CONNECT, ..get("http://a/") }).contains("CONNECT"));
}
