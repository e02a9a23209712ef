//! Eureka's REST.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tradewind_base::SecretString;

use crate::support::{instance, node};

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// R1.2: no cache stands between a registration and the next answer.
#[tokio::test]
async fn what_is_registered_is_in_the_next_answer_under_every_prefix() {
    let (node, http) = node(|_| {}).await;
    for n in 0..3 {
        // An answer that is rendered before the change must not be served after it.
        let before = http.get("/eureka/apps").await.json();
        assert_eq!(before["applications"]["application"].as_array().unwrap().len(), n.min(1));
        http.registered(&instance("orders", &format!("h:{n}"), 80, 90)).await;
        for prefix in ["/eureka", "/eureka/v2", "/eureka/v1", "/v2"] {
            for path in ["/apps", "/apps/", "/apps/delta", "/apps/delta/"] {
                let got = http.get(&format!("{prefix}{path}")).await.json();
                let all = &got["applications"];
                assert_eq!(all["apps__hashcode"], format!("UP_{}_", n + 1), "{prefix}{path}");
                let instances = all["application"][0]["instance"].as_array().unwrap();
                assert_eq!(instances.len(), n + 1, "{prefix}{path}");
            }
            for path in ["/apps/orders", "/apps/ORDERS/", "/vips/orders", "/svips/orders"] {
                let got = http.get(&format!("{prefix}{path}")).await;
                assert_eq!(got.text().matches("\"instanceId\"").count(), n + 1, "{prefix}{path}");
            }
            for path in [format!("/apps/ORDERS/h:{n}"), format!("/instances/h%3A{n}/")] {
                let got = http.get(&format!("{prefix}{path}")).await.json();
                assert_eq!(got["instance"]["instanceId"], format!("h:{n}"), "{prefix}{path}");
            }
        }
    }
    let version = |it: &serde_json::Value| it["applications"]["versions__delta"].clone();
    assert_eq!(version(&http.get("/eureka/apps").await.json()), "1");
    assert_eq!(version(&http.get("/eureka/apps/delta").await.json()), "3");
    assert_eq!(version(&http.get("/eureka/vips/orders").await.json()), "-1");
    node.stop().await;
}

#[tokio::test]
async fn a_client_lives_renews_and_leaves() {
    let (node, http) = node(|_| {}).await;
    let path = "/eureka/apps/ORDERS/a";
    assert_eq!(http.put(path).await, 404, "not registered yet");
    http.registered(&instance("orders", "a", 80, 90)).await;
    assert_eq!(http.put(&format!("{path}?status=UP&lastDirtyTimestamp=1700000000000")).await, 200);
    assert_eq!(http.put(&format!("{path}?lastDirtyTimestamp=1700000000001")).await, 404);
    assert_eq!(http.put(&format!("{path}/metadata?lane=gray&lane=x&a_b=c%20d")).await, 200);
    let got = http.get(path).await.json();
    assert_eq!(got["instance"]["metadata"]["lane"], "gray");
    assert_eq!(got["instance"]["metadata"]["a_b"], "c d");
    assert_eq!(http.put(&format!("{path}/status?value=OUT_OF_SERVICE")).await, 200);
    let got = http.get(path).await.json();
    assert_eq!(got["instance"]["status"], "OUT_OF_SERVICE");
    assert_eq!(got["instance"]["overriddenStatus"], "OUT_OF_SERVICE");
    assert_eq!(http.delete(&format!("{path}/status")).await, 200);
    assert_eq!(http.put(path).await, 404, "its status is unknown: it has to register");
    http.registered(&instance("orders", "a", 80, 90)).await;
    assert_eq!(http.delete(path).await, 200);
    assert_eq!(http.delete(path).await, 404);
    let delta = http.get("/eureka/apps/delta").await.json();
    let gone = &delta["applications"]["application"][0]["instance"][0];
    assert_eq!((&gone["actionType"], &gone["instanceId"]), (&"DELETED".into(), &"a".into()));
    assert_eq!(delta["applications"]["apps__hashcode"], "");
    node.stop().await;
}

/// R1.2: a dead instance is gone when its lease ends, not twice as late.
#[tokio::test]
async fn a_silent_instance_is_gone_when_its_lease_ends() {
    let (node, http) = node(|_| {}).await;
    http.registered(&instance("orders", "a", 80, 1)).await;
    let start = tokio::time::Instant::now();
    assert_eq!(http.put("/eureka/apps/ORDERS/a").await, 200);
    crate::support::eventually("it is gone", || async {
        http.get("/eureka/apps/ORDERS/a").await.status == 404
    })
    .await;
    let took = start.elapsed();
    assert!(Duration::from_millis(990) < took && took < Duration::from_millis(1900), "{took:?}");
    node.stop().await;
}

