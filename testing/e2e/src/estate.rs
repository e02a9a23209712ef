//! One `tradewind up` in a folder of its own.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard};
use tradewind_base::fault::FOLDER;

#[cfg(feature = "services")]
use crate::Databases;
use crate::process::signal;
use crate::{Client, Process, alive, binary, eventually, faulty, wanted};

/// How long an estate of debug builds may take to be ready on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// One estate at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// The ports of an estate.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The registry.
    pub registry: u16,
    /// The gateway.
    pub gateway: u16,
    /// The gateway's admin surface.
    pub admin: u16,
    /// The order service.
    pub order: u16,
    /// The two inventory processes.
    pub inventory: [u16; 2],
    /// The broker.
    pub broker: u16,
    /// The coordinator, which runs when a test wants it to.
    pub coordinator: u16,
    /// The points service.
    pub points: u16,
    /// The two warehouse processes.
    pub warehouse: [u16; 2],
    /// One that nobody listens on, for what a test starts itself.
    pub spare: u16,
}

impl Ports {
    /// Ports that were free a moment ago.
    ///
    /// # Panics
    /// When the machine has none.
    #[must_use]
    pub fn free() -> Self {
        // All are held until all are known, so that none is named twice.
        let held: Vec<_> = (0..12).map(|_| listener()).collect();
        let mut ports = held.iter().map(|it| it.local_addr().expect("a bound port").port());
        let mut next = || ports.next().expect("as many ports as asked for");
        Self {
            registry: next(),
            gateway: next(),
            admin: next(),
            order: next(),
            inventory: [next(), next()],
            broker: next(),
            coordinator: next(),
            points: next(),
            warehouse: [next(), next()],
            spare: next(),
        }
    }
}

/// Ports below those that Linux gives to outgoing connections: a server that is down for a moment
/// would find its port taken by a connection of its neighbour, or a client that knocks meanwhile
/// would be connected to itself.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// What [`listener`] has named. It names no port twice: one that nobody listens on now may belong to
/// a server that is not started yet, or is down for a moment.
static NAMED: std::sync::Mutex<BTreeSet<u16>> = std::sync::Mutex::new(BTreeSet::new());

/// A listener on a port of loopback that was free and stays so while a server restarts, and that
/// nobody else in this process was given.
///
/// # Panics
/// When the machine has no free port.
#[must_use]
pub fn listener() -> TcpListener {
    let mut state = RandomState::new().build_hasher().finish();
    let any = std::iter::repeat_with(|| {
        // A step of Knuth's generator; its high bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        PORTS.start + u16::try_from((state >> 33) % PORTS.len() as u64).unwrap_or(0)
    });
    // Every change is one insertion.
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut free = any
        .take(1000)
        .filter(|it| !named.contains(it))
        .filter_map(|it| Some((it, TcpListener::bind(("127.0.0.1", it)).ok()?)));
    let (port, listener) = free.next().expect("a free port");
    named.insert(port);
    listener
}

/// Settings on top of the ports: `key = value` as on the command line.
pub type Settings = Vec<(&'static str, String)>;

/// What the servers of an estate keep their data in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A file for each, in the data folder.
    Sqlite,
    /// A database for each on a real server, made for the estate and dropped with it.
    #[cfg(feature = "services")]
    MariaDb,
}

/// A running estate.
#[derive(Debug)]
pub struct Estate {
    program: &'static Path,
    /// Its folder; the data folder is `data` in it.
    folder: tempfile::TempDir,
    /// Its ports.
    pub ports: Ports,
    settings: Settings,
    up: Child,
    pid: i32,
    /// Dropped after the processes are told to end, which is when an estate is dropped.
    #[cfg(feature = "services")]
    databases: Option<Databases>,
    _turn: MutexGuard<'static, ()>,
}

