//! What needs a process of its own: signals, standard input, the log.
//!
//! The test starts itself again as the process to look at, told by an environment variable.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tradewind_base::Tasks;
use tradewind_service::Stop;
use tradewind_service::telemetry::{self, Format, TelemetryConfig};

const ROLE: &str = "TRADEWIND_TEST_ROLE";
const LIMIT: Duration = Duration::from_secs(20);

/// The process that is looked at; an ordinary run of the tests passes through.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let config = TelemetryConfig { format: Format::Json, ..TelemetryConfig::default() };
    let guard = telemetry::init(&config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tasks = Tasks::new();
        let stop = Stop::on_signals(role == "supervised", &tasks).unwrap();
        tracing::info!(secret = ?tradewind_base::SecretString::from("hush"), "ready");
        stop.wait().await;
        tasks.shutdown(LIMIT).await.unwrap();
        tracing::info!("stopped in order");
    });
    drop(guard);
}

struct Looked {
    child: Child,
    log: std::process::ChildStderr,
    seen: String,
}

fn start(role: &str) -> Looked {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = child.stderr.take().unwrap();
    let mut looked = Looked { child, log, seen: String::new() };
    looked.read_until("\"ready\"");
    looked
}

impl Looked {
    fn read_until(&mut self, text: &str) {
        let mut byte = [0_u8; 1];
        while !self.seen.contains(text) {
            let count = self.log.read(&mut byte).unwrap();
            assert_ne!(count, 0, "the process ended first: {}", self.seen);
            self.seen.push(char::from(byte[0]));
        }
    }

    fn end(mut self) -> (ExitStatus, String) {
        self.log.read_to_string(&mut self.seen).unwrap();
        (self.child.wait().unwrap(), self.seen)
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }
}

#[test]
fn signals_stop_in_order_and_the_log_is_json_without_secrets() {
    for name in ["TERM", "INT"] {
        let mut looked = start("alone");
        // Standard input means nothing to a process that nobody supervises.
        drop(looked.child.stdin.take());
        looked.signal(name);
        let (status, log) = looked.end();
        assert!(status.success(), "{log}");
        assert!(log.contains("stopped in order") && log.contains(&format!("SIG{name}")), "{log}");
        assert!(!log.contains("hush"), "{log}");
        for line in log.lines().filter(|it| it.contains("\"level\"")) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(line["message"].is_string() && line["timestamp"].is_string(), "{line}");
        }
    }
}

#[test]
fn a_supervised_process_stops_when_its_supervisor_goes() {
    let mut looked = start("supervised");
    let mut input = looked.child.stdin.take().unwrap();
    input.write_all(b"noise is ignored\n").unwrap();
    assert!(looked.child.try_wait().unwrap().is_none());
    drop(input);
    let (status, log) = looked.end();
    assert!(status.success() && log.contains("stopped in order"), "{log}");
}
