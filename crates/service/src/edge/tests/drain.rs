//! How a server ends, and what a client that leaves does not end.

use super::*;

#[tokio::test]
async fn draining_waits_for_what_is_in_flight_and_takes_nothing_new() {
    let mut it = start(|_| ()).await;
    // An idle connection, which draining must not wait for.
    let mut idle = TcpStream::connect(it.address).await.unwrap();
    let mut busy = TcpStream::connect(it.address).await.unwrap();
    busy.write_all(b"GET /gate HTTP/1.1\r\nhost: demo\r\n\r\n").await.unwrap();
    assert_eq!(it.steps.recv().await, Some("came"));
    let mut drain = std::pin::pin!(it.serving.take().unwrap().drain(LIMIT));
    let first = tokio::time::timeout(Duration::from_millis(100), drain.as_mut()).await;
    assert!(first.is_err(), "it waits");
    assert_eq!(tokio::time::timeout(LIMIT, read(&mut idle)).await.unwrap().status, 0);
    assert!(TcpStream::connect(it.address).await.is_err(), "nobody listens any more");
    it.gate.send(true).unwrap();
    assert_eq!(drain.await, Drained { finished: 1, cut: 0 });
    assert_eq!(read(&mut busy).await.body, "through");
}

#[tokio::test]
async fn what_does_not_end_is_cut_off_at_the_limit_and_counted() {
    let mut it = start(|_| ()).await;
    let mut streams = Vec::new();
    for line in ["GET /gate", "POST /gate"] {
        let mut stream = TcpStream::connect(it.address).await.unwrap();
        stream.write_all(head(line, &[]).as_bytes()).await.unwrap();
        assert_eq!(it.steps.recv().await, Some("came"));
        streams.push(stream);
    }
    let drained = it.serving.take().unwrap().drain(Duration::from_millis(100)).await;
    assert_eq!(drained, Drained { finished: 0, cut: 2 });
    for mut stream in streams {
        let mut rest = Vec::new();
        let _reset = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty());
    }
    assert!(it.steps.try_recv().is_err(), "neither got through the gate");
}

#[tokio::test]
async fn a_long_answer_ends_when_the_server_drains() {
    let mut it = start(|_| ()).await;
    let mut stream = TcpStream::connect(it.address).await.unwrap();
    stream.write_all(head("GET /stream", &[]).as_bytes()).await.unwrap();
    let mut first = [0_u8; 12];
    stream.read_exact(&mut first).await.unwrap();
    let drained = it.serving.take().unwrap().drain(LIMIT).await;
    assert_eq!(drained, Drained { finished: 1, cut: 0 });
    assert!(read(&mut stream).await.body.contains("first"));
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_a_handler_that_changes_state() {
    let mut it = start(|_| ()).await;
    let mut stream = TcpStream::connect(it.address).await.unwrap();
    stream.write_all(head("POST /gate", &[]).as_bytes()).await.unwrap();
    assert_eq!(it.steps.recv().await, Some("came"));
    drop(stream);
    it.until_no("connection").await;
    it.gate.send(true).unwrap();
    let step = tokio::time::timeout(LIMIT, it.steps.recv()).await.unwrap();
    assert_eq!(step, Some("done"));
}

#[tokio::test]
async fn a_client_that_leaves_stops_a_handler_that_only_reads() {
    let mut it = start(|config| config.requests_in_flight_max = 1).await;
    let mut stream = TcpStream::connect(it.address).await.unwrap();
    stream.write_all(head("GET /gate", &[]).as_bytes()).await.unwrap();
    assert_eq!(it.steps.recv().await, Some("came"));
    drop(stream);
    let work = async {
        while ask(it.address, "GET /hello", &[]).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, work).await.expect("its place becomes free");
    let interfaces = it.serving.as_ref().unwrap().interfaces().report().interfaces;
    let left = interfaces.iter().find(|it| it.interface == "GET /gate").unwrap();
    assert_eq!((left.numbers.count, left.numbers.client_errors), (1, 1));
}

#[tokio::test]
async fn the_end_of_the_owner_ends_the_accepting() {
    let it = start(|_| ()).await;
    it.tasks.shutdown(LIMIT).await.unwrap();
    let work = async {
        while TcpStream::connect(it.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, work).await.expect("nobody listens any more");
}

#[tokio::test]
async fn a_taken_address_is_named_with_the_setting_that_moves_it() {
    let it = start(|_| ()).await;
    let mut config = EdgeConfig::new(it.address);
    config.bind_key = "gateway.bind".to_owned();
    let error = Server::bind(config).await.unwrap_err().to_string();
    let expected = format!("failed to listen on {}; the setting gateway.bind moves it", it.address);
    assert_eq!(error, expected);
}