impl Estate {
    /// Starts an estate with the defaults and waits until it says that it is up.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start() -> Self {
        Self::start_with(Settings::new()).await
    }

    /// Starts an estate with settings of its own.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_with(settings: Settings) -> Self {
        Self::start_on(Storage::Sqlite, settings).await
    }

    /// Starts an estate of the binary that dies and errs where it is told to: see
    /// [`Estate::arm`] and [`Estate::bug`].
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_faulty(settings: Settings) -> Self {
        Self::start_faulty_on(Storage::Sqlite, settings).await
    }

    /// The same on this storage.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_faulty_on(storage: Storage, settings: Settings) -> Self {
        Self::start_as(faulty(), None, storage, settings).await
    }

    /// Starts an estate on this storage.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_on(storage: Storage, settings: Settings) -> Self {
        Self::start_as(binary(), None, storage, settings).await
    }

    /// Starts an estate on ports that are known before: for what stands between its processes.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_at(ports: Ports, storage: Storage, settings: Settings) -> Self {
        Self::start_as(binary(), Some(ports), storage, settings).await
    }

    async fn start_as(
        program: &'static Path,
        ports: Option<Ports>,
        storage: Storage,
        settings: Settings,
    ) -> Self {
        let turn = TURN.lock().await;
        // Not before its turn: what was free then may be of the estate that is just ending.
        let ports = ports.unwrap_or_else(Ports::free);
        let mut all = Settings::new();
        #[cfg(feature = "services")]
        let databases = (storage == Storage::MariaDb).then(Databases::create);
        match storage {
            Storage::Sqlite => {}
            #[cfg(feature = "services")]
            Storage::MariaDb => all.extend(databases.iter().flat_map(Databases::settings)),
        }
        // What a test sets counts more.
        all.extend(settings);
        let settings = all;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let up = spawn(program, folder.path(), ports, &settings);
        let pid = pid_of(&up);
        let mut estate = Self {
            program,
            folder,
            ports,
            settings,
            up,
            pid,
            #[cfg(feature = "services")]
            databases,
            _turn: turn,
        };
        estate.wait_until_up().await;
        estate
    }

    /// Starts again on the same data after [`Estate::interrupt`] or [`Estate::kill`].
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_again(&mut self) {
        self.up = spawn(self.program, self.folder.path(), self.ports, &self.settings);
        self.pid = pid_of(&self.up);
        self.wait_until_up().await;
    }

    async fn wait_until_up(&mut self) {
        let end = tokio::time::Instant::now() + START_LIMIT;
        let output = self.folder.path().join("up.out");
        loop {
            let text = std::fs::read_to_string(&output).unwrap_or_default();
            if text.contains("Tradewind is up") {
                return;
            }
            let ended = self.up.try_wait().expect("a child can be asked");
            let errors =
                std::fs::read_to_string(self.folder.path().join("up.err")).unwrap_or_default();
            assert!(
                ended.is_none() && tokio::time::Instant::now() < end,
                "not up ({ended:?}):\n{text}{errors}{}",
                self.logs(),
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// What all servers have logged.
    #[must_use]
    pub fn logs(&self) -> String {
        let folder = self.data().join("logs");
        let mut text = String::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            text.push_str(&format!("--- {}\n{log}", entry.file_name().to_string_lossy()));
        }
        text
    }

    /// Leaves the folder where it is when the estate ends, for whoever looks for a cause.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its databases, when it keeps them on a real server.
    #[cfg(feature = "services")]
    #[must_use]
    pub const fn databases(&self) -> Option<&Databases> {
        self.databases.as_ref()
    }

    /// A number that a query finds in the database of a server, on either storage.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn number(&self, server: &str, sql: &str) -> anyhow::Result<i64> {
        #[cfg(feature = "services")]
        if let Some(databases) = &self.databases {
            use mysql::prelude::Queryable as _;
            let found = databases.connect(server).query_first(sql)?;
            return found.ok_or_else(|| anyhow::anyhow!("no row: {sql}"));
        }
        self.count(server, sql)
    }

    /// A client of the gateway.
    #[must_use]
    pub fn gateway(&self) -> Client {
        Client::new(format!("127.0.0.1:{}", self.ports.gateway))
    }

    /// A client of the gateway that is logged in as `alice`.
    ///
    /// # Panics
    /// When she cannot log in.
    pub async fn alice(&self) -> Client {
        let token = self.token().await;
        self.gateway().bearer(&token)
    }

    /// A token of `alice`.
    ///
    /// # Panics
    /// When she cannot log in.
    pub async fn token(&self) -> String {
        let body = serde_json::json!({"username": "alice", "password": "alice-demo"});
        let answer = self.gateway().post("/order/login", &body).await.expect("an answer");
        let token = answer.json()["access_token"].as_str().map(str::to_owned);
        token.unwrap_or_else(|| panic!("no token: {} {}", answer.status, answer.text()))
    }

    /// A client of the registry.
    #[must_use]
    pub fn registry(&self) -> Client {
        Client::new(format!("127.0.0.1:{}", self.ports.registry))
    }

    /// A client of the gateway's admin surface, with its token.
    ///
    /// # Panics
    /// When the token file is not there.
    #[must_use]
    pub fn admin(&self) -> Client {
        let token =
            std::fs::read_to_string(self.data().join("admin.token")).expect("the admin token");
        Client::new(format!("127.0.0.1:{}", self.ports.admin)).bearer(token.trim())
    }

    /// The children as `run.json` lists them.
    ///
    /// # Panics
    /// When there is no such file.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let text = std::fs::read_to_string(self.data().join("run.json")).expect("run.json");
        serde_json::from_str(&text).expect("run.json is a list of processes")
    }

    /// One child.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn process(&self, name: &str) -> Process {
        let found = self.processes().into_iter().find(|it| it.name == name);
        found.unwrap_or_else(|| panic!("{name} is not running"))
    }

    /// Starts one server beside those of `up`, on the same data: `["shop", "inventory"]`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_beside(&self, words: &[&str], settings: &Settings) -> Child {
        self.command(settings)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a server can be started")
    }

    /// The binary with the settings of this estate and more, to be given its words.
    #[must_use]
    pub fn command(&self, settings: &Settings) -> Command {
        let all = [&self.settings[..], settings].concat();
        command(self.program, self.folder.path(), self.ports, &all)
    }

    /// Sends Ctrl-C and waits for the end; returns the exit code and how long it took.
    ///
    /// # Panics
    /// When it does not end within half a minute.
    pub async fn interrupt(&mut self) -> (Option<i32>, Duration) {
        let start = tokio::time::Instant::now();
        signal(self.pid, Signal::INT);
        (self.ended().await, start.elapsed())
    }

    /// Sends Ctrl-C, and once more when it says that it is stopping; returns the exit code and how
    /// long the end took from there.
    ///
    /// # Panics
    /// When it does not end within half a minute.
    pub async fn interrupt_twice(&mut self) -> (Option<i32>, Duration) {
        signal(self.pid, Signal::INT);
        let output = self.folder.path().join("up.out");
        eventually("up says that it stops", Duration::from_secs(10), || async {
            let text = std::fs::read_to_string(&output).unwrap_or_default();
            wanted(text, |it| it.contains("Ctrl-C again"))
        })
        .await;
        let start = tokio::time::Instant::now();
        signal(self.pid, Signal::INT);
        (self.ended().await, start.elapsed())
    }

    async fn ended(&mut self) -> Option<i32> {
        let status = tokio::time::timeout(Duration::from_secs(30), self.up.wait()).await;
        status.expect("up ends").expect("up can be waited for").code()
    }

    /// Kills the supervisor alone, as the kernel would, and waits until every child is gone too.
    ///
    /// # Panics
    /// When a child stays.
    pub async fn kill(&mut self) {
        let children = self.processes();
        signal(self.pid, Signal::KILL);
        self.up.wait().await.expect("up can be waited for");
        eventually("all children end", Duration::from_secs(15), || async {
            let left: Vec<_> = children.iter().filter(|it| alive(it.pid)).collect();
            wanted(left, Vec::is_empty)
        })
        .await;
    }
}

