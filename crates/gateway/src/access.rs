//! The access log (R3.6): one JSON line per request, written by a thread of its own.
//!
//! The queue is bounded and never waited for: a line that finds it full is counted and dropped, so
//! that a slow disk slows no request. The file starts anew at a size, one old file is kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tradewind_base::Timestamp;

/// Lines that may wait.
const QUEUE: usize = 8192;
/// How long a line may stay in the buffer.
const FLUSH: Duration = Duration::from_millis(200);

/// One request. Never the query, never a header value: they may hold secrets.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) time: Timestamp,
    pub(crate) request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace_id: Option<String>,
    pub(crate) client_ip: IpAddr,
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path_template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) consumer: Option<String>,
    pub(crate) status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_reason: Option<String>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) protocol: &'static str,
    pub(crate) tls: bool,
    pub(crate) retries: usize,
    /// Whether the answer was sent to its end.
    pub(crate) complete: bool,
    pub(crate) ms: Phases,
}

/// Milliseconds of each phase.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Phases {
    /// From the head of the request to the last byte of the answer.
    pub(crate) total: f64,
    /// Getting a connection, all attempts together.
    pub(crate) connect: f64,
    /// From the first attempt to the head of the answer.
    pub(crate) upstream: f64,
    /// From the head of the request to the head of the answer.
    pub(crate) ttfb: f64,
    /// What the gateway itself took of `ttfb`: the rest was the service's.
    pub(crate) gateway_own: f64,
}

/// Writes lines.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sender: Mutex<Option<SyncSender<String>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    dropped: AtomicU64,
}

impl AccessLog {
    /// Opens the file and starts the writer.
    pub(crate) fn open(path: PathBuf, bytes_max: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = Rotating::open(path, bytes_max)?;
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(&receiver, file))?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            dropped: AtomicU64::new(0),
        })
    }

    pub(crate) fn write(&self, entry: &Entry) {
        // Text, numbers and addresses only: serialisation has nothing to fail on.
        let line = serde_json::to_string(entry).unwrap_or_default();
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        match sender.as_ref().map(|it| it.try_send(line)) {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => {
                drop(sender);
                self.dropped.fetch_add(1, Ordering::Relaxed);
                metrics::counter!("gw_log_dropped_total").increment(1);
            }
        }
    }

    /// Lines that found no place.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what waits and ends the thread. Blocking.
    pub(crate) fn close(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|it| it.join().is_err()) {
            tracing::error!("the writer of the access log panicked");
        }
    }
}

fn write(receiver: &Receiver<String>, mut file: Rotating) {
    let mut broken = false;
    let mut flushed = Instant::now();
    loop {
        let outcome = match receiver.recv_timeout(FLUSH) {
            // Lines that come one by one, none of them late, must not keep each other waiting.
            Ok(line) if FLUSH <= flushed.elapsed() => {
                flushed = Instant::now();
                file.line(&line).and_then(|()| file.out.flush())
            }
            Ok(line) => file.line(&line),
            Err(RecvTimeoutError::Timeout) => {
                flushed = Instant::now();
                file.out.flush()
            }
            Err(RecvTimeoutError::Disconnected) => {
                if let Err(error) = file.out.flush() {
                    tracing::warn!(error = %error, "failed to write the access log");
                }
                return;
            }
        };
        // Once per trouble, not once per line.
        if let Err(error) = &outcome
            && !broken
        {
            tracing::warn!(error = %error, "failed to write the access log");
        }
        broken = outcome.is_err();
    }
}

struct Rotating {
    path: PathBuf,
    out: BufWriter<File>,
    bytes: u64,
    bytes_max: u64,
}

fn append(path: &Path) -> io::Result<File> {
    // Who asked for what is for the owner alone.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl Rotating {
    fn open(path: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let file = append(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { out: BufWriter::new(file), path, bytes, bytes_max })
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        if self.bytes_max < self.bytes {
            self.out.flush()?;
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            fs::rename(&self.path, old)?;
            self.out = BufWriter::new(append(&self.path)?);
            self.bytes = 0;
        }
        self.bytes += line.len() as u64 + 1;
        self.out.write_all(line.as_bytes())?;
        self.out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry {
        Entry {
            time: Timestamp::from_millis(1),
            request_id: "req_1".into(),
            trace_id: None,
            client_ip: IpAddr::from([127, 0, 0, 1]),
            method: "GET".into(),
            host: "h".into(),
            path: path.into(),
            path_template: None,
            route: None,
            service: None,
            instance: None,
            consumer: None,
            status: 200,
            error_code: None,
            error_phase: None,
            error_reason: None,
            bytes_in: 0,
            bytes_out: 0,
            protocol: "HTTP/1.1",
            tls: false,
            retries: 0,
            complete: true,
            ms: Phases::default(),
        }
    }

    /// R3.6
    #[test]
    fn every_line_is_json_and_the_file_starts_anew_at_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/access.jsonl");
        let log = AccessLog::open(path.clone(), 1000).unwrap();
        for at in 0..20 {
            log.write(&entry(&format!("/a\"\n{at}")));
        }
        log.close();
        assert_eq!(log.dropped(), 0);
        let old = fs::read_to_string(folder.path().join("logs/access.jsonl.1")).unwrap();
        let new = fs::read_to_string(path).unwrap();
        let all: Vec<serde_json::Value> = [old, new]
            .iter()
            .flat_map(|it| {
                it.lines().map(|it| serde_json::from_str(it).unwrap()).collect::<Vec<_>>()
            })
            .collect();
        assert!(all.len() < 20 && !all.is_empty());
        assert_eq!(all.last().unwrap()["path"], "/a\"\n19");
        log.write(&entry("/late"));
        assert_eq!(log.dropped(), 1, "after the end lines are counted, not lost silently");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the pace of the lines, not a wait for them")]
    fn a_line_is_in_the_file_soon_though_others_keep_coming() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        let log = AccessLog::open(path.clone(), 1 << 20).unwrap();
        let start = Instant::now();
        // Too few to fill the writer's buffer before the limit, too many to leave it a pause.
        let mut lines = 0;
        while fs::read_to_string(&path).unwrap().is_empty() && lines < 20 {
            log.write(&entry("/x"));
            lines += 1;
            std::thread::sleep(FLUSH / 4);
        }
        assert!(lines < 20, "nothing was written for {:?}", start.elapsed());
        log.close();
    }
}
