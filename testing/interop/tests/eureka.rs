//! Published Eureka clients register, stay, discover and leave.
#![cfg(feature = "services")]

use tokio::process::Command;
use tradewind_e2e::{eventually, wanted};
use tradewind_interop::{Foreign, LIMIT, Registry};

/// A listening socket, so that a probe of the instance finds somebody.
fn probe_port() -> (std::net::TcpListener, u16) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

fn script(name: &str) -> String {
    format!("{}/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Registers PROBE, which the foreign client is to discover.
async fn register_probe(registry: &Registry, port: u16) {
    let body = serde_json::json!({"instance": {
        "instanceId": "probe-1", "hostName": "127.0.0.1", "app": "PROBE", "ipAddr": "127.0.0.1",
        "status": "UP", "vipAddress": "probe",
        "port": {"$": port, "@enabled": "true"},
        "leaseInfo": {"renewalIntervalInSecs": 30, "durationInSecs": 90},
        "dataCenterInfo": {
            "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn",
        },
    }});
    let answer = registry.client().post("/eureka/apps/PROBE", &body).await.unwrap();
    assert_eq!(answer.status.as_u16(), 204, "{}", answer.text());
}

async fn lives_with_us(registry: Registry, service: &str, mut client: Foreign) {
    let (_listener, probe) = probe_port();
    assert_eq!(client.says().await, "registered");
    register_probe(&registry, probe).await;
    assert_eq!(client.says().await, format!("seen 127.0.0.1:{probe}"));

    // It is renewed again and again: the age of its last heartbeat falls at least three times.
    let (mut falls, mut last) = (0, 0);
    eventually("heartbeats", LIMIT, async || {
        let instance = registry.explain(service).await.ok_or("not registered")?;
        assert_eq!(instance["status"], "UP", "{instance}");
        let age = instance["why"]["last_heartbeat_age_ms"].as_u64().unwrap();
        falls += usize::from(age < last);
        last = age;
        wanted(falls, |it| 3 <= *it)
    })
    .await;

    client.leave().await;
    assert_eq!(client.says().await, "left");
    assert!(registry.explain(service).await.is_none());
}

/// R1.2, R1.7: py-eureka-client reads XML and registers by JSON.
#[tokio::test]
async fn the_python_client_registers_discovers_and_leaves() {
    let registry = Registry::start().await;
    let (_listener, own) = probe_port();
    let mut command = Command::new(variable("TRADEWIND_TEST_PYTHON"));
    command.arg(script("python.py"));
    command.arg(format!("http://127.0.0.1:{}/eureka", registry.port)).arg(own.to_string());
    lives_with_us(registry, "interop-python", Foreign::start(command)).await;
}

/// R1.2, R1.7: eureka-js-client, with deltas, under the prefix of Netflix's own server.
#[tokio::test]
async fn the_node_client_registers_discovers_and_leaves() {
    let registry = Registry::start().await;
    let (_listener, own) = probe_port();
    let mut command = Command::new("node");
    command.env("NODE_PATH", variable("TRADEWIND_TEST_NODE_MODULES"));
    command.arg(script("node.js")).arg("127.0.0.1");
    command.arg(registry.port.to_string()).arg(own.to_string());
    lives_with_us(registry, "interop-node", Foreign::start(command)).await;
}
