//! A MariaDB of our own: empty data, a private socket, ended with this value.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use mysql::prelude::Queryable as _;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long the server may take to start.
const START_MAX: Duration = Duration::from_secs(60);

pub(crate) struct MariaDb {
    child: Child,
    socket: PathBuf,
    /// Socket paths are short by law of the kernel, so the socket has a folder of its own.
    _socket_folder: TempDir,
    _data: TempDir,
}

impl MariaDb {
    /// `None` when the machine has no MariaDB.
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Option<Self>> {
        let (Some(program), Some(install)) = (find("mariadbd"), find("mariadb-install-db")) else {
            return Ok(None);
        };
        let (data, sockets) = (tempfile::tempdir_in(folder)?, tempfile::tempdir()?);
        let data_argument = format!("--datadir={}", data.path().join("data").display());
        let user = format!("--user={}", user());
        let installed = Command::new(install)
            .args(["--no-defaults", "--auth-root-authentication-method=normal"])
            .args(["--skip-test-db", &data_argument, &user])
            .output()?;
        let text = String::from_utf8_lossy(&installed.stderr).into_owned();
        anyhow::ensure!(installed.status.success(), "mariadb-install-db failed: {text}");
        let socket = sockets.path().join("s");
        // Ctrl-C ends the bench alone, which then has no time to end its server.
        let mut server = match find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let child = server
            .args(["--no-defaults", "--skip-networking", "--innodb-buffer-pool-size=256M"])
            .args([&data_argument, &user, &format!("--socket={}", socket.display())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { child, socket, _socket_folder: sockets, _data: data };
        let limit = Instant::now() + START_MAX;
        while let Err(error) = server.connect() {
            anyhow::ensure!(Instant::now() < limit, "mariadbd does not answer: {error}");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(Some(server))
    }

    fn connect(&self) -> mysql::Result<mysql::Conn> {
        let socket = self.socket.display().to_string();
        let options = mysql::OptsBuilder::new().user(Some("root")).socket(Some(socket));
        mysql::Conn::new(options)
    }

    /// Makes an empty database, in place of the last one.
    pub(crate) fn empty(&self) -> anyhow::Result<()> {
        let mut connection =
            self.connect().context("cannot connect to the MariaDB of the bench")?;
        connection.query_drop("DROP DATABASE IF EXISTS bench")?;
        connection.query_drop("CREATE DATABASE bench CHARACTER SET utf8mb4")?;
        Ok(())
    }

    pub(crate) fn url(&self) -> String {
        format!("mysql://root@localhost/bench?socket={}", self.socket.display())
    }

    /// Makes an empty database of that name.
    pub(crate) fn create(&self, name: &str) -> anyhow::Result<()> {
        let mut connection = self.connect()?;
        connection.query_drop(format!("DROP DATABASE IF EXISTS {name}"))?;
        Ok(connection.query_drop(format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"))?)
    }

    pub(crate) fn url_of(&self, name: &str) -> String {
        format!("mysql://root@localhost/{name}?socket={}", self.socket.display())
    }

    /// Adds to the stock of every product of the shop.
    pub(crate) fn stock(&self, pieces: i64) -> anyhow::Result<()> {
        let mut connection = self.connect()?;
        connection.query_drop("USE tw_inventory")?;
        connection.exec_drop("UPDATE stock SET on_hand = on_hand + ?", (pieces,))?;
        Ok(connection.exec_drop(crate::order::STOCK_FLOW, (pieces,))?)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        // The data go away as well, so it need not end in order.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let more = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    folders.chain(more).map(|it| it.join(program)).find(|it| it.is_file())
}

/// The server refuses to run as root unless told to.
fn user() -> String {
    let output = Command::new("id").arg("-un").output();
    output.map_or_else(
        |_| "root".to_owned(),
        |it| String::from_utf8_lossy(&it.stdout).trim().to_owned(),
    )
}