#[tokio::test]
async fn formats_are_negotiated_as_stock_clients_expect() {
    let (node, http) = node(|_| {}).await;
    http.registered(&instance("orders", "a", 80, 90)).await;
    for (accept, kind) in [
        (None, "application/xml"),
        (Some("*/*"), "application/xml"),
        (Some("application/json"), "application/json"),
        (Some("application/json, application/*+json"), "application/json"),
    ] {
        for path in ["/eureka/apps", "/eureka/apps/ORDERS", "/eureka/instances/a", "/eureka/status"]
        {
            let http = accept.map_or_else(|| http.clone(), |it| http.with("accept", it));
            let got = http.send("GET", path, "").await;
            assert_eq!((got.status.as_u16(), got.header("content-type")), (200, kind), "{path}");
        }
    }
    // The oldest version of the protocol has no word for it.
    assert_eq!(http.put("/eureka/apps/ORDERS/a/status?value=OUT_OF_SERVICE").await, 200);
    for (path, shown) in [("v1", "DOWN"), ("v2", "OUT_OF_SERVICE")] {
        for list in ["apps", "apps/delta", "apps/ORDERS", "apps/ORDERS/a", "instances/a"] {
            let path = format!("/eureka/{path}/{list}");
            let text = http.with("accept", "application/xml").get(&path).await.text();
            assert!(text.contains(&format!("<status>{shown}</status>")), "{path}: {text}");
        }
    }
    let compact = http.with("x-eureka-accept", "compact").get("/eureka/apps").await.text();
    assert!(!compact.contains("leaseInfo") && !compact.contains("metadata"), "{compact}");
    assert!(http.get("/eureka/apps").await.text().contains("leaseInfo"));
    let gzip = http.with("accept-encoding", "gzip").get("/eureka/apps").await;
    assert_eq!(gzip.header("content-encoding"), "gzip");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&gzip.body[..]), &mut text)
        .unwrap();
    assert_eq!(text, http.get("/eureka/apps").await.text());
    node.stop().await;
}

#[tokio::test]
async fn xml_and_packed_bodies_are_taken() {
    let (node, http) = node(|_| {}).await;
    let xml = "<instance><instanceId>x</instanceId><hostName>h</hostName><app>orders</app>\
               <ipAddr>10.0.0.1</ipAddr><dataCenterInfo><name>MyOwn</name></dataCenterInfo>\
               </instance>";
    let as_xml = http.with("content-type", "application/xml");
    assert_eq!(as_xml.send("POST", "/eureka/apps/ORDERS", xml).await.status, 204);
    let body = packed(instance("orders", "y", 80, 90).to_string().as_bytes());
    let json = http.with("content-type", "application/json");
    let gzip = json.with("content-encoding", "gzip");
    assert_eq!(gzip.send("POST", "/eureka/apps/ORDERS", body).await.status, 204);
    assert_eq!(http.instances("orders").await.len(), 2);
    let bomb = packed(&vec![b' '; 64 << 20]);
    assert_eq!(gzip.send("POST", "/eureka/apps/ORDERS", bomb).await.status, 413);
    let brotli = json.with("content-encoding", "br");
    assert_eq!(brotli.send("POST", "/eureka/apps/ORDERS", "x").await.status, 415);
    node.stop().await;
}

/// Bad input: the right status, no body on Eureka's paths but the reason of a refused
/// registration, and nothing changes.
#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    let (node, http) = node(|config| config.edge.body_bytes_max = 100_000).await;
    http.registered(&instance("orders", "a", 80, 90)).await;
    let before = http.get("/tradewind/v1/status").await.json()["revision"].clone();
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut it = instance("orders", "a", 80, 90);
        change(&mut it["instance"]);
        it.to_string()
    };
    let json = http.with("content-type", "application/json");
    let orders = "/eureka/apps/ORDERS";
    for (body, reason) in [
        ("{".to_owned(), true),
        (String::new(), true),
        ("[]".to_owned(), true),
        (changed(&|it| it["app"] = "PAY".into()), true),
        (changed(&|it| it["hostName"] = "".into()), true),
        (changed(&|it| it["ipAddr"] = serde_json::Value::Null), true),
        (changed(&|it| it["dataCenterInfo"] = serde_json::Value::Null), true),
        (changed(&|it| it["port"] = 80.into()), true),
        (changed(&|it| it["instanceId"] = "x".repeat(300).into()), true),
        (changed(&|it| it["metadata"]["k"] = "v".repeat(20_000).into()), true),
    ] {
        let got = json.send("POST", orders, body.clone()).await;
        assert_eq!(got.status, 400, "{body}");
        assert_eq!(!got.body.is_empty(), reason, "{body}");
        assert!(got.header("content-type").starts_with("text/plain"), "{body}");
    }
    for (method, path, body, status) in [
        ("POST", orders, "x".repeat(200_000), 413),
        ("PUT", "/eureka/apps/ORDERS/nobody", String::new(), 404),
        ("DELETE", "/eureka/apps/ORDERS/nobody", String::new(), 404),
        ("GET", "/eureka/apps/NOBODY", String::new(), 404),
        ("GET", "/eureka/apps/ORDERS/nobody", String::new(), 404),
        ("GET", "/eureka/instances/nobody", String::new(), 404),
        ("PUT", "/eureka/apps/ORDERS/a/status", String::new(), 500),
        ("PUT", "/eureka/apps/ORDERS/a/status?value=up", String::new(), 500),
        ("PUT", "/eureka/apps/ORDERS/nobody/status?value=DOWN", String::new(), 404),
        ("DELETE", "/eureka/apps/ORDERS/nobody/status", String::new(), 404),
        ("PUT", "/eureka/apps/ORDERS/nobody/metadata?a=b", String::new(), 404),
        ("PUT", "/eureka/asg/x/status?value=ENABLED", String::new(), 400),
        ("PATCH", "/eureka/apps", String::new(), 405),
        ("GET", "/eureka/nothing/here", String::new(), 404),
        ("GET", "/eureka/apps/%ff", String::new(), 400),
        ("POST", "/eureka/peerreplication/batch/", "{".to_owned(), 400),
    ] {
        let got = json.send(method, path, body).await;
        assert_eq!(got.status, status, "{method} {path}");
        assert!(got.body.is_empty(), "{method} {path}: {}", got.text());
    }
    let latin = http.with("content-type", "application/json; charset=utf-16");
    assert_eq!(latin.send("POST", orders, "{}").await.status, 415);
    assert_eq!(http.get("/tradewind/v1/status").await.json()["revision"], before);
    node.stop().await;
}

