//! Instances come, go and die.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::backend::Backend;
use super::rig::{Raw, Rig, instance, until};

#[tokio::test]
async fn instances_take_turns() {
    let rig = Rig::with(2, |_| ()).await;
    let mut counts = [0, 0];
    for _ in 0..20 {
        match &*rig.get("/order/x").await.text() {
            "a" => counts[0] += 1,
            "b" => counts[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(counts, [10, 10]);
    rig.stop().await;
}

#[tokio::test]
async fn no_instance_is_a_503_that_says_when_to_come_back() {
    let rig = Rig::with(0, |_| ()).await;
    let answer = rig.get("/order/x").await;
    assert_eq!((answer.status, &*answer.problem()), (503, "gateway.no-instance"));
    assert_eq!(answer.one("retry-after"), Some("1"));
    let backend = Backend::start(&rig.tasks, "new").await;
    rig.discovery.replace(vec![instance("order", backend.address)]);
    assert_eq!(rig.get("/order/x").await.text(), "new", "it is noticed by itself");
    rig.stop().await;
}

#[tokio::test]
async fn when_all_refuse_nothing_was_sent_and_the_answer_says_so() {
    let rig = Rig::with(2, |_| ()).await;
    for backend in &rig.backends {
        backend.kill();
    }
    for text in [
        "GET /order/x HTTP/1.1\r\nHost: shop\r\n\r\n",
        "POST /order/x HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        until("the listeners to be gone", || {
            rig.backends.iter().all(|it| std::net::TcpStream::connect(it.address).is_err())
        })
        .await;
        let answer = rig.ask(text).await;
        assert_eq!((answer.status, &*answer.problem()), (503, "gateway.unreachable"));
    }
    let log = rig.log(2).await;
    assert_eq!((&log[0]["error_phase"], &log[0]["retries"]), (&"connect".into(), &1.into()));
    rig.stop().await;
}

/// Keeps asking on connections of its own until told to stop. Counts answers that are not 200.
async fn load(rig: &Rig, text: &'static str, stop: &AtomicBool, bad: &AtomicUsize) -> usize {
    let mut asked = 0;
    let mut client = rig.client().await;
    while !stop.load(Ordering::SeqCst) {
        client.send(text.as_bytes()).await;
        match client.answer().await {
            Some(answer) if answer.status == 200 => asked += 1,
            Some(answer) => {
                bad.fetch_add(1, Ordering::SeqCst);
                eprintln!("{answer:?}");
            }
            None => {
                bad.fetch_add(1, Ordering::SeqCst);
                client = Raw::connect(rig.gateway.local_addr()).await;
            }
        }
    }
    asked
}

/// One of two instances dies at once, under load: no GET fails, whether it had reached it or not.
#[tokio::test]
async fn a_killed_instance_does_not_show() {
    let rig = Rig::with(2, |_| ()).await;
    let (stop, bad) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let text = "GET /order/late?ms=3 HTTP/1.1\r\nHost: shop\r\n\r\n";
    let loads = futures_util::future::join_all((0..16).map(|_| load(&rig, text, &stop, &bad)));
    let kill = async {
        let count = |at: usize| rig.backends[at].recorded.requests.lock().unwrap().len();
        until("load on both", || 50 < count(0) && 50 < count(1)).await;
        rig.backends[0].kill();
        let before = count(1);
        until("load on the other alone", || before + 300 < count(1)).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (asked, ()) = tokio::join!(loads, kill);
    assert_eq!(bad.load(Ordering::SeqCst), 0);
    assert!(300 < asked.iter().sum::<usize>());
    rig.stop().await;
}

/// A POST that had not reached the dead instance does not fail either.
#[tokio::test]
async fn a_post_goes_to_the_next_instance_when_nothing_was_sent() {
    let rig = Rig::with(2, |_| ()).await;
    rig.backends[0].kill();
    until("the listener to be gone", || {
        std::net::TcpStream::connect(rig.backends[0].address).is_err()
    })
    .await;
    for _ in 0..10 {
        let text = "POST /order/echo HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello";
        let answer = rig.ask(text).await;
        assert_eq!((answer.status, &*answer.text()), (200, "hello"));
    }
    assert_eq!(rig.backends[1].recorded.requests.lock().unwrap().len(), 10);
    rig.stop().await;
}

/// What an instance may have seen is repeated only if that is harmless (GATE-5).
#[tokio::test]
async fn a_request_that_was_lost_is_repeated_only_if_safe() {
    let rig = Rig::with(2, |_| ()).await;
    let drops = || -> usize {
        let count = |it: &Backend| it.recorded.targets().iter().filter(|it| *it == "/drop").count();
        rig.backends.iter().map(count).sum()
    };
    let answer = rig.get("/order/drop").await;
    assert_eq!((answer.status, drops()), (502, 2), "a GET is tried on the other, too");
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let before = drops();
        let text =
            format!("{method} /order/drop HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(rig.ask(&text).await.status, 502);
        assert_eq!(drops(), before + 1, "{method} on a route that is not retryable");
    }
    rig.stop().await;
}

/// R3.8
#[tokio::test]
async fn a_retryable_route_repeats_idempotent_requests() {
    let rig = Rig::with(2, |it| {
        it.seed_routes[0].retryable = Some(true);
        it.upstream.head_timeout = std::time::Duration::from_millis(200);
    })
    .await;
    let count = |path: &str| -> usize {
        rig.backends
            .iter()
            .map(|it| it.recorded.targets().iter().filter(|it| *it == path).count())
            .sum()
    };
    let put = "PUT /order/drop HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n";
    assert_eq!((rig.ask(put).await.status, count("/drop")), (502, 2));
    let post = put.replace("PUT", "POST");
    assert_eq!((rig.ask(&post).await.status, count("/drop")), (502, 3));
    assert_eq!((rig.get("/order/hang").await.status, count("/hang")), (504, 2));
    let left = |it: &super::backend::Backend| -> Vec<u64> {
        let requests = it.recorded.requests.lock().unwrap();
        let hung = requests.iter().filter(|it| it.target == "/hang");
        hung.map(|it| it.one("x-tradewind-deadline-ms").unwrap().parse().unwrap()).collect()
    };
    let mut left: Vec<u64> = rig.backends.iter().flat_map(left).collect();
    left.sort_unstable();
    assert!(left[0] + 200 <= left[1], "the second attempt has less time left: {left:?}");
    rig.stop().await;
}

/// A service restarts on its address: pooled connections are dead, requests are not.
#[tokio::test]
async fn a_restarted_service_is_used_at_once() {
    let rig = Rig::with(1, |it| it.workers = 1).await;
    assert_eq!(rig.get("/order/x").await.text(), "a");
    let dead = rig.backend();
    dead.kill();
    until("the listener to be gone", || std::net::TcpStream::connect(dead.address).is_err()).await;
    until("its connections to be gone", || dead.recorded.open.load(Ordering::SeqCst) == 0).await;
    let fresh = Backend::start(&rig.tasks, "new").await;
    rig.discovery.replace(vec![instance("order", fresh.address)]);
    let text = "POST /order/x HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(rig.ask(text).await.text(), "new");
    rig.stop().await;
}
