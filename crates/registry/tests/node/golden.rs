//! Requests that the real Python and JavaScript clients sent, byte by byte.

use std::net::SocketAddr;

use crate::support::{node, raw};

struct Captured {
    line: String,
    headers: Vec<String>,
    body: String,
}

fn captured(text: &str) -> Vec<Captured> {
    let blocks = text.split("\n\n").map(str::trim_end).filter(|it| !it.is_empty());
    blocks
        .map(|block| {
            let mut lines = block.trim_start_matches('\n').lines();
            let line = lines.next().unwrap().to_owned();
            let (mut headers, mut body) = (Vec::new(), String::new());
            for rest in lines {
                match rest.trim_start().strip_prefix("BODY ") {
                    Some(text) => text.clone_into(&mut body),
                    None => headers.push(rest.trim_start().to_owned()),
                }
            }
            Captured { line, headers, body }
        })
        .collect()
}

async fn replay(addr: SocketAddr, request: &Captured) -> (u16, String, Vec<u8>) {
    let head = format!("{} HTTP/1.1\r\n{}\r\n\r\n", request.line, request.headers.join("\r\n"));
    raw(addr, &[head.as_bytes(), request.body.as_bytes()].concat()).await
}

async fn check(text: &str, expected: &[(&str, u16)]) -> Vec<(String, Vec<u8>)> {
    let (node, _) = node(|_| {}).await;
    let requests = captured(text);
    let lines: Vec<_> = requests
        .iter()
        .map(|it| it.line.split(['?', ' ']).take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(lines, expected.iter().map(|(line, _)| (*line).to_owned()).collect::<Vec<_>>());
    let mut answers = Vec::new();
    for (request, (line, status)) in requests.iter().zip(expected) {
        let (answered, head, body) = replay(node.local_addr(), request).await;
        assert_eq!(answered, *status, "{line}: {head}");
        if !line.starts_with("GET") {
            assert!(body.is_empty(), "{line} has a body");
        }
        answers.push((head, body));
    }
    node.stop().await;
    answers
}

/// The whole life of a client of eureka-js-client 4.5.0. The stub it was captured from had
/// answered its second heartbeat with 404, which is why it registers twice.
#[tokio::test]
async fn the_javascript_clients_requests_are_answered() {
    let (post, put, delete) = (
        ("POST /eureka/v2/apps/lab-js", 204),
        ("PUT /eureka/v2/apps/lab-js/localhost", 200),
        ("DELETE /eureka/v2/apps/lab-js/localhost", 200),
    );
    let (full, delta) = (("GET /eureka/v2/apps/", 200), ("GET /eureka/v2/apps/delta", 200));
    let text = include_str!("../fixtures/eureka-js-client-4.5.0.requests.txt");
    let answers =
        check(text, &[post, full, put, delta, put, delta, post, put, delta, delete]).await;
    let (head, _) = &answers[1];
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("content-encoding: gzip"), "{head}");
}

/// The whole life of a client of py-eureka-client 0.13.3, which reads XML because it sends no
/// `Accept`.
#[tokio::test]
async fn the_python_clients_requests_are_answered() {
    let (post, put, delete) = (
        ("POST /eureka/apps/LAB-PY", 204),
        ("PUT /eureka/apps/LAB-PY/127.0.0.1%3Alab-py%3A9090", 200),
        ("DELETE /eureka/apps/LAB-PY/127.0.0.1%3Alab-py%3A9090", 200),
    );
    let (full, delta) = (("GET /eureka/apps/", 200), ("GET /eureka/apps/delta", 200));
    let text = include_str!("../fixtures/py-eureka-client-0.13.3.requests.txt");
    let expected = [post, full, put, delta, put, put, delta, put, delta, put, delta, post, delete];
    let answers = check(text, &expected).await;
    let (head, body) = &answers[1];
    assert!(head.contains("content-type: application/xml"), "{head}");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&body[..]), &mut text).unwrap();
    // What that client reads without looking first.
    for needed in [
        "<apps__hashcode>UP_1_</apps__hashcode>",
        r#"<port enabled="true">9090</port>"#,
        r#"<securePort enabled="false">9443</securePort>"#,
        r#"<dataCenterInfo class="com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo">"#,
        "<instanceId>127.0.0.1:lab-py:9090</instanceId>",
        "<a__b>c</a__b>",
    ] {
        assert!(text.contains(needed), "{needed} in {text}");
    }
}

/// What a Spring client registers: numbers for timestamps, real booleans, nulls.
#[tokio::test]
async fn springs_registration_is_taken() {
    let (node, http) = node(|_| {}).await;
    let body = include_str!("../fixtures/java-register-spring.json");
    let answer = http
        .with("content-type", "application/json")
        .send("POST", "/eureka/apps/ORDERS", body)
        .await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    let got = http.get("/eureka/apps/ORDERS/h1:orders:8080").await.json();
    assert_eq!(got["instance"]["metadata"]["d$e"], "y<&>z");
    assert_eq!(got["instance"]["vipAddress"], "orders");
    node.stop().await;
}

/// The batch of a stock peer: register, heartbeat, cancel.
#[tokio::test]
async fn a_stock_peers_batch_is_answered_item_by_item() {
    let (node, http) = node(|_| {}).await;
    let body = include_str!("../fixtures/java-replication-list.json");
    let json = http.with("content-type", "application/json");
    let answer = json.send("POST", "/eureka/peerreplication/batch/", body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.text(),
        r#"{"responseList":[{"statusCode":200},{"statusCode":200},{"statusCode":200}]}"#
    );
    assert!(http.instances("orders").await.is_empty(), "the last item cancels it");
    node.stop().await;
}
