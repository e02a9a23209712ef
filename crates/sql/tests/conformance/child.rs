//! This test binary as a child process that works on a database until it is killed.
//!
//! A child is the test [`child_process`] alone, told by its environment what to do. It reports on
//! its standard output, one word and one number to a line.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use tradewind_sql::{Database, Error, OnUnknownCommit, Options, TransactionError, params};

use crate::support::{ITEMS, spawn};

const ROLE: &str = "TRADEWIND_SQL_TEST_CHILD";
const PLACE: &str = "TRADEWIND_SQL_TEST_PLACE";

/// What a child reported: `("done", 17)`.
pub(crate) type Report = (String, i64);

/// A child at work. It is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    /// Closed to tell the child to end.
    input: Option<ChildStdin>,
    reports: Receiver<Report>,
}

/// The command line that becomes a child with `role` on the file `place`.
pub(crate) fn command(role: &str, place: &Path) -> Vec<String> {
    let program = std::env::current_exe().unwrap();
    let role = format!("{ROLE}={role}");
    let place = format!("{PLACE}={}", place.display());
    let mut words = vec!["env".to_owned(), role, place, program.display().to_string()];
    words.extend(["--exact", "child::child_process", "--nocapture", "--quiet"].map(str::to_owned));
    words
}

impl Running {
    pub(crate) fn start(words: &[String]) -> Self {
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = child.stdout.take().unwrap();
        let (sender, reports) = sync_channel(100_000);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The test harness says things of its own; it may share a line with a report.
                let mut words = line.split_whitespace().skip_while(|it| *it != "report");
                let (Some(_), Some(word), Some(number)) =
                    (words.next(), words.next(), words.next())
                else {
                    continue;
                };
                // Nobody listens any more: the test is over.
                if sender.send((word.to_owned(), number.parse().unwrap())).is_err() {
                    return;
                }
            }
        });
        Self { child, input, reports }
    }

    /// The next report.
    pub(crate) fn next(&self) -> Option<Report> {
        self.reports.recv_timeout(Duration::from_secs(30)).ok()
    }

    /// SIGKILL; gives every report that was made.
    pub(crate) fn kill(mut self) -> Vec<Report> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reports.iter().collect()
    }

    /// Tells the child to end in order; gives the reports not yet taken.
    pub(crate) fn end(mut self) -> Vec<Report> {
        self.input = None;
        let reports = self.reports.iter().collect();
        assert!(self.child.wait().unwrap().success());
        reports
    }

    /// Waits for a child that ends by itself; gives its reports and the signal that ended it.
    pub(crate) fn wait(mut self) -> (Vec<Report>, Option<i32>) {
        use std::os::unix::process::ExitStatusExt as _;
        let reports = self.reports.iter().collect();
        (reports, self.child.wait().unwrap().signal())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn report(word: &str, number: i64) {
    // One write, so that lines of several tasks do not mix.
    let line = format!("\nreport {word} {number}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

/// Not a test unless started as a child.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let place = std::env::var(PLACE).unwrap();
    let url = tradewind_sql::DatabaseUrl::sqlite(Path::new(&place));
    let poison = role == "poison";
    let on_unknown_commit = if poison { OnUnknownCommit::Poison } else { OnUnknownCommit::Abort };
    let options = Options { on_unknown_commit, wal_pages_checkpoint: 50, ..Options::default() };
    let database = Database::open(&url, options, "test", ITEMS).unwrap();
    match role.as_str() {
        "insert" => insert_pairs(&database, 0).await,
        "grow" | "poison" => insert_pairs(&database, 20_000).await,
        "share" => share(&database).await,
        other => panic!("unknown role {other}"),
    }
    database.close().await.unwrap();
}

/// Inserts pairs of rows until told to end: `id` and `-id`, each with `bytes` of data.
async fn insert_pairs(database: &Database, bytes: usize) {
    let ended = ended();
    let from = database
        .read::<_, Error, _>("last", |tx| {
            tx.query_one("SELECT COALESCE(MAX(id), 0) FROM items", &[], |row| row.get::<i64>(0))
        })
        .await
        .unwrap()
        .unwrap();
    report("open", from);
    let workers = (1..=16).map(|worker| {
        let (database, ended) = (database.clone(), ended.clone());
        spawn(async move {
            let mut id = from + worker;
            while !*ended.borrow() && insert_pair(&database, id, bytes).await {
                id += 16;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
}

/// Whether to go on.
async fn insert_pair(database: &Database, id: i64, bytes: usize) -> bool {
    let work = move |tx: &mut tradewind_sql::Transaction<'_>| {
        let sql = "INSERT INTO items (id, amount, data) VALUES (?, 1, ?)";
        tx.execute(sql, params![id, vec![0_u8; bytes]])?;
        tx.execute(sql, params![-id, vec![0_u8; bytes]])
    };
    match database.transaction::<_, Error, _>("pair", work).await {
        Ok(_) => report("done", id),
        Err(TransactionError::Unknown { .. }) => report("unknown", id),
        Err(TransactionError::Closed) => {
            report("closed", id);
            return false;
        }
        Err(TransactionError::Refused(error) | TransactionError::Database(error)) => {
            report(&format!("{:?}", error.kind()), id);
        }
        Err(other) => report(&format!("{other:?}"), id),
    }
    true
}

/// Counts up one row of its own and one that all share, as fast as possible, until told to end.
async fn share(database: &Database) {
    let ended = ended();
    report("open", 0);
    let workers = (0..16).map(|_| {
        let (database, ended) = (database.clone(), ended.clone());
        spawn(async move {
            let mut count = 0;
            while !*ended.borrow() {
                let work = |tx: &mut tradewind_sql::Transaction<'_>| {
                    tx.execute("UPDATE items SET amount = amount + 1 WHERE id = 1", &[])
                };
                match database.transaction::<_, Error, _>("count", work).await {
                    Ok(1) => count += 1,
                    other => {
                        report(&format!("{other:?}").replace(' ', "_"), 1);
                        break;
                    }
                }
            }
            count
        })
    });
    let mut total = 0;
    for worker in workers.collect::<Vec<_>>() {
        total += worker.await.unwrap();
    }
    report("counted", total);
}

/// Becomes true when the parent closes our standard input.
fn ended() -> tokio::sync::watch::Receiver<bool> {
    let (sender, receiver) = tokio::sync::watch::channel(false);
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        sender.send(true).ok();
    });
    receiver
}
