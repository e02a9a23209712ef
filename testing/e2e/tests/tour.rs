//! The tour, as a newcomer runs it: what it prints, how it ends, and that nothing is left of it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Mutex;
use tradewind_e2e::{alive, binary, eventually, wanted};

/// No tour takes longer, not even one of debug builds on a busy machine.
const LIMIT: Duration = Duration::from_secs(150);

/// One at a time: each is nine processes.
static TURN: Mutex<()> = Mutex::const_new(());

/// A tour that makes its folder in `place`, with settings around it that are none of its business.
fn tour(place: &Path, arguments: &[&str]) -> Child {
    std::fs::write(place.join("tradewind.toml"), "this is no TOML").unwrap();
    let temporary = place.join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    Command::new(binary())
        .arg("tour")
        .args(arguments)
        .current_dir(place)
        .env("TMPDIR", temporary)
        .env("TRADEWIND__GATEWAY__BIND", "nowhere")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Runs a tour to its end; its exit code and what it printed.
async fn run(place: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = tokio::time::timeout(LIMIT, tour(place, arguments).wait_with_output()).await;
    let output = output.expect("an end").unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// The processes that a tour says it has started.
fn processes(text: &str) -> Vec<i32> {
    let lines = text.lines().filter_map(|it| it.rsplit_once("  process "));
    let pids: Vec<_> = lines.filter_map(|it| it.1.parse().ok()).collect();
    assert_eq!(pids.len(), 9, "{text}");
    pids
}

fn left(pids: &[i32]) -> Vec<i32> {
    pids.iter().copied().filter(|it| alive(*it)).collect()
}

fn signal(tour: &Child, signal: Signal) {
    let pid = i32::try_from(tour.id().expect("it runs")).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect()
}

/// Reads what a tour prints, up to a line that begins a chapter.
async fn first_chapter(output: &mut BufReader<ChildStdout>) -> String {
    let mut text = String::new();
    let read = async {
        while !text.contains("\n1  An order\n") {
            assert_ne!(output.read_line(&mut text).await.unwrap(), 0, "it ended: {text}");
        }
    };
    tokio::time::timeout(LIMIT, read).await.expect("a first chapter");
    text
}

/// R0.1, R2.4, R5.1, R6.3, R7.5: on real processes an order is placed and shipped; without points it
/// is undone; it succeeds right after an instance died; a lost acknowledgement ships once; a
/// doubled click orders once; the last unit is sold once; and the audit finds nothing.
#[tokio::test]
async fn everything_the_tour_tells_holds_and_nothing_is_left_of_it() {
    let _turn = TURN.lock().await;
    let place = tempfile::tempdir().unwrap();
    let (code, text) = run(place.path(), &[]).await;
    assert_eq!(code, Some(0), "{text}");
    for title in [
        "\n1  An order\n",
        "\n2  Points fail, and everything is undone\n",
        "\n3  An instance is killed, and the next order succeeds\n",
        "\n4  An acknowledgement is lost, and there is one shipment\n",
        "\n5  A doubled click, and one order\n",
        "\n6  The last unit, wanted by two\n",
        "\n7  The audit\n",
        "\nAll of it held, in ",
    ] {
        assert!(text.contains(title), "{title}: {text}");
    }
    assert_eq!(text.matches("\n   held  ").count(), 7, "{text}");
    assert!(!text.contains('\u{1b}'), "no escape codes for a pipe: {text:?}");
    let wide: Vec<_> = text.lines().filter(|it| 100 < it.chars().count()).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    assert!(left(&processes(&text)).is_empty(), "{text}");
    assert!(files(&place.path().join("tmp")).is_empty(), "its folder is gone");
}

/// A promise that does not hold is told as such: what was wanted, what was seen, where the logs are.
#[tokio::test]
async fn what_does_not_hold_is_told_and_its_logs_are_kept() {
    let _turn = TURN.lock().await;
    let place = tempfile::tempdir().unwrap();
    let arguments = ["--chapter", "1", "--set", "warehouse.ship_after=1h"];
    let (code, text) = run(place.path(), &arguments).await;
    assert_eq!(code, Some(1), "{text}");
    for line in ["   FAILED", "wanted the order shipped within 15", "saw    the order placed"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("All of it held"), "{text}");
    let kept = files(&place.path().join("tmp"));
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].join("data/logs/warehouse-a.log").exists(), "{text}");
    assert!(text.contains(kept[0].to_str().unwrap()), "{text}");
    assert!(left(&processes(&text)).is_empty(), "{text}");
}

/// Ctrl-C ends all of it, in order.
#[tokio::test]
async fn an_interrupted_tour_leaves_nothing() {
    let _turn = TURN.lock().await;
    let place = tempfile::tempdir().unwrap();
    let mut tour = tour(place.path(), &[]);
    let mut output = BufReader::new(tour.stdout.take().unwrap());
    let mut text = first_chapter(&mut output).await;
    signal(&tour, Signal::INT);
    output.read_to_string(&mut text).await.unwrap();
    let status = tokio::time::timeout(LIMIT, tour.wait()).await.expect("an end").unwrap();
    assert_eq!(status.code(), Some(130), "{text}");
    assert!(text.contains("interrupted; all processes have ended"), "{text}");
    assert!(left(&processes(&text)).is_empty(), "{text}");
    assert!(files(&place.path().join("tmp")).is_empty(), "its folder is gone");
}

/// Also a tour that is killed takes its processes along.
#[tokio::test]
async fn a_killed_tour_leaves_no_process() {
    let _turn = TURN.lock().await;
    let place = tempfile::tempdir().unwrap();
    let mut tour = tour(place.path(), &[]);
    let mut output = BufReader::new(tour.stdout.take().unwrap());
    let text = first_chapter(&mut output).await;
    signal(&tour, Signal::KILL);
    let pids = processes(&text);
    eventually("all have ended", Duration::from_secs(15), async || {
        wanted(left(&pids), Vec::is_empty)
    })
    .await;
}
