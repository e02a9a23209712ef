//! The estate of one tour: `up` as a child process, in a folder and on ports of its own.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;
use tradewind_base::{Rng, Tasks};
use tradewind_service::Keys;

use super::proof::{Held, Unmet, hold, until};
use super::web::{Ask, Web};
use super::wire::Wire;
use crate::cli::Cli;

/// How long all of it may take to be ready: debug builds on a busy machine take a while.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take to end by itself: `up` promises ten seconds.
const END_LIMIT: Duration = Duration::from_secs(11);
/// How long what was killed may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// What the environment variables of the configuration begin with.
const ENVIRONMENT: &str = "TRADEWIND__";

/// Ports below those that Linux gives to outgoing connections: a process that was killed would
/// find its port taken by a connection of another one.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Where everything listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) registry: SocketAddr,
    pub(super) broker: SocketAddr,
    /// Used only where the coordinator is to decide the orders.
    coordinator: SocketAddr,
    pub(super) gateway: SocketAddr,
    admin: SocketAddr,
    order: SocketAddr,
    inventory: [SocketAddr; 2],
    points: SocketAddr,
    pub(super) warehouse: [SocketAddr; 2],
}

/// A row of `run.json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) pid: i32,
    pub(super) address: SocketAddr,
}

/// A process that stands still until this is dropped.
#[derive(Debug)]
pub(super) struct Frozen(i32);

/// The running estate.
#[derive(Debug)]
pub(super) struct Estate {
    pub(super) ports: Ports,
    folder: PathBuf,
    /// What every command of ours is told: data folder and settings.
    common: Vec<OsString>,
    up: Child,
    /// `up` ends when this closes. Held, never written to.
    stdin: Option<ChildStdin>,
}

impl Ports {
    fn free() -> std::io::Result<Self> {
        // All are held until all are known, so that none is named twice.
        let (mut held, mut rng) = (Vec::new(), Rng::from_entropy());
        let mut next = || {
            let listener = listener(&mut rng)?;
            let address = listener.local_addr();
            held.push(listener);
            address
        };
        Ok(Self {
            registry: next()?,
            broker: next()?,
            coordinator: next()?,
            gateway: next()?,
            admin: next()?,
            order: next()?,
            inventory: [next()?, next()?],
            points: next()?,
            warehouse: [next()?, next()?],
        })
    }

    fn settings(&self, wires: [SocketAddr; 2]) -> Vec<String> {
        let ([inventory, inventory_second], [warehouse, warehouse_second]) =
            (self.inventory, self.warehouse);
        let [wire, wire_second] = wires;
        vec![
            format!("registry.bind={}", self.registry),
            format!("discovery.urls=http://{}", self.registry),
            format!("broker.bind={}", self.broker),
            format!("coordinator.bind={}", self.coordinator),
            format!("gateway.bind={}", self.gateway),
            format!("gateway.admin.bind={}", self.admin),
            format!("order.bind={}", self.order),
            format!("inventory.bind={inventory}"),
            format!("up.inventory_second={inventory_second}"),
            format!("points.bind={}", self.points),
            format!("warehouse.bind={warehouse}"),
            format!("warehouse.advertise={wire}"),
            format!("up.warehouse_second={warehouse_second}"),
            format!("up.warehouse_second_advertise={wire_second}"),
        ]
    }
}

impl Estate {
    /// Starts everything in a new folder, with `defaults` below what the command line sets. It is
    /// not ready yet.
    pub(super) async fn start(
        cli: &Cli,
        defaults: &[&str],
        wire: &Wire,
        tasks: &Tasks,
    ) -> Held<Self> {
        let failed = |it| Unmet::new("an estate of its own for the tour", it);
        let ports = Ports::free().map_err(failed)?;
        let [first, second] = ports.warehouse;
        let wires = [
            wire.lay("warehouse-a", first, tasks).await?,
            wire.lay("warehouse-b", second, tasks).await?,
        ];
        let folder = folder().map_err(failed)?;
        let mut common = vec![OsString::from("--data"), folder.join("data").into()];
        if let Some(file) = &cli.config {
            let file = std::path::absolute(file).map_err(failed)?;
            common.extend([OsString::from("--config"), file.into()]);
        }
        let defaults = defaults.iter().map(|it| (*it).to_owned());
        let settings = defaults.chain(cli.set.clone()).chain(ports.settings(wires));
        common.extend(settings.flat_map(|it| [OsString::from("--set"), it.into()]));
        let started = start(&folder, &common);
        let (up, stdin) = started.map_err(|it| {
            drop(std::fs::remove_dir_all(&folder));
            failed(it)
        })?;
        Ok(Self { ports, folder, common, up, stdin })
    }

