//! Log lines on their way out: a bounded queue and a thread that writes.
//!
//! Whoever reads our standard error may stop reading; a server must not stop with it. A line that
//! finds the queue full is dropped and counted, and the count is logged when there is room again.
//! A line of level error is waited for, within a limit, because the process may be about to end; not
//! while the reader is known to be stuck, or every error would cost that wait.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::Format;

/// Lines that wait to be written.
const LINES_MAX: usize = 4096;
/// How long an error, and the end of the process, waits for the lines before it.
const FLUSH_TIME: Duration = Duration::from_millis(500);

/// Where log lines go. Clones share the queue.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    /// Somebody has waited in vain, and nothing was written since.
    stuck: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// Takes one line.
#[derive(Debug)]
pub(super) struct Line<'a> {
    sink: &'a Sink,
    urgent: bool,
}

impl Sink {
    /// Starts the thread that writes to `output`.
    pub(super) fn start(output: impl Write + Send + 'static, format: Format) -> io::Result<Self> {
        let (queue, lines) = sync_channel(LINES_MAX);
        let (dropped, stuck) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, cleared) = (Arc::clone(&dropped), Arc::clone(&stuck));
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&lines, output, &counted, &cleared, format))?;
        Ok(Self { queue, dropped, stuck })
    }

    /// Waits until what has been logged is written, within a limit.
    pub(super) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        let mut flush = Message::Flush(done);
        let step = Duration::from_millis(1);
        let mut left = FLUSH_TIME;
        while let Err(TrySendError::Full(again)) = self.queue.try_send(flush) {
            if left.is_zero() {
                self.stuck.store(true, Ordering::Relaxed);
                return;
            }
            std::thread::park_timeout(step);
            left = left.saturating_sub(step);
            flush = again;
        }
        if wait.recv_timeout(left).is_err() {
            self.stuck.store(true, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { sink: self, urgent: false }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line { sink: self, urgent: *meta.level() == Level::ERROR }
    }
}

impl Write for Line<'_> {
    /// The subscriber writes each line whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.sink.queue.try_send(Message::Line(line.to_vec())) {
            Ok(()) if self.urgent && !self.sink.stuck.load(Ordering::Relaxed) => self.sink.flush(),
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.sink.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(
    lines: &Receiver<Message>,
    mut output: impl Write,
    dropped: &AtomicU64,
    stuck: &AtomicBool,
    format: Format,
) {
    while let Ok(message) = lines.recv() {
        // There is no one left to tell that the log cannot be written.
        let _outcome = match message {
            Message::Line(line) => output.write_all(&line),
            Message::Flush(done) => {
                let flushed = output.flush();
                // Whoever asked may have stopped waiting.
                let _heard = done.try_send(());
                flushed
            }
        };
        stuck.store(false, Ordering::Relaxed);
        let count = dropped.swap(0, Ordering::Relaxed);
        if 0 < count {
            let _outcome = match format {
                Format::Text => writeln!(output, "WARN log lines were dropped lines={count}"),
                Format::Json => writeln!(
                    output,
                    r#"{{"level":"WARN","message":"log lines were dropped","lines":{count}}}"#
                ),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::sync::{Mutex, PoisonError};

    /// An output whose reader can be stopped.
    #[derive(Clone, Default)]
    struct Output {
        text: Arc<Mutex<Vec<u8>>>,
        gate: Arc<Mutex<()>>,
    }

    impl Output {
        fn text(&self) -> String {
            let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&text).into_owned()
        }
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.gate.lock();
            self.text.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stops_neither_stops_the_server_nor_goes_unnoticed() {
        let output = Output::default();
        let sink = Sink::start(output.clone(), Format::Text).unwrap();
        let shut = output.gate.lock().unwrap();
        let (done, wait) = mpsc::sync_channel(1);
        let writer = sink.clone();
        std::thread::spawn(move || {
            for number in 0..LINES_MAX + 100 {
                writer.make_writer().write_all(format!("line {number}\n").as_bytes()).unwrap();
            }
            done.send(()).unwrap();
        });
        wait.recv_timeout(Duration::from_secs(10)).expect("logging does not block");
        drop(shut);
        sink.flush();
        let text = output.text();
        let written: Vec<_> = text.lines().filter(|it| it.starts_with("line")).collect();
        let first: Vec<_> = (0..written.len()).map(|it| format!("line {it}")).collect();
        assert_eq!(written, first, "what was taken is written in order");
        let lost = LINES_MAX + 100 - written.len();
        assert!(text.contains(&format!("WARN log lines were dropped lines={lost}\n")), "{lost}");
    }

    #[test]
    fn errors_do_not_wait_for_a_reader_that_is_known_to_be_stuck() {
        let output = Output::default();
        let sink = Sink::start(output.clone(), Format::Text).unwrap();
        let shut = output.gate.lock().unwrap();
        let log = |number: usize| {
            let mut line = Line { sink: &sink, urgent: true };
            line.write_all(format!("error {number}\n").as_bytes()).unwrap();
        };
        log(0);
        assert!(sink.stuck.load(Ordering::Relaxed), "the first one has waited in vain");
        let start = tokio::time::Instant::now();
        (1..100).for_each(log);
        assert!(start.elapsed() < FLUSH_TIME, "{:?}", start.elapsed());
        drop(shut);
        sink.flush();
        assert!(!sink.stuck.load(Ordering::Relaxed), "it reads again");
        assert!(output.text().ends_with("error 99\n"), "{}", output.text());
    }

    #[test]
    fn an_error_is_written_before_logging_returns() {
        let output = Output::default();
        let sink = Sink::start(output.clone(), Format::Text).unwrap();
        let subscriber = tracing_subscriber::fmt().with_writer(sink).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || tracing::error!("about to end"));
        assert!(output.text().contains("about to end"));
    }
}
