//! Health, metrics and interfaces.

use super::*;

#[tokio::test]
async fn ready_is_told_by_component_with_the_reason() {
    let it = start(|_| ()).await;
    let database = it.health.component("database");
    let reply = ask(it.address, "GET /health/ready", &[]).await;
    assert_eq!(reply.status, 503);
    let starting = json!({"database": {"state": "down", "reason": "starting"}});
    assert_eq!(reply.json(), json!({"ready": false, "components": starting}));
    assert_eq!(ask(it.address, "GET /health/live", &[]).await.status, 200);
    database.up();
    let reply = ask(it.address, "GET /health/ready", &[]).await;
    assert_eq!((reply.status, &reply.json()["ready"]), (200, &json!(true)));
}

#[tokio::test]
async fn what_came_through_a_proxy_finds_no_management() {
    let it = start(|_| ()).await;
    for path in ["/health/live", "/health/ready", "/metrics", "/interfaces", "/own"] {
        for header in ["via", "forwarded", "x-forwarded-for", "x-forwarded-host"] {
            let reply = ask(it.address, &format!("GET {path}"), &[(header, "1.1 edge")]).await;
            assert_eq!(reply.problem(404).0, "edge.unknown-route", "{path} {header}");
        }
        assert_eq!(ask(it.address, &format!("GET {path}"), &[]).await.status, 200, "{path}");
        let reply = ask(it.address, &format!("POST {path}"), &[]).await;
        assert_eq!(reply.problem(405).0, "edge.wrong-method");
        assert_eq!(reply.header("allow"), Some("get, head"));
    }
}

/// R8.1
#[tokio::test]
async fn every_interface_is_counted_and_timed_live() {
    let it = start(|_| ()).await;
    for line in ["GET /hello", "GET /hello", "GET /items/5", "GET /items/6", "GET /panic", "GET /x"]
    {
        ask(it.address, line, &[]).await;
    }
    raw(it.address, "nonsense\r\n\r\n").await;
    let report = ask(it.address, "GET /interfaces", &[]).await.json();
    assert_eq!(report["service"], "demo");
    let of = |name: &str| {
        let all = report["interfaces"].as_array().unwrap();
        let it = all.iter().find(|it| it["interface"] == name).unwrap_or(&Value::Null);
        (it["count"].as_u64(), it["success"].as_u64(), it["client_errors"].as_u64())
    };
    assert_eq!(of("GET /hello"), (Some(2), Some(2), Some(0)));
    assert_eq!(of("GET /items/{id}"), (Some(2), Some(2), Some(2)));
    assert_eq!(of("GET /panic"), (Some(1), Some(0), Some(0)));
    assert_eq!(of("unmatched"), (Some(2), Some(2), Some(2)));
    assert_eq!(of("GET /interfaces"), (None, None, None), "the watcher is not counted");
    let text = ask(it.address, "GET /metrics", &[]).await.body;
    let counted = "tradewind_http_requests_total{service=\"demo\",interface=\"GET /items/{id}\",code=\"409\"}";
    for name in [
        counted,
        "tradewind_http_request_duration_seconds_bucket{service=\"demo\",interface=\"GET /hello\"",
        "process_resident_memory_bytes ",
        "tradewind_http_connections{service=\"demo\"}",
        "tradewind_http_requests_in_flight{service=\"demo\"}",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
}