#[tokio::test]
async fn a_full_table_says_so() {
    let (node, http) = node(|config| config.limits.instances_max = 1).await;
    http.registered(&instance("orders", "a", 80, 90)).await;
    let refused = http.register(&instance("orders", "b", 80, 90)).await;
    assert_eq!(refused.status, 507);
    assert_eq!(refused.text(), "the registry holds 1 instances already");
    http.registered(&instance("orders", "a", 81, 90)).await;
    node.stop().await;
}

#[tokio::test]
async fn with_a_user_set_everything_but_health_asks_for_it() {
    let user = Some(("eureka".to_owned(), SecretString::from("s3cret")));
    let (node, http) = node(|config| config.user = user).await;
    for path in ["/eureka/apps", "/eureka/apps/delta", "/tradewind/v1/status", "/"] {
        let got = http.get(path).await;
        assert_eq!(got.status, 401, "{path}");
        assert!(got.header("www-authenticate").starts_with("Basic "), "{path}");
        assert_eq!(got.body.is_empty(), path.starts_with("/eureka"), "{path}");
        // eureka:s3cret, and eureka:wrong
        let right = http.with("authorization", "Basic ZXVyZWthOnMzY3JldA==");
        assert_eq!(right.get(path).await.status, 200, "{path}");
        let wrong = http.with("authorization", "Basic ZXVyZWthOndyb25n");
        assert_eq!(wrong.get(path).await.status, 401, "{path}");
    }
    assert_eq!(http.register(&instance("orders", "a", 80, 90)).await.status, 401);
    assert_eq!(http.get("/health/ready").await.status, 200);
    node.stop().await;
}

/// Many pollers, many changes: every answer is at least as new as its request.
#[tokio::test]
async fn concurrent_pollers_never_see_the_past() {
    let (node, http) = node(|_| {}).await;
    for n in 0..300 {
        http.registered(&instance("bulk", &format!("b{n}"), 80, 90)).await;
    }
    let poll = |n: usize| {
        let http =
            if n.is_multiple_of(2) { http.clone() } else { http.with("accept-encoding", "gzip") };
        async move {
            for _ in 0..5 {
                let mine = format!("p{n}");
                http.registered(&instance("orders", &mine, 80, 90)).await;
                let got = http.get("/eureka/apps").await;
                let text = if got.header("content-encoding") == "gzip" {
                    let mut text = String::new();
                    let mut unpacked = flate2::read::GzDecoder::new(&got.body[..]);
                    std::io::Read::read_to_string(&mut unpacked, &mut text).unwrap();
                    text
                } else {
                    got.text()
                };
                assert!(text.contains(&format!("\"{mine}\"")));
                let json: serde_json::Value = serde_json::from_str(&text).unwrap();
                let count = text.matches("\"instanceId\"").count();
                assert_eq!(json["applications"]["apps__hashcode"], format!("UP_{count}_"));
                assert_eq!(http.delete(&format!("/eureka/apps/ORDERS/{mine}")).await, 200);
            }
        }
    };
    futures_util::future::join_all((0..8).map(poll)).await;
    node.stop().await;
}

#[tokio::test]
async fn the_page_for_people_shows_names_as_text() {
    let (node, http) = node(|_| {}).await;
    http.registered(&instance("orders", "<script>alert(1)</script>", 80, 90)).await;
    let page = http.get("/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.text().contains("&lt;script&gt;") && !page.text().contains("<script>"));
    node.stop().await;
}
