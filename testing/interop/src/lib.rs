//! Foreign clients, unmodified, against the real binary.
//!
//! The clients are in `clients/`, a few lines each around a published library. The tests that run
//! them are behind the feature `services`, since something must have installed those libraries:
//! `cargo xtask test` does.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tradewind_e2e::{Client, binary, eventually, wanted};

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A registry process of its own.
#[derive(Debug)]
pub struct Registry {
    _process: Child,
    _folder: tempfile::TempDir,
    /// Where it listens.
    pub port: u16,
}

impl Registry {
    /// Starts one on a free port and waits until it is ready.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = tradewind_e2e::Ports::free().registry;
        let process = Command::new(binary())
            .current_dir(folder.path())
            .args(["registry", "--data", "data", "--set"])
            .arg(format!("registry.bind=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary can be started");
        let it = Self { _process: process, _folder: folder, port };
        eventually("the registry is ready", LIMIT, async || {
            let answer = it.client().get("/health/ready").await.map_err(|it| it.to_string())?;
            wanted(answer.status.as_u16(), |it| *it == 200)
        })
        .await;
        it
    }

    /// A client of it that asks for JSON.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(format!("127.0.0.1:{}", self.port)).with("accept", "application/json")
    }

    /// One instance as the registry explains it, if it is there.
    ///
    /// # Panics
    /// When the registry does not answer.
    pub async fn explain(&self, service: &str) -> Option<serde_json::Value> {
        let path = format!("/tradewind/v1/instances/{service}");
        let answer = self.client().get(&path).await.expect("the registry answers");
        answer.json()["instances"].get(0).cloned()
    }
}

/// A foreign client, running.
#[derive(Debug)]
pub struct Foreign {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Foreign {
    /// Starts a command that speaks as the scripts in `clients/` do.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the client can be started");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { _process: process, input, output }
    }

    /// Waits for the next step it tells.
    ///
    /// # Panics
    /// When it ends or says nothing for long.
    pub async fn says(&mut self) -> String {
        let line = tokio::time::timeout(LIMIT, self.output.next_line()).await;
        line.expect("the client goes on").expect("readable").expect("the client still runs")
    }

    /// Tells it to leave.
    ///
    /// # Panics
    /// When it has ended.
    pub async fn leave(&mut self) {
        self.input.write_all(b"leave\n").await.expect("the client still runs");
    }
}
