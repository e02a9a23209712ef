//! The proxy does what it says, to a server that notes what it gets.

use std::sync::Mutex as StdMutex;

use tradewind_e2e::{Client, eventually, wanted};

use super::*;

/// A server that answers every request with the number of requests it has had, and notes them.
struct Server {
    port: u16,
    got: Arc<StdMutex<Vec<String>>>,
    tasks: JoinSet<()>,
}

async fn server_at(port: u16) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let got = Arc::new(StdMutex::new(Vec::new()));
    let (mut tasks, noted) = (JoinSet::new(), Arc::clone(&got));
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let noted = Arc::clone(&noted);
            connections.spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let noted = Arc::clone(&noted);
                    async move {
                        let path = request.uri().path().to_owned();
                        let body = request.into_body().collect().await?.to_bytes();
                        let body = String::from_utf8_lossy(&body).into_owned();
                        let mut noted = noted.lock().unwrap();
                        noted.push(format!("{path} {body}"));
                        let count = noted.len().to_string();
                        Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(count))))
                    }
                });
                let builder = server::Builder::new();
                drop(builder.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    Server { port, got, tasks }
}

/// A link whose n-th request has the first fate that is `wanted`; requests before it pass by being
/// counted out.
fn link_before(wanted: fn(&Fate) -> bool, server: u16) -> (Link, u16) {
    let seed = (0..).map(Seed).find(|it| wanted(&fate(*it, "test", 0, Roughness::ROUGH))).unwrap();
    let listener = tradewind_e2e::listener();
    let port = listener.local_addr().unwrap().port();
    let link = Link::start("test", seed, listener, server);
    link.roughen();
    (link, port)
}

fn client(port: u16) -> Client {
    Client::new(format!("127.0.0.1:{port}"))
}

#[tokio::test]
async fn a_link_that_is_calm_only_passes_on() {
    let server = server_at(0).await;
    let (link, port) = link_before(|it| *it == Fate::LoseRequest, server.port);
    link.calm();
    let mut client = client(port);
    for number in 1..=3 {
        let answer = client.post_text("/a", "{}").await.unwrap();
        assert_eq!(answer.text(), number.to_string());
    }
    assert_eq!(*server.got.lock().unwrap(), ["/a {}"; 3]);
    assert_eq!(link.done(), Done { requests: 3, ..Done::default() });
}

#[tokio::test]
async fn a_lost_request_never_arrives() {
    let server = server_at(0).await;
    let (link, port) = link_before(|it| *it == Fate::LoseRequest, server.port);
    client(port).post_text("/a", "1").await.unwrap_err();
    assert_eq!(server.got.lock().unwrap().len(), 0);
    assert_eq!(link.done(), Done { requests: 1, lost: 1, ..Done::default() });
}

#[tokio::test]
async fn a_lost_answer_belongs_to_a_request_that_arrived() {
    let server = server_at(0).await;
    let (link, port) = link_before(|it| *it == Fate::LoseAnswer, server.port);
    client(port).post_text("/a", "1").await.unwrap_err();
    assert_eq!(*server.got.lock().unwrap(), ["/a 1"]);
    assert_eq!(link.done(), Done { requests: 1, unanswered: 1, ..Done::default() });
}

#[tokio::test]
async fn a_doubled_request_arrives_twice_and_is_answered_once() {
    for wanted_fate in
        [|it: &Fate| *it == Fate::DoubleAtOnce, |it: &Fate| matches!(it, Fate::DoubleLater(_))]
    {
        let server = server_at(0).await;
        let (link, port) = link_before(wanted_fate, server.port);
        client(port).post_text("/a", "1").await.unwrap();
        eventually("the copy arrives", Duration::from_secs(20), async || {
            wanted(link.done(), |it| it.doubled == 1)
        })
        .await;
        assert_eq!(*server.got.lock().unwrap(), ["/a 1", "/a 1"]);
        assert_eq!(link.pending(), 0);
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_refused_and_found_again() {
    let mut server = server_at(0).await;
    let (link, port) = link_before(|it| *it == Fate::Pass, server.port);
    link.calm();
    let mut first = client(port);
    first.get("/a").await.unwrap();
    let address = server.port;
    server.tasks.shutdown().await;
    eventually("connections are refused", Duration::from_secs(20), async || {
        // The open connection is closed too: this opens another one.
        drop(first.get("/a").await);
        let kind = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|it| it.kind());
        wanted(kind.err(), |it| *it == Some(ErrorKind::ConnectionRefused))
    })
    .await;
    let _server = server_at(address).await;
    eventually("it is back", Duration::from_secs(20), async || {
        client(port).get("/a").await.map_err(|it| it.to_string())
    })
    .await;
}
