//! Published Eureka clients for Python and Node, in a folder of their own under `target`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::{install, program};

const PYTHON_CLIENT: &str = "py-eureka-client==0.13.3";
const NODE_CLIENT: &str = "eureka-js-client@4.5.0";

/// The installed clients.
#[derive(Debug)]
pub(crate) struct Clients {
    folder: PathBuf,
}

impl Clients {
    /// Installs what is missing.
    pub(crate) fn install(root: &Path) -> anyhow::Result<Self> {
        let it = Self { folder: root.join("target").join("interop") };
        std::fs::create_dir_all(&it.folder).context("cannot make the folder of the clients")?;
        // A folder counts once its mark is there: an install that was cut off is done again.
        it.once(PYTHON_CLIENT, || it.python_client())?;
        it.once(NODE_CLIENT, || it.node_client())?;
        Ok(it)
    }

    fn once(&self, what: &str, work: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mark = self.folder.join(format!("{}.installed", what.replace(['=', '@'], "-")));
        if !mark.exists() {
            println!("installing {what}");
            work().with_context(|| format!("cannot install {what}"))?;
            std::fs::write(&mark, "")?;
        }
        Ok(())
    }

    fn python_client(&self) -> anyhow::Result<()> {
        if program("python3").is_none() {
            install("python3")?;
        }
        let make = || {
            let arguments = ["-m", "venv", "--clear"];
            crate::cargo::run(Command::new("python3").args(arguments).arg(self.venv()))
        };
        if make().is_err() {
            // Debian keeps the module's other half in a package of its own.
            install("python3-venv")?;
            make()?;
        }
        let arguments = ["-m", "pip", "install", "--quiet", PYTHON_CLIENT];
        crate::cargo::run(Command::new(self.python()).args(arguments))
    }

    fn node_client(&self) -> anyhow::Result<()> {
        for (name, package) in [("node", "nodejs"), ("npm", "npm")] {
            if program(name).is_none() {
                install(package)?;
            }
        }
        let arguments = ["install", "--silent", "--no-fund", "--no-audit", "--prefix"];
        let mut npm = Command::new("npm");
        npm.args(arguments).arg(self.folder.join("node")).arg(NODE_CLIENT).stdout(Stdio::null());
        crate::cargo::run(&mut npm)
    }

    fn venv(&self) -> PathBuf {
        self.folder.join("python")
    }

    fn python(&self) -> PathBuf {
        self.venv().join("bin").join("python")
    }

    /// How tests find them.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        [
            ("TRADEWIND_TEST_PYTHON", text(self.python())),
            ("TRADEWIND_TEST_NODE_MODULES", text(self.folder.join("node").join("node_modules"))),
        ]
    }
}
