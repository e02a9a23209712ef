//! What `tradewind load` promises: exit codes, a line a second, a summary, files, an end in order.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Longer than any run here takes on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(60);

fn start(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tradewind"));
    command.current_dir(folder).arg("load").args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Exit code, standard output, standard error.
#[expect(clippy::panic, reason = "a test that hangs fails")]
fn ended(child: Child) -> (Option<i32>, String, String) {
    let pid = child.id();
    let (send, receive) = mpsc::sync_channel(1);
    let wait = std::thread::spawn(move || send.send(child.wait_with_output()).unwrap());
    let Ok(output) = receive.recv_timeout(LIMIT) else {
        Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        panic!("the run does not end");
    };
    wait.join().unwrap();
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn load(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    ended(start(folder, arguments))
}

/// A server that answers everything with the status of its path, and counts.
fn server() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    // They end with the process of the test.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, count) = (stream.unwrap(), Arc::clone(&counted));
            std::thread::spawn(move || drop(answer(&stream, &count)));
        }
    });
    (address, count)
}

fn answer(stream: &TcpStream, count: &AtomicU64) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut status = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(path) = line.split(' ').nth(1).filter(|it| it.starts_with('/')) {
            status = path.trim_start_matches('/').split('/').next().unwrap().to_owned();
        }
        if let Some(it) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = it.trim().parse().unwrap();
        }
        if line == "\r\n" {
            std::io::copy(&mut lines.by_ref().take(length), &mut std::io::sink())?;
            count.fetch_add(1, Ordering::Relaxed);
            write!(&mut &*stream, "HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nok")?;
            length = 0;
        }
    }
}

/// R8.2: offered, served, waiting and the times of both kinds are shown while it runs and at its
/// end, and written to files.
#[test]
fn a_run_is_shown_summed_up_and_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let (address, count) = server();
    let url = format!("http://{address}/200/{{sequence}}");
    let (code, out, error) = load(
        folder.path(),
        &[
            &url,
            "--stage=1s:0..100",
            "--stage=1s:100",
            "--arrivals=uniform",
            "--body={\"a\":{number:1..9}}",
            "--idempotency-key",
            "--json=report.json",
            "--svg=picture.svg",
        ],
    );
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    assert_eq!(count.load(Ordering::Relaxed), 150);
    assert!(out.contains("POST http://"), "{out}");
    for part in ["offered/s", "waiting", "p99.9", "response", "service"] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
    assert!(out.lines().any(|it| it.trim_start().starts_with("1s ")), "no line a second: {out}");
    assert!(!out.contains('\u{1b}'), "no terminal, no escapes: {out}");
    let report = std::fs::read(folder.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!((&report["offered"], &report["served"]), (&150.into(), &150.into()));
    assert!(report["response_ms"]["p99"].is_f64(), "{report}");
    assert!(!report["ticks"].as_array().unwrap().is_empty());
    let picture = std::fs::read_to_string(folder.path().join("picture.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"), "{picture}");
}

#[test]
fn a_bound_that_does_not_hold_is_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _) = server();
    let (good, bad) = (format!("http://{address}/200"), format!("http://{address}/503"));
    let short = ["--rate=50", "--duration=200ms"];
    let (code, _, error) = load(folder.path(), &[&good, short[0], short[1], "--p99-max=0ms"]);
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("p99 is"), "{error}");
    let bounds = ["--p99-max=1h", "--failed-max=0"];
    let (code, _, error) = load(folder.path(), &[&good, short[0], short[1], bounds[0], bounds[1]]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let (code, out, error) = load(folder.path(), &[&bad, short[0], short[1]]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("not one request was served"), "{error}");
    assert!(out.contains("503: "), "{out}");
}

#[test]
fn what_cannot_be_run_is_told_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    // The port is free again when the listener is dropped.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, out, error) =
        load(folder.path(), &[&format!("http://{closed}/"), "--rate=1000", "--duration=1h"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("cannot be reached"), "{error}");
    assert!(error.contains("refused"), "{error}");

    let (address, count) = server();
    let url = format!("http://{address}/200");
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["https://example.org/", "--rate=1"], "https is not supported"),
        (&["example.org", "--rate=1"], "no address such as"),
        (&[&url], "--rate"),
        (&[&url, "--rate=-1"], "no rate"),
        (&[&url, "--rate=1", "--stage=1s:1"], "cannot be used with"),
        (&[&url, "--stage=1s"], "DURATION:RATE"),
        (&[&url, "--rate=1", "--duration=10"], "such as 30s"),
        (&[&url, "--rate=1", "--warm-up=30s"], "warm-up"),
        (&[&url, "--rate=0"], "offer nothing"),
        (&[&url, "--rate=1", "-H", "nothing"], "NAME: VALUE"),
        (&[&url, "--rate=1", "-H", "a b: c"], "no header"),
        (&[&url, "--rate=1", "--body={sequense}"], "no placeholder"),
        (&[&url, "--rate=1", "--body-file=none"], "cannot read none"),
        (&[&url, "--rate=1", "--svg=no/where"], "cannot write no/where"),
    ];
    for (arguments, said) in cases {
        let (code, out, error) = load(folder.path(), arguments);
        let expected = if said.contains("write") { 1 } else { 2 };
        assert_eq!((code, out.as_str()), (Some(expected), ""), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    assert_eq!(count.load(Ordering::Relaxed), 0);
}

#[test]
fn interrupted_it_ends_in_order_and_sums_up() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _) = server();
    let mut child =
        start(folder.path(), &[&format!("http://{address}/200"), "--rate=50", "--duration=1h"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    while !next().trim_start().starts_with("1s ") {}
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let mut rest = String::new();
    for line in lines {
        rest.push_str(&line.unwrap());
        rest.push('\n');
    }
    let (code, _, error) = ended(child);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{rest}");
    assert!(rest.contains("stopped") && rest.contains("response"), "{rest}");
}
