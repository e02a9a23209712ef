//! The log file of a child: everything it writes, in two files of bounded size.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

/// A full file is renamed to `NAME.log.1`, replacing the one before it.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How much of the end is kept in memory, to be shown when the child fails.
const TAIL_BYTES_MAX: usize = 4 * 1024;

/// The file a child's output goes to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
}

impl LogFile {
    /// Opens the file for appending; a full one is put aside first.
    pub(super) async fn open(path: PathBuf) -> io::Result<Self> {
        let file = append(&path).await?;
        let written = file.metadata().await?.len();
        let mut log = Self { path, file, written };
        log.rotate_if_full().await?;
        Ok(log)
    }

    async fn rotate_if_full(&mut self) -> io::Result<()> {
        if self.written < FILE_BYTES_MAX {
            return Ok(());
        }
        tokio::fs::rename(&self.path, old(&self.path)).await?;
        self.file = append(&self.path).await?;
        self.written = 0;
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // First: a file that cannot be put aside must not grow on.
        self.rotate_if_full().await?;
        self.file.write_all(bytes).await?;
        self.file.flush().await?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Copies everything from `output` until it ends; returns the last part of it.
    ///
    /// A log that cannot be written must not stop the child, whose writes would block once the
    /// pipe is full: reading goes on without it, and writing when the disk has room again.
    pub(super) async fn drain(mut self, mut output: impl AsyncRead + Unpin) -> String {
        let mut buffer = vec![0_u8; 8 * 1024];
        let mut tail: Vec<u8> = Vec::new();
        let mut broken = false;
        loop {
            let count = match output.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            let Some(bytes) = buffer.get(..count) else { break };
            match self.write(bytes).await {
                Ok(()) => broken = false,
                Err(error) if !broken => {
                    tracing::warn!(path = %self.path.display(), %error, "log file cannot be written");
                    broken = true;
                }
                Err(_) => {}
            }
            tail.extend_from_slice(bytes);
            if let Some(excess) = tail.len().checked_sub(TAIL_BYTES_MAX) {
                tail.drain(..excess);
            }
        }
        String::from_utf8_lossy(&tail).into_owned()
    }
}

/// Who else may read logs is not for us to say: nobody, until their owner says otherwise.
async fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).await
}

fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_file_is_put_aside_and_the_tail_is_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut log = LogFile::open(path.clone()).await.unwrap();
        log.written = FILE_BYTES_MAX - 3;
        // As two pieces, which is how they come from a pipe.
        let tail = log.drain((&b"first\n"[..]).chain(&b"second\n"[..])).await;
        assert_eq!(tail, "first\nsecond\n");
        assert_eq!(std::fs::read(old(&path)).unwrap(), b"first\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"second\n");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_put_aside_does_not_grow_and_later_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut log = LogFile::open(path.clone()).await.unwrap();
        log.written = FILE_BYTES_MAX;
        // A folder of that name is in the way.
        std::fs::create_dir(old(&path)).unwrap();
        assert!(log.write(b"lost\n").await.is_err());
        std::fs::remove_dir(old(&path)).unwrap();
        assert_eq!(log.drain(&b"kept\n"[..]).await, "kept\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"kept\n");
    }

    #[tokio::test]
    async fn the_tail_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogFile::open(folder.path().join("x.log")).await.unwrap();
        let text = "x".repeat(3 * TAIL_BYTES_MAX) + "end";
        let tail = log.drain(text.as_bytes()).await;
        assert_eq!(tail.len(), TAIL_BYTES_MAX);
        assert!(tail.ends_with("end"));
    }
}
