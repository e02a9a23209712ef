//! Processes under measurement: a whole estate, or a few servers.
#![expect(clippy::print_stdout, reason = "what an audit finds is shown")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::buyer::ask;
use crate::machine_facts::cpu_time;

/// How long an estate may take to be ready.
const START_MAX: Duration = Duration::from_secs(60);

/// The settings that move each listener of an estate.
const PORTS: [&str; 11] = [
    "registry.bind",
    "gateway.bind",
    "gateway.admin.bind",
    "order.bind",
    "inventory.bind",
    "up.inventory_second",
    "broker.bind",
    "points.bind",
    "warehouse.bind",
    "up.warehouse_second",
    "coordinator.bind",
];

/// A process that is measured.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) address: SocketAddr,
}

/// What is measured together.
pub(crate) struct Estate {
    pub(crate) processes: Vec<Process>,
    pub(crate) data: PathBuf,
    children: Vec<Child>,
    _folder: TempDir,
}

/// What an estate had used and done at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used {
    pub(crate) cpu: Duration,
    /// Durable commits: each waits for the disk.
    pub(crate) commits: u64,
    pub(crate) transactions: u64,
}

/// Addresses that were free a moment ago.
pub(crate) fn free_addresses(count: usize) -> std::io::Result<Vec<SocketAddr>> {
    // All are held until all are known, so that none is named twice.
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()?;
    held.iter().map(TcpListener::local_addr).collect()
}

impl Estate {
    /// `tradewind up` in a folder of its own, with settings of its own.
    pub(crate) async fn up(
        binary: &Path,
        folder: &Path,
        settings: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(folder)?;
        let data = folder.path().join("data");
        let mut command = command(binary, &data);
        let addresses = free_addresses(PORTS.len())?;
        for (key, address) in PORTS.iter().zip(&addresses) {
            command.arg("--set").arg(format!("{key}={address}"));
        }
        let registry = addresses.first().context("no address")?;
        command.arg("--set").arg(format!("discovery.urls=http://{registry}"));
        // So that what an order causes falls into its own measurement.
        command.args(["--set", "warehouse.ship_after=200ms"]);
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let said = folder.path().join("up.out");
        let mut child = command
            .args(["up", "--supervised"])
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(&said)?)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the estate")?;
        let limit = Instant::now() + START_MAX;
        while !std::fs::read_to_string(&said)?.contains("Tradewind is up") {
            let early = child.try_wait()?.is_some() || limit < Instant::now();
            anyhow::ensure!(!early, "the estate is not up: {}", std::fs::read_to_string(&said)?);
            sleep(Duration::from_millis(50)).await;
        }
        let processes = serde_json::from_slice(&std::fs::read(data.join("run.json"))?)?;
        Ok(Self { processes, data, children: vec![child], _folder: folder })
    }

    /// An empty one, to which servers are added.
    pub(crate) fn empty(folder: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(folder)?;
        let data = folder.path().join("data");
        Ok(Self { processes: Vec::new(), data, children: Vec::new(), _folder: folder })
    }

    /// Starts a server and waits until it is ready.
    pub(crate) async fn add(
        &mut self,
        name: &str,
        address: SocketAddr,
        command: &mut Command,
    ) -> anyhow::Result<()> {
        let log = self.data.with_file_name(format!("{name}.log"));
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        self.processes.push(Process { name: name.to_owned(), pid: child.id(), address });
        self.children.push(child);
        let limit = Instant::now() + START_MAX;
        loop {
            let ready = ask(address, "GET", "/health/live", "", "").await;
            if ready.is_ok_and(|it| it.0 == 200) {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < limit,
                "{name} is not ready: {}",
                std::fs::read_to_string(&log).unwrap_or_default(),
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn process(&self, name: &str) -> anyhow::Result<&Process> {
        let found = self.processes.iter().find(|it| it.name == name);
        found.with_context(|| format!("there is no process {name}"))
    }

    /// Ends it in order, as an operator would, and waits for that.
    pub(crate) async fn stop(mut self, max: Duration) -> anyhow::Result<()> {
        let limit = Instant::now() + max;
        for mut child in std::mem::take(&mut self.children) {
            // Its end is the end of what it started: closed is "stop".
            drop(child.stdin.take());
            while child.try_wait()?.is_none() {
                if limit < Instant::now() {
                    // So that it is killed.
                    self.children.push(child);
                    anyhow::bail!("the estate did not stop within {max:?}");
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Whether every invariant of the shop holds; says which does not.
    pub(crate) fn audit(&self, binary: &Path) -> anyhow::Result<bool> {
        let found = command(binary, &self.data).arg("audit").output()?;
        if !found.status.success() {
            println!("{}", String::from_utf8_lossy(&found.stdout));
        }
        Ok(found.status.success())
    }

    /// What it has used until now.
    pub(crate) async fn used(&self) -> anyhow::Result<Used> {
        let mut used = Used::default();
        for it in &self.processes {
            used.cpu += cpu_time(&it.pid.to_string());
            // Registry and gateway have no such page.
            let Ok((200, text)) = ask(it.address, "GET", "/databases", "", "").await else {
                continue;
            };
            #[derive(Deserialize)]
            struct Counted {
                commits: u64,
                transactions: u64,
            }
            for it in serde_json::from_str::<Vec<Counted>>(&text).unwrap_or_default() {
                used.commits += it.commits;
                used.transactions += it.transactions;
            }
        }
        Ok(used)
    }
}

impl Used {
    /// What was added since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            commits: self.commits.saturating_sub(before.commits),
            transactions: self.transactions.saturating_sub(before.transactions),
        }
    }
}

impl Drop for Estate {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Its end is the end of the standard input of those it started.
            drop(child.stdin.take());
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The binary with its data folder, and nobody's environment.
pub(crate) fn command(binary: &Path, data: &Path) -> Command {
    let mut command = Command::new(binary);
    command.arg("--data").arg(data);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRADEWIND__") {
            command.env_remove(name);
        }
    }
    command
}