impl Drop for Estate {
    fn drop(&mut self) {
        // Killing the supervisor closes its children's standard input: they end by themselves.
        drop(self.up.start_kill());
        if std::thread::panicking() {
            let logs = self.logs();
            drop(std::io::Write::write_all(&mut std::io::stderr(), logs.as_bytes()));
        }
    }
}

fn pid_of(child: &Child) -> i32 {
    child.id().and_then(|it| i32::try_from(it).ok()).expect("a started process has an id")
}

fn command(program: &Path, folder: &Path, ports: Ports, settings: &Settings) -> Command {
    let mut command = Command::new(program);
    command.env(FOLDER, folder.join("faults"));
    command.current_dir(folder).arg("--data").arg(folder.join("data"));
    let mut set = |key: &str, value: &str| {
        command.arg("--set").arg(format!("{key}={value}"));
    };
    let local = |port: u16| format!("127.0.0.1:{port}");
    set("registry.bind", &local(ports.registry));
    set("discovery.urls", &format!("http://127.0.0.1:{}", ports.registry));
    set("gateway.bind", &local(ports.gateway));
    set("gateway.admin.bind", &local(ports.admin));
    set("order.bind", &local(ports.order));
    set("inventory.bind", &local(ports.inventory[0]));
    set("up.inventory_second", &local(ports.inventory[1]));
    set("broker.bind", &local(ports.broker));
    set("coordinator.bind", &local(ports.coordinator));
    set("points.bind", &local(ports.points));
    set("warehouse.bind", &local(ports.warehouse[0]));
    set("up.warehouse_second", &local(ports.warehouse[1]));
    for (key, value) in settings {
        set(key, value);
    }
    // Settings of the person who runs the tests are not those of the test.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRADEWIND__") {
            command.env_remove(name);
        }
    }
    command
}

fn spawn(program: &Path, folder: &Path, ports: Ports, settings: &Settings) -> Child {
    let file = |name: &str| {
        let file = std::fs::File::create(folder.join(name)).expect("an output file");
        Stdio::from(file)
    };
    command(program, folder, ports, settings)
        .arg("up")
        .stdin(Stdio::null())
        .stdout(file("up.out"))
        .stderr(file("up.err"))
        .kill_on_drop(true)
        .spawn()
        .expect("the binary can be started")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_go_is_not_named_again() {
        let ports: BTreeSet<_> = std::iter::repeat_with(|| {
            let listener = listener();
            listener.local_addr().unwrap().port()
        })
        .take(1000)
        .collect();
        assert_eq!(ports.len(), 1000);
    }
}
