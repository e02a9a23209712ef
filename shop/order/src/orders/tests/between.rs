//! What stands between the order service and its database, and can lose a COMMIT.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tradewind::sql::DatabaseUrl;

/// Every COMMIT passes.
pub(super) const PASS: u32 = 0;
/// The connection is cut before the server sees the COMMIT.
pub(super) const CUT_BEFORE: u32 = 1;
/// The server commits, and the connection is cut before its answer.
pub(super) const CUT_AFTER: u32 = 2;

/// A socket in front of the real server's.
#[derive(Debug)]
pub(super) struct Between {
    /// What happens to each COMMIT from now on.
    pub(super) at_commit: Arc<AtomicU32>,
    /// The address of the database by way of it.
    pub(super) url: DatabaseUrl,
    _folder: tempfile::TempDir,
}

impl Between {
    /// In front of an empty database on the server that `TRADEWIND_TEST_MYSQL_URL` names.
    pub(super) fn start(name: &str) -> Self {
        drop(tradewind::host::testing::fresh_mysql(name));
        let url = std::env::var("TRADEWIND_TEST_MYSQL_URL").unwrap();
        let Some((user, server)) = url.split_once("socket=") else {
            panic!("this test needs a server on a Unix socket, as `cargo xtask test` starts one")
        };
        let user = user.split_once("://").unwrap().1.split('@').next().unwrap().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let at_commit = Arc::new(AtomicU32::new(PASS));
        let (server, switch) = (PathBuf::from(server), Arc::clone(&at_commit));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                relay(&client, &UnixStream::connect(&server).unwrap(), &switch);
            }
        });
        let url = format!("mysql://{user}@localhost/{name}?socket={}", socket.display());
        Self { at_commit, url: DatabaseUrl::parse(&url).unwrap(), _folder: folder }
    }

    /// From now on.
    pub(super) fn does(&self, what: u32) {
        self.at_commit.store(what, Ordering::SeqCst);
    }
}

fn relay(client: &UnixStream, server: &UnixStream, at_commit: &Arc<AtomicU32>) {
    // Set while the server's answers are swallowed.
    let mute = Arc::new(AtomicBool::new(false));
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (at_commit, muted) = (Arc::clone(at_commit), Arc::clone(&mute));
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let packet = &buffer[..count];
            let commit = packet.ends_with(b"\x03COMMIT");
            match if commit { at_commit.load(Ordering::SeqCst) } else { PASS } {
                CUT_BEFORE => break,
                CUT_AFTER => {
                    muted.store(true, Ordering::SeqCst);
                    // The answer, when it comes, ends both connections.
                    drop(to.write_all(packet));
                    return;
                }
                _ => drop(to.write_all(packet)),
            }
        }
        drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
    });
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if mute.load(Ordering::SeqCst) {
                break;
            }
            drop(to.write_all(&buffer[..count]));
        }
        drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
    });
}
