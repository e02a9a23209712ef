//! A MariaDB of our own, in a temporary folder, on a private socket.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::{install, program};

const START_LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(20);

/// A running server.
#[derive(Debug)]
pub(crate) struct MariaDb {
    server: Child,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl MariaDb {
    /// Installs it if it is missing and starts it on an empty folder.
    pub(crate) fn start() -> anyhow::Result<Self> {
        if program("mariadbd").is_none() {
            install("mariadb-server")?;
        }
        let server = program("mariadbd").context("mariadb-server brought no mariadbd")?;
        let make = program("mariadb-install-db").context("there is no mariadb-install-db")?;
        // A short path: a socket's name has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("tw-mariadb-").tempdir_in("/tmp")?;
        let data = folder.path().join("data");
        let user = std::env::var("USER").unwrap_or_else(|_| "root".into());
        let mut make = Command::new(make);
        make.arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--user={user}"))
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .stdout(Stdio::null());
        crate::cargo::run(&mut make)?;
        let socket = folder.path().join("s");
        let log = std::fs::File::create(folder.path().join("log"))?;
        let server = ending_with_us(&server)
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--pid-file={}", folder.path().join("pid").display()))
            .arg(format!("--user={user}"))
            // Durable as in production: the tests are about what survives.
            .args(["--skip-networking", "--innodb-flush-log-at-trx-commit=1"])
            .args(["--innodb-buffer-pool-size=256M", "--max-connections=500"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start mariadbd")?;
        let mut it = Self { server, socket, _folder: folder };
        it.wait_until_ready()?;
        Ok(it)
    }

    /// Where tests connect, as root without a password; each makes its own database.
    pub(crate) fn url(&self) -> String {
        format!("mysql://root@localhost/?socket={}", self.socket.display())
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + START_LIMIT;
        while UnixStream::connect(&self.socket).is_err() {
            let ended = self.server.try_wait().context("cannot ask for mariadbd")?;
            if ended.is_some() || end < Instant::now() {
                let folder = self.socket.parent().unwrap_or(Path::new("/"));
                let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                bail!("mariadbd did not start: {log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// A command that is told to end when this process ends, however it does: Ctrl-C leaves no time to
/// end it ourselves, and MariaDB itself does not mind Ctrl-C.
fn ending_with_us(server: &Path) -> Command {
    let Some(setpriv) = program("setpriv") else { return Command::new(server) };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "TERM", "--"]).arg(server);
    command
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let pid = i32::try_from(self.server.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let end = Instant::now() + END_LIMIT;
        while matches!(self.server.try_wait(), Ok(None)) {
            if end < Instant::now() {
                drop(self.server.kill());
                drop(self.server.wait());
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
