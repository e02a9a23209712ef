//! GATE-2, GATE-4: what reaches a service and what comes back.

use tradewind_base::TraceContext;
use tradewind_gateway::machine::headers::Cidr;

use super::rig::Rig;

/// R3.1a, R0.3: route, stripped prefix, query and Host as the service sees them.
#[tokio::test]
async fn the_service_sees_its_own_path_and_who_asked() {
    let rig = Rig::start().await;
    let answer = rig.get("/order/quotes?a=1&b=%2F").await;
    assert_eq!((answer.status, &*answer.text()), (200, "a"));
    let seen = rig.backend().recorded.last();
    assert_eq!((&*seen.method, &*seen.target), ("GET", "/quotes?a=1&b=%2F"));
    assert_eq!(seen.one("host"), Some(&*rig.backend().address.to_string()));
    assert_eq!(seen.one("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.one("x-forwarded-host"), Some("shop"));
    assert_eq!(seen.one("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.one("x-forwarded-prefix"), Some("/order"));
    assert_eq!(seen.one("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(seen.one("via"), Some("1.1 tradewind"));
    assert_eq!(seen.one("x-request-id"), answer.one("x-request-id"));
    assert!(seen.one("x-request-id").unwrap().starts_with("req_"));
    assert!(TraceContext::parse(seen.one("traceparent").unwrap()).is_some());
    assert!(seen.one("x-tradewind-deadline-ms").unwrap().parse::<u64>().is_ok());
    assert_eq!(seen.one("x-tradewind-user"), None, "nobody asked");
    rig.stop().await;
}

#[tokio::test]
async fn forged_and_hop_by_hop_fields_do_not_reach_the_service() {
    let rig = Rig::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let text = format!(
        "GET /order/x HTTP/1.1\r\nHost: shop\r\nX-Tradewind-User: forged\r\nx-tradewind-caller: forged\r\n\
         X-TRADEWIND-LANE: new\r\nX_Tradewind_User: forged\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\
         X-Request-Id: mine\r\nTraceparent: {trace}\r\nTracestate: a=b\r\nConnection: X-Hop, keep-alive\r\n\
         X-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: x\r\nProxy-Authorization: Basic x\r\n\
         Upgrade: h2c\r\nVia: 1.0 before\r\nX-Original-URL: /admin\r\nCookie: a=b\r\nX-Own: 1\r\n\r\n"
    );
    assert_eq!(rig.ask(&text).await.status, 200);
    let seen = rig.backend().recorded.last();
    for name in [
        "x-tradewind-user",
        "x-tradewind-caller",
        "x-tradewind-lane",
        "x_tradewind_user",
        "x-hop",
        "keep-alive",
        "te",
        "trailer",
        "proxy-authorization",
        "upgrade",
        "connection",
        "x-original-url",
    ] {
        assert_eq!(seen.all(name), Vec::<&str>::new(), "{name}");
    }
    assert_eq!(seen.one("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.one("x-forwarded-host"), Some("shop"));
    assert_eq!(seen.one("forwarded"), Some("for=127.0.0.1;host=\"shop\";proto=http"));
    assert_eq!(seen.one("x-real-ip"), Some("127.0.0.1"));
    assert_ne!(seen.one("x-request-id"), Some("mine"));
    let parent = TraceContext::parse(trace).unwrap();
    let child = TraceContext::parse(seen.one("traceparent").unwrap()).unwrap();
    assert_eq!(child.trace_id(), parent.trace_id(), "the trace goes on");
    assert_ne!(child.span_id(), parent.span_id(), "in a span of the gateway's own");
    assert_eq!(seen.one("tracestate"), Some("a=b"));
    assert_eq!(seen.all("via"), ["1.0 before", "1.1 tradewind"]);
    assert_eq!((seen.one("cookie"), seen.one("x-own")), (Some("a=b"), Some("1")));
    rig.stop().await;
}

#[tokio::test]
async fn naming_a_field_the_service_relies_on_is_refused() {
    let rig = Rig::start().await;
    for name in ["x-tradewind-user", "Authorization", "Host", "X-Forwarded-For", "x-request-id"] {
        let text = format!("GET /order/x HTTP/1.1\r\nHost: shop\r\nConnection: {name}\r\n\r\n");
        let answer = rig.ask(&text).await;
        assert_eq!((answer.status, &*answer.problem()), (400, "gateway.connection"), "{name}");
    }
    assert!(rig.backend().recorded.targets().is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let rig = Rig::with(1, |it| {
        it.trusted_proxies = vec![Cidr::parse("127.0.0.0/8").unwrap()];
    })
    .await;
    let text = "GET /order/x HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 9.9.9.9\r\n\
        X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\n\r\n";
    assert_eq!(rig.ask(text).await.status, 200);
    let seen = rig.backend().recorded.last();
    assert_eq!(seen.one("x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"));
    assert_eq!(seen.one("x-real-ip"), Some("9.9.9.9"));
    assert_eq!(seen.one("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.one("x-forwarded-host"), Some("shop"));
    let log = rig.log(1).await;
    assert_eq!(log[0]["client_ip"], "9.9.9.9");
    rig.stop().await;
}

#[tokio::test]
async fn a_service_s_fields_of_its_connection_stay_behind() {
    let rig = Rig::start().await;
    let answer = rig.get("/order/fields").await;
    assert_eq!((answer.status, &*answer.text()), (200, "ok"));
    for name in ["x-secret", "keep-alive", "x-tradewind-user", "proxy-authenticate", "upgrade"] {
        assert_eq!(answer.all(name), Vec::<&str>::new(), "{name}");
    }
    assert_eq!(answer.one("x-kept"), Some("1"));
    assert_eq!(answer.all("set-cookie"), ["a=b", "c=d"]);
    assert_eq!(answer.one("via"), Some("1.1 tradewind"));
    rig.stop().await;
}

#[tokio::test]
async fn paths_that_servers_read_differently_are_refused() {
    let rig = Rig::start().await;
    for path in [
        "/order/../x",
        "/order/%2e%2e/x",
        "/order/a%2fb",
        "/order/a%5cb",
        "/order//a",
        "/order/a;b=c",
        "/order/%00",
        "/order/%ff",
        "/order/%",
        "/order/%252e",
        "//order/x",
        "/order/./x",
        "/order\\x",
    ] {
        let answer = rig.get(path).await;
        assert_eq!((answer.status, &*answer.problem()), (400, "gateway.path"), "{path}");
    }
    assert!(rig.backend().recorded.targets().is_empty());
    // The routed form is the forwarded one.
    assert_eq!(rig.get("/%6frder/caf%c3%a9").await.status, 200);
    assert_eq!(rig.backend().recorded.targets(), ["/caf%C3%A9"]);
    rig.stop().await;
}

#[tokio::test]
async fn an_unknown_route_is_a_problem() {
    let rig = Rig::start().await;
    for path in ["/", "/orders", "/nothing/here", "/health/ready", "/metrics"] {
        let answer = rig.get(path).await;
        assert_eq!((answer.status, &*answer.problem()), (404, "gateway.no-route"), "{path}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn answers_without_a_body_are_framed_right() {
    let rig = Rig::with(1, |it| it.workers = 1).await;
    let mut client = rig.client().await;
    for status in [204, 304] {
        let text = format!("GET /order/nobody?status={status} HTTP/1.1\r\nHost: shop\r\n\r\n");
        client.send(text.as_bytes()).await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.one("etag")), (status, Some("\"e\"")));
        assert_eq!(answer.one("transfer-encoding"), None);
    }
    client.send(b"HEAD /order/x HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    let (status, head) = client.head().await.unwrap();
    assert_eq!(status, 200);
    assert!(head.to_lowercase().contains("content-length: 1"), "{head}");
    client.send(b"GET /order/early HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().text(), "ok");
    // All on one connection: nothing was left over or taken too much.
    client.send(b"GET /order/x HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().text(), "a");
    assert_eq!(rig.backend().recorded.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_get_with_a_chunked_body_arrives_with_it() {
    let rig = Rig::start().await;
    let text = "GET /order/echo HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(rig.ask(text).await.text(), "abc");
    rig.stop().await;
}

#[tokio::test]
async fn http_1_0_clients_are_served() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(b"GET /order/x HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().text(), "a");
    assert!(client.ended().await);
    rig.stop().await;
}

/// R3.6: what the line says, and what it must never say.
#[tokio::test]
async fn the_access_log_has_a_line_per_request_and_no_secret() {
    let rig = Rig::start().await;
    let text = "POST /order/echo?password=hunter2 HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer s3cret\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(rig.ask(text).await.status, 401);
    let good = text.replace("Authorization: Bearer s3cret\r\n", "");
    let answer = rig.ask(&good).await;
    assert_eq!(rig.get("/nowhere").await.status, 404);
    let log = rig.log(3).await;
    let text = serde_json::to_string(&log).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("s3cret"), "{text}");
    assert_eq!((&log[0]["status"], &log[0]["error_code"]), (&401.into(), &"auth.invalid".into()));
    let line = &log[1];
    assert_eq!(line["request_id"], answer.one("x-request-id").unwrap());
    assert_eq!(line["path"], "/order/echo");
    assert_eq!(line["path_template"], "/order/**");
    assert_eq!((&line["route"], &line["service"]), (&"order-service".into(), &"order".into()));
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&5.into(), &5.into()));
    assert_eq!(line["complete"], true);
    let ms = |phase: &str| line["ms"][phase].as_f64().unwrap();
    assert!(ms("gateway_own") <= ms("ttfb") && ms("ttfb") <= ms("total"), "{line}");
    assert_eq!(log[2]["error_code"], "gateway.no-route");
    rig.stop().await;
}