    /// Waits until it is ready.
    pub(super) async fn ready(&mut self, web: &Web) -> Held {
        let (admin, end) = (self.ports.admin, Instant::now() + READY_LIMIT);
        loop {
            if let Ok(Some(status)) = self.up.try_wait() {
                let output = std::fs::read_to_string(self.output()).unwrap_or_default();
                return Err(Unmet::new("`tradewind up` running", format!("{status}: {output}")));
            }
            // The gateway is the last one to be started: then all others are ready.
            let ready = web.send(admin, Ask::get("/health/ready")).await;
            match ready.and_then(|it| hold(it.status.is_success(), "all ready", it.brief())) {
                Ok(()) => return Ok(()),
                Err(unmet) if end <= Instant::now() => return Err(unmet),
                Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
            }
        }
    }

    /// Where the logs are.
    pub(super) fn logs(&self) -> PathBuf {
        self.folder.join("data/logs")
    }

    /// The folder of everything.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn output(&self) -> PathBuf {
        self.folder.join("up.out")
    }

    /// What the servers of this estate know each other by.
    pub(super) fn keys(&self) -> Held<Keys> {
        let keys = Keys::load_or_create(&self.folder.join("data"));
        keys.map_err(|it| Unmet::new("the secret of the estate", it))
    }

    /// Another command of this binary on the same data.
    pub(super) fn command(&self, word: &str) -> std::io::Result<Command> {
        command(&self.folder, word, &self.common)
    }

    /// What runs.
    pub(super) fn processes(&self) -> Held<Vec<Process>> {
        let path = self.folder.join("data/run.json");
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|it| Unmet::new(format!("the file {}", path.display()), it))?;
        serde_json::from_str(&text).map_err(|it| Unmet::new("a list of processes", it))
    }

    /// One that runs.
    pub(super) fn process(&self, name: &str) -> Held<Process> {
        let found = self.processes()?.into_iter().find(|it| it.name == name);
        found.ok_or_else(|| Unmet::new(format!("a process {name}"), "none"))
    }

    /// Waits until `old` has been started again.
    pub(super) async fn started_again(&self, old: &Process, limit: Duration) -> Held<Process> {
        until(limit, async || {
            let now = self.process(&old.name)?;
            let wanted = format!("{} started again", old.name);
            if now.pid == old.pid { Err(Unmet::new(wanted, "the dead one")) } else { Ok(now) }
        })
        .await
    }

    /// Ends it in order, or at once when that takes too long.
    pub(super) async fn end(&mut self) {
        self.stdin = None;
        if tokio::time::timeout(END_LIMIT, self.up.wait()).await.is_err() {
            self.kill().await;
        }
    }

    /// Ends it at once: told a second time, `up` kills what is left.
    pub(super) async fn kill(&mut self) {
        self.stdin = None;
        let pid = self.up.id().and_then(|it| i32::try_from(it).ok());
        if let Some(pid) = pid {
            drop(signal(pid, Signal::INT));
        }
        if tokio::time::timeout(KILL_LIMIT, self.up.wait()).await.is_err() {
            drop(self.up.kill().await);
        }
    }

    /// Removes the folder.
    pub(super) fn remove(&self) -> std::io::Result<()> {
        std::fs::remove_dir_all(&self.folder)
    }
}

impl Process {
    /// Ends it as a crash would.
    pub(super) fn kill(&self) -> Held {
        signal(self.pid, Signal::KILL)
    }

    /// Stops it where it stands. Its connections stay open, and nobody answers on them.
    pub(super) fn freeze(&self) -> Held<Frozen> {
        signal(self.pid, Signal::STOP)?;
        Ok(Frozen(self.pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        drop(signal(self.0, Signal::CONT));
    }
}

fn signal(pid: i32, signal: Signal) -> Held {
    let sent = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH);
    let sent = sent.and_then(|it| kill_process(it, signal));
    sent.map_err(|it| Unmet::new(format!("a process {pid}"), it))
}

/// A listener on a free port that stays free while its process is started again.
fn listener(rng: &mut Rng) -> std::io::Result<TcpListener> {
    for _ in 0..100 {
        let port = PORTS.start.saturating_add(u16::try_from(rng.below(PORTS.len())).unwrap_or(0));
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener);
        }
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

/// A new folder in the place for temporary ones, for its owner alone.
fn folder() -> std::io::Result<PathBuf> {
    let name = format!("tradewind-tour-{:08x}", Rng::from_entropy().u64() >> 32);
    let folder = std::path::absolute(std::env::temp_dir())?.join(name);
    DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

fn start(folder: &Path, common: &[OsString]) -> std::io::Result<(Child, Option<ChildStdin>)> {
    let output = File::create(folder.join("up.out"))?;
    let mut child = command(folder, "up", common)?
        .arg("--supervised")
        .stdin(Stdio::piped())
        .stdout(output.try_clone()?)
        .stderr(output)
        // Ctrl-C is for the tour, which then ends this in order.
        .process_group(0)
        .spawn()?;
    let stdin = child.stdin.take();
    Ok((child, stdin))
}

/// A command of this binary, away from the settings of the folder and the environment it was
/// called in.
fn command(folder: &Path, word: &str, common: &[OsString]) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(word).args(common).current_dir(folder).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(ENVIRONMENT) {
            command.env_remove(name);
        }
    }
    Ok(command)
}
