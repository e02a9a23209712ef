//! What `up` claims before it starts anything: the data folder and the ports.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use tradewind_service::lifecycle::private_folder;

use super::plan::ChildPlan;

/// The held data folder; free again when dropped, also by a kill.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: File,
}

/// Takes the data folder for this process.
///
/// # Errors
/// When another `up` holds it or it cannot be written.
pub(super) fn folder(data: &Path) -> anyhow::Result<Claim> {
    // Databases, keys and logs are nobody else's to read.
    private_folder(&data.join("logs"))
        .with_context(|| format!("cannot create the data folder {}", data.display()))?;
    let path = data.join("up.lock");
    let mut lock = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        // Who can open it can hold it, and keep us from starting.
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            drop(lock.read_to_string(&mut holder));
            bail!(
                "the data folder {} is used by another `tradewind up` (process {}); stop that one \
                 or choose another folder with --data DIR (key tradewind.data)",
                data.display(),
                holder.trim(),
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    lock.set_len(0)?;
    lock.rewind()?;
    write!(lock, "{}", std::process::id())?;
    Ok(Claim { _lock: lock })
}

/// Checks that every address of the plan is known and free; names all that are not.
///
/// The probe binds without `SO_REUSEPORT`, so that a gateway that shares its port among its own
/// workers does not share it with a stranger.
///
/// # Errors
/// When an address is taken, named twice or has no port.
pub(super) fn ports(children: &[ChildPlan]) -> anyhow::Result<()> {
    let mut taken = Vec::new();
    let mut seen: Vec<(SocketAddr, &str)> = Vec::new();
    for child in children {
        for port in &child.ports {
            if let Some((_, key)) = seen.iter().find(|(address, _)| *address == port.address) {
                taken.push(format!("{} is both {key} and {}", port.address, port.key));
                continue;
            }
            seen.push((port.address, port.key));
            if port.address.port() == 0 {
                taken.push(format!(
                    "{} for {} is any port, and nobody would know which; name one with --set {}=ADDRESS",
                    port.address, child.name, port.key
                ));
            } else if let Err(error) = TcpListener::bind(port.address) {
                taken.push(format!(
                    "{} for {} cannot be used ({error}); move it with --set {}=ADDRESS",
                    port.address, child.name, port.key
                ));
            }
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    bail!("cannot start:\n  {}", taken.join("\n  "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::up::plan::Port;

    fn child(address: SocketAddr) -> ChildPlan {
        let ports = vec![Port { key: "registry.bind", address }];
        ChildPlan { name: "registry", arguments: Vec::new(), ports, stage: 0 }
    }

    #[test]
    fn a_second_claim_names_the_holder_and_the_way_out() {
        let data = tempfile::tempdir().unwrap();
        let claim = folder(data.path()).unwrap();
        let error = folder(data.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        assert!(error.contains("--data"), "{error}");
        drop(claim);
        folder(data.path()).unwrap();
    }

    #[test]
    fn what_is_made_is_nobody_elses_to_read() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("data");
        let _claim = folder(&data).unwrap();
        let mode =
            |name: &str| std::fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("logs"), mode("up.lock")), (0o700, 0o700, 0o600));
    }

    #[test]
    fn any_port_is_no_port() {
        let error = ports(&[child("127.0.0.1:0".parse().unwrap())]).unwrap_err().to_string();
        assert!(error.contains("--set registry.bind="), "{error}");
    }

    #[test]
    fn a_taken_port_names_the_setting_that_moves_it() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let error = ports(&[child(address)]).unwrap_err().to_string();
        assert!(error.contains("--set registry.bind="), "{error}");
        drop(holder);
        ports(&[child(address)]).unwrap();
        let twice = ports(&[child(address), child(address)]).unwrap_err().to_string();
        assert!(twice.contains("both"), "{twice}");
    }
}
