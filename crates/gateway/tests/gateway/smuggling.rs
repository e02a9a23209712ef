//! GATE-1: one request in is one request out, or the connection ends.

use tradewind_base::Rng;

use super::rig::Rig;

const SMUGGLED: &str = "GET /order/smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";

/// Fields of a POST that two servers could read in two ways, and the status of the refusal.
const FIELDS: &[(&str, u16)] = &[
    ("Content-Length: 5\r\nContent-Length: 5", 400),
    ("Content-Length: 0\r\nContent-Length: 45", 400),
    ("Content-Length: 5, 5", 400),
    ("Content-Length: +5", 400),
    ("Content-Length: -5", 400),
    ("Content-Length: 5a", 400),
    ("Content-Length: 0x5", 400),
    ("Content-Length: 1e1", 400),
    ("Content-Length: \x0b5", 400),
    ("Content-Length: 18446744073709551616", 400),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
    ("Transfer-Encoding: chunked\r\ncontent-length: 5", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 501),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", 501),
    ("Transfer-Encoding: identity", 501),
    ("Transfer-Encoding: gzip, chunked", 501),
    ("Transfer-Encoding: chunked, identity", 501),
    ("Transfer-Encoding: xchunked", 501),
    ("Transfer-Encoding: chunked;q=1", 501),
    ("Transfer-Encoding:\x0bchunked", 400),
    ("Transfer-Encoding: \x00chunked", 400),
    ("Transfer-Encoding : chunked", 400),
    ("Transfer-Encoding\t: chunked", 400),
    (" Transfer-Encoding: chunked", 400),
    ("X: y\r\n Transfer-Encoding: chunked", 400),
    ("X: y\nTransfer-Encoding: chunked", 400),
    ("X: y\rTransfer-Encoding: chunked", 400),
    ("X\rTransfer-Encoding: chunked", 400),
    ("Content-Length: 5\r\n Content-Length: 6", 400),
    ("Transfer-Encoding", 400),
    (": x\r\nContent-Length: 5", 400),
    ("Host: other\r\nContent-Length: 5", 400),
    ("Expect: 100-continue, 200\r\nContent-Length: 5", 417),
    ("Content-Length:", 400),
    ("Content-Length: 5\r\nX: y\r\nContent-Length: 6", 400),
    ("Content-Length: 5\r\ncontent-length: 5", 400),
    ("Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 3", 400),
    ("Transfer-Encoding: CHUNKED\r\nTransfer-Encoding: x", 501),
    ("Transfer-Encoding: chunked,", 501),
    ("Transfer-Encoding: ,chunked", 501),
    ("\u{b}Transfer-Encoding: chunked", 400),
    ("X\0: y", 400),
    ("X: y\u{7f}", 400),
    ("\"X\": y", 400),
    ("X(: y", 400),
    ("Host : other", 400),
    ("Expect: x", 417),
];

/// Chunked bodies that servers end at different places.
const BODIES: &[&str] = &[
    "5\r\nhello\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhelloworld\r\n0\r\n\r\n",
    "FFFFFFFFFFFFFFFF5\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "0\r\nContent-Length: 5\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "0\r\nHost: other\r\n\r\n",
    "0\r\nX-Tradewind-User: me\r\n\r\n",
    "0\r\nx\r\n\r\n",
    "0\r\n x: y\r\n\r\n",
    "\r\n5\r\nhello\r\n0\r\n\r\n",
    "g\r\n",
    "5\r\nhello\r\n0\r\n\n",
    "5\r\nhello\r\n00x\r\n\r\n",
    "5;\r\nhello\r0\r\n\r\n",
    "0;\0\r\n\r\n",
    "0\r\nAuthorization: x\r\n\r\n",
    "5\r\n\r\nhello0\r\n\r\n",
];

