//! The real servers that tests run against, and the foreign clients that run against ours:
//! installed once; servers are started on private sockets in a temporary folder and end with the
//! run.

mod clients;
mod mariadb;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use clients::Clients;
use mariadb::MariaDb;

/// The running servers; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Services {
    mariadb: MariaDb,
    clients: Clients,
}

impl Services {
    /// Installs what is missing and starts all of them.
    pub(crate) fn start(root: &Path) -> anyhow::Result<Self> {
        Ok(Self { clients: Clients::install(root)?, mariadb: MariaDb::start()? })
    }

    /// How tests reach them.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("TRADEWIND_TEST_MYSQL_URL", self.mariadb.url())];
        variables.extend(self.clients.environment());
        variables
    }
}

/// Starts the servers and waits until the person has seen enough.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let services = Services::start(root)?;
    println!("\nrunning; in another terminal, in {}:", root.display());
    for (name, value) in services.environment() {
        println!("  export {name}='{value}'");
    }
    println!("  cargo test --package tradewind-sql --features services");
    println!("press Enter to end them");
    std::io::stdin().read_line(&mut String::new()).context("cannot read the terminal")?;
    Ok(())
}

/// The path of a program, also where only root's search path leads.
fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"].map(Into::into);
    std::env::split_paths(&path).chain(more).map(|it| it.join(name)).find(|it| it.is_file())
}

/// Installs a Debian package without letting it start its server.
fn install(package: &str) -> anyhow::Result<()> {
    let by_hand = format!("apt-get update && apt-get install --no-install-recommends {package}");
    let apt = program("apt-get");
    if apt.is_none() || !rustix::process::geteuid().is_root() {
        bail!("{package} is not installed; install it, for example as root: {by_hand}");
    }
    println!("installing {package}");
    let _quiet = NoAutostart::arm()?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["--quiet", "--quiet", "-o", "DPkg::Lock::Timeout=120"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        crate::cargo::run(&mut command)
    };
    apt(&["update"])?;
    apt(&["install", "--yes", "--no-install-recommends", package])
}

/// While it lives, Debian's packages do not start the servers they bring.
struct NoAutostart {
    written: bool,
}

impl NoAutostart {
    const PATH: &str = "/usr/sbin/policy-rc.d";

    fn arm() -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        if Path::new(Self::PATH).exists() {
            // Somebody else's policy stands.
            return Ok(Self { written: false });
        }
        std::fs::write(Self::PATH, "#!/bin/sh\nexit 101\n").context("cannot write policy-rc.d")?;
        std::fs::set_permissions(Self::PATH, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { written: true })
    }
}

impl Drop for NoAutostart {
    fn drop(&mut self) {
        if self.written {
            drop(std::fs::remove_file(Self::PATH));
        }
    }
}
