//! One process: start, log, readiness, end.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;

use super::log::LogFile;
use super::plan::ChildPlan;

/// The exit code with which a server says that its configuration is wrong.
const MISCONFIGURED: i32 = crate::MISCONFIGURED as i32;

/// How long one question for readiness may take.
const PROBE_LIMIT: Duration = Duration::from_millis(500);

/// How a process ended.
#[derive(Debug)]
pub(super) struct Exit {
    /// In words: `exit status: 1`, `signal: 9 (SIGKILL)`.
    pub(super) how: String,
    /// Whether it said that starting it again cannot help.
    pub(super) misconfigured: bool,
    /// The end of what it wrote.
    pub(super) tail: String,
}

/// A running child.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Closing it tells the child to end. Held, never written to.
    stdin: Option<ChildStdin>,
    tail: oneshot::Receiver<String>,
}

impl Process {
    /// Starts the child with its output going to its log file.
    pub(super) async fn start(
        plan: &ChildPlan,
        executable: &Path,
        data: &Path,
        tasks: &tradewind_base::Tasks,
    ) -> anyhow::Result<Self> {
        let log = LogFile::open(data.join("logs").join(format!("{}.log", plan.name)))
            .await
            .with_context(|| format!("cannot open the log of {}", plan.name))?;
        let mut child = Command::new(executable)
            .args(&plan.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", plan.name))?;
        let stdin = child.stdin.take();
        let output = child.stderr.take();
        let (send, tail) = oneshot::channel();
        tasks.spawn("child log", |_| async move {
            if let Some(output) = output {
                // Nobody may want the tail any more.
                drop(send.send(log.drain(output).await));
            }
        });
        Ok(Self { child, stdin, tail })
    }

    /// The process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end.
    ///
    /// # Cancel safety
    /// Safe: what was not taken by a cancelled call is there for the next one.
    pub(super) async fn ended(&mut self) -> Exit {
        let status = self.child.wait().await;
        // A grandchild could hold the pipe open; the tail is worth only a short wait.
        let tail = tokio::time::timeout(Duration::from_millis(200), &mut self.tail).await;
        let tail = tail.ok().and_then(Result::ok).unwrap_or_default();
        match status {
            Ok(status) => Exit {
                how: status.to_string(),
                misconfigured: status.code() == Some(MISCONFIGURED),
                tail,
            },
            Err(error) => Exit { how: format!("lost: {error}"), misconfigured: false, tail },
        }
    }

    /// Tells it to drain and end.
    pub(super) fn ask_to_end(&mut self) {
        self.stdin = None;
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        if let Err(error) = self.child.start_kill() {
            tracing::debug!(%error, "already gone");
        }
    }
}

/// Whether the child answers that it is ready.
pub(super) async fn ready(plan: &ChildPlan) -> bool {
    let Some(address) = plan.health() else { return true };
    let probe = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET /health/ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0_u8; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(&head == b"HTTP/1.1 200")
    };
    matches!(tokio::time::timeout(PROBE_LIMIT, probe).await, Ok(Ok(true)))
}