/// Whole heads.
const HEADS: &[(&str, u16)] = &[
    ("POST /order/echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("GET /order/echo HTTP/1.1\r\n\r\n", 400),
    ("GET /order/echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET /order/echo HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    ("GET /order/echo HTTP/1.1\nHost: a\n\n", 400),
    ("GET /order/echo  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET\t/order/echo HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /order/echo HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /order/echo HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("GET http://shop/order/echo HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
    ("CONNECT shop:443 HTTP/1.1\r\nHost: shop\r\n\r\n", 501),
    ("TRACE /order/echo HTTP/1.1\r\nHost: shop\r\n\r\n", 501),
    ("GET /order/a#b HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
    ("GET /order/\u{e9} HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
    (
        "GET /order/ws HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello",
        400,
    ),
    ("GET /order/echo HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    ("GET /order/echo HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("GET /order/echo HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("GET /order/echo HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    ("GET /order/echo HTTP/1.9\r\nHost: a\r\n\r\n", 505),
    ("GET /order/echo HTTP/0.9\r\n\r\n", 505),
    ("GET /order/echo\r\n", 400),
    ("/order/echo\r\n\r\n", 400),
    ("\u{16}\u{3}\u{1}hello", 400),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET order/echo HTTP/1.1\r\nHost: a\r\n\r\n", 400),
];

/// Each request of the tables, whole.
fn corpus() -> Vec<(String, u16)> {
    let with = |fields: &str, body: &str| {
        format!("POST /order/echo HTTP/1.1\r\nHost: shop\r\n{fields}\r\n\r\n{body}")
    };
    let fields = FIELDS.iter().map(|(it, status)| (with(it, "0\r\n\r\n"), *status));
    let bodies = BODIES.iter().map(|it| (with("Transfer-Encoding: chunked", it), 400));
    let heads = HEADS.iter().map(|(it, status)| ((*it).to_owned(), *status));
    fields.chain(bodies).chain(heads).collect()
}

#[tokio::test]
async fn what_is_ambiguous_is_refused_and_nothing_after_it_is_read() {
    let rig = Rig::start().await;
    let corpus = corpus();
    assert!(95 <= corpus.len(), "{}", corpus.len());
    for (text, status) in corpus {
        // Once alone, once on a connection that has served before.
        for warm in [false, true] {
            let mut client = rig.client().await;
            if warm {
                client.send(b"GET /order/warm HTTP/1.1\r\nHost: shop\r\n\r\n").await;
                assert_eq!(client.answer().await.unwrap().status, 200);
            }
            client.send(format!("{text}{SMUGGLED}").as_bytes()).await;
            let answer = client.answer().await.unwrap_or_else(|| panic!("an answer to {text:?}"));
            assert_eq!(answer.status, status, "{text:?} {answer:?}");
            answer.problem();
            assert_eq!(answer.one("connection"), Some("close"), "{text:?}");
            assert!(client.ended().await, "{text:?}");
        }
    }
    let targets = rig.backend().recorded.targets();
    assert!(!targets.iter().any(|it| it.contains("smuggled")), "{targets:?}");
    // A head that was refused never left; a body that broke ended its own connection only.
    let answer = rig.get("/order/alive").await;
    assert_eq!((answer.status, &*answer.text()), (200, "a"));
    rig.stop().await;
}

#[tokio::test]
async fn requests_in_one_segment_are_as_many_behind_the_gateway() {
    let rig = Rig::start().await;
    let text = "GET /order/1 HTTP/1.1\r\nHost: shop\r\n\r\n\
        POST /order/echo HTTP/1.1\r\nHost: shop\r\nContent-Length: 38\r\n\r\nGET /order/in-body HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /order/echo HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nx-t: 1\r\n\r\n\
        \r\nGET /order/4 HTTP/1.1\r\nHost: shop\r\n\r\n";
    let text = text.replace("Content-Length: 38", "Content-Length: 40");
    for piece in [1, 7, 100_000] {
        rig.backend().recorded.requests.lock().unwrap().clear();
        let mut client = rig.client().await;
        for part in text.as_bytes().chunks(piece) {
            client.send(part).await;
        }
        let mut bodies = Vec::new();
        for _ in 0..4 {
            bodies.push(client.answer().await.unwrap().text());
        }
        assert_eq!(bodies, ["a", "GET /order/in-body HTTP/1.1\r\nHost: a\r\n\r\n", "hello", "a"]);
        assert_eq!(rig.backend().recorded.targets(), ["/1", "/echo", "/echo", "/4"]);
    }
    rig.stop().await;
}

const SEEDS: [&str; 4] = [
    "POST /order/echo HTTP/1.1\r\nHost: shop\r\nContent-Length: 11\r\n\r\nhello world",
    "POST /order/echo HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nx: y\r\n\r\n",
    "GET /order/x?a=b HTTP/1.1\r\nHost: shop\r\nConnection: keep-alive, x\r\nX: y\r\n\r\n",
    "PUT /order/echo HTTP/1.0\r\nHost: shop\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
];

/// A few bytes of good requests changed by chance.
fn damaged(rng: &mut Rng) -> Vec<u8> {
    const BYTES: &[u8] = b"\r\n\t :;,0159afx/%\0\x0b\x7f\xff\"#?";
    let mut text = Vec::new();
    for _ in 0..=rng.below(2) {
        text.extend_from_slice(SEEDS[rng.below(SEEDS.len())].as_bytes());
    }
    for _ in 0..=rng.below(3) {
        let (at, byte) = (rng.below(text.len()), BYTES[rng.below(BYTES.len())]);
        match rng.below(4) {
            0 => text[at] = byte,
            1 => text.insert(at, byte),
            2 => drop(text.remove(at)),
            _ => {
                let from = rng.below(text.len());
                let piece = text[from..text.len().min(from + 24)].to_vec();
                text.splice(at..at, piece);
            }
        }
    }
    text
}

/// GATE-1 by chance: every request the service read to its end was answered to the client as one.
#[tokio::test]
async fn damaged_requests_are_as_many_on_both_sides() {
    let quick = std::time::Duration::from_millis(150);
    let rig = Rig::with(1, |it| {
        it.client.head_timeout = quick;
        it.client.body_timeout = quick;
        it.client.idle_timeout = quick;
    })
    .await;
    let served = async |seed: u64| {
        let text = damaged(&mut Rng::seeded(seed));
        let mut client = rig.client().await;
        client.send(&text).await;
        let mut count = 0;
        while let Some(answer) = client.answer().await {
            match answer.status {
                200 => count += 1,
                400..=431 | 501 | 505 => drop(answer.problem()),
                other => panic!("{other} to seed {seed}: {:?}", String::from_utf8_lossy(&text)),
            }
        }
        count
    };
    let mut answered = 0;
    for block in 0..20_u64 {
        let asks = (0..32).map(|at| served(block * 32 + at));
        answered += futures_util::future::join_all(asks).await.iter().sum::<usize>();
        let recorded = rig.backend().recorded.requests.lock().unwrap().len();
        assert_eq!(answered, recorded, "in the seeds from {}", block * 32);
    }
    assert!(100 < answered, "the damage leaves enough requests whole: {answered}");
    rig.stop().await;
}

/// One length goes to the client, whatever the service said.
#[tokio::test]
async fn an_answer_with_two_lengths_has_one_or_none() {
    let rig = Rig::start().await;
    let answer = rig.get("/order/both").await;
    assert_eq!((answer.status, &*answer.text()), (200, "hello"));
    assert_eq!(answer.all("content-length"), Vec::<&str>::new());
    let answer = rig.get("/order/lengths").await;
    assert!(answer.all("content-length").len() == 1, "{answer:?}");
    assert_eq!(rig.get("/order/next").await.text(), "a");
    rig.stop().await;
}

#[tokio::test]
async fn what_a_service_sends_too_much_reaches_nobody() {
    let rig = Rig::with(1, |it| it.workers = 1).await;
    for _ in 0..20 {
        assert_eq!(rig.get("/order/extra").await.text(), "ok");
        assert_eq!(rig.get("/order/next").await.text(), "a");
    }
    rig.stop().await;
}
