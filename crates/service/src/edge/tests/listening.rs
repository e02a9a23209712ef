//! Accepting, and what is left when everybody has gone.

use std::io;

use tokio::io::DuplexStream;

use super::*;

/// A network of one end, which fails as the test wants.
#[derive(Debug)]
struct Scripted(mpsc::Receiver<io::Result<DuplexStream>>);

impl Listener for Scripted {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(next) => next.map(|io| (io, ([127, 0, 0, 1], 1).into())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 80).into())
    }
}

#[tokio::test(start_paused = true)]
async fn accepting_survives_every_error_on_any_network() {
    let (network, script) = mpsc::channel(64);
    let config = EdgeConfig::new("127.0.0.1:80".parse().unwrap());
    let server = Server::with_listener(config, Scripted(script)).unwrap();
    let (clock, tasks) = (Arc::new(SystemClock::new()), Tasks::new());
    let router = Router::new().route("/hello", get(|| async { "hello" }));
    let serving = server.serve("demo", router, Health::new(), None, clock, &tasks);
    for _ in 0..10 {
        // EMFILE: too many open files.
        network.send(Err(io::Error::from_raw_os_error(24))).await.unwrap();
        network.send(Err(io::ErrorKind::ConnectionAborted.into())).await.unwrap();
    }
    let (mut client, end) = tokio::io::duplex(4096);
    network.send(Ok(end)).await.unwrap();
    client.write_all(head("GET /hello", &[]).as_bytes()).await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(Reply::parse(&text).body, "hello");
    assert_eq!(serving.drain(LIMIT).await, Drained { finished: 0, cut: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_is_given_up() {
    let (network, script) = mpsc::channel(1);
    let mut config = EdgeConfig::new("127.0.0.1:80".parse().unwrap());
    config.write_timeout = Duration::from_secs(2);
    let server = Server::with_listener(config, Scripted(script)).unwrap();
    let (clock, tasks) = (Arc::new(SystemClock::new()), Tasks::new());
    let router = Router::new().route("/large", get(|| async { "x".repeat(1 << 20) }));
    let serving = server.serve("demo", router, Health::new(), None, clock, &tasks);
    let (mut client, end) = tokio::io::duplex(4096);
    network.send(Ok(end)).await.unwrap();
    client.write_all(head("GET /large", &[]).as_bytes()).await.unwrap();
    // The first byte shows that the answer is on its way; then nothing more is taken.
    client.read_exact(&mut [0]).await.unwrap();
    until_no(&serving.tasks, "connection").await;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= 8192, "the rest was not sent: {}", rest.len());
    assert_eq!(serving.drain(LIMIT).await, Drained { finished: 0, cut: 0 });
}

#[tokio::test]
async fn two_hundred_clients_leave_nothing_behind() {
    let it = start(|_| ()).await;
    let clients = Tasks::new();
    let (report, mut answers) = mpsc::channel(200);
    for _ in 0..200 {
        let (address, report) = (it.address, report.clone());
        clients.spawn("client", |_| async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            for _ in 0..20 {
                stream.write_all(b"GET /hello HTTP/1.1\r\nhost: demo\r\n\r\n").await.unwrap();
                let (mut text, mut some) = (Vec::new(), [0_u8; 1024]);
                while !text.ends_with(b"hello") {
                    let count = stream.read(&mut some).await.unwrap();
                    assert_ne!(count, 0, "closed early");
                    text.extend_from_slice(&some[..count]);
                }
            }
            report.send(()).await.unwrap();
        });
    }
    for _ in 0..200 {
        tokio::time::timeout(LIMIT, answers.recv()).await.unwrap().unwrap();
    }
    clients.shutdown(LIMIT).await.unwrap();
    let metrics = || async {
        let text = ask(it.address, "GET /metrics", &[]).await.body;
        let line = text.lines().find(|it| it.starts_with("tradewind_http_connections{"));
        line.unwrap_or("").to_owned()
    };
    let work = async {
        // The one that asks is the only one left.
        while !metrics().await.ends_with(" 1") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, work).await.expect("every connection ends with its client");
    let interfaces = it.serving.as_ref().unwrap().interfaces().report().interfaces;
    let hello = interfaces.iter().find(|it| it.interface == "GET /hello").unwrap();
    assert_eq!((hello.numbers.count, hello.numbers.success), (4000, 4000));
    assert_eq!(it.serving.unwrap().drain(LIMIT).await, Drained { finished: 0, cut: 0 });
}
