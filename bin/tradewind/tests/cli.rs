//! What the command line promises: exit codes, messages, a dump that is a configuration.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The exit code of what went well, and of what was not started because it is wrong.
const OK: Option<i32> = Some(0);
const MISCONFIGURED: Option<i32> = Some(2);

/// A run that has ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    error: String,
}

/// What is asked here ends at once; a server would go on.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs the binary in `folder`, without the settings of whoever runs the test.
#[expect(clippy::panic, reason = "a test that hangs fails")]
fn run(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tradewind"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRADEWIND__") {
            command.env_remove(name);
        }
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id();
    let (send, ended) = std::sync::mpsc::sync_channel(1);
    let wait = std::thread::spawn(move || send.send(child.wait_with_output()).unwrap());
    let Ok(output) = ended.recv_timeout(LIMIT) else {
        // A server that started where a refusal was expected must not outlive the test.
        Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        panic!("{arguments:?} runs instead of ending");
    };
    wait.join().unwrap();
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), error: text(output.stderr) }
}

/// The lines that set something.
fn settings(dump: &str) -> Vec<&str> {
    dump.lines().filter(|it| !it.starts_with('#') && !it.is_empty()).collect()
}

/// Writes the dump as `tradewind.toml` and dumps again.
fn read_back(folder: &Path, dump: &str) -> Ended {
    std::fs::write(folder.join("tradewind.toml"), dump).unwrap();
    run(folder, &["config", "--dump"])
}

#[test]
fn the_dump_of_the_defaults_is_a_configuration_and_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path(), &["config", "--dump"]);
    assert_eq!(first.code, OK, "{first:?}");
    for key in ["[tradewind]", "[registry]", "[gateway.admin]", "[order.database]", "[up]"] {
        assert!(first.out.lines().any(|it| it == key), "{key} is not in {}", first.out);
    }
    let second = read_back(folder.path(), &first.out);
    assert_eq!(second.code, OK, "{second:?}");
    assert_eq!(settings(&first.out), settings(&second.out));
    assert!(second.out.contains("; from: tradewind.toml:"), "{}", second.out);
    assert!(!folder.path().join("data").exists(), "looking makes nothing");
}

#[test]
fn the_dump_of_every_kind_of_setting_says_the_same_when_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let changed = [
        ("tradewind.data", "a \"quoted\" folder"),
        ("discovery.urls", "http://127.0.0.1:1,http://127.0.0.1:2"),
        ("order.bind", "[::1]:9001"),
        ("order.database.url", "mysql://me%40home@[::1]:3307/shop"),
        ("order.demo_users", "false"),
        ("order.token_life", "90m"),
        ("inventory.database.url", "sqlite:some where/it.db"),
        ("inventory.body_bytes_max", "12345"),
        ("log.format", "json"),
    ];
    let sets: Vec<_> = changed.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut arguments = vec!["config", "--dump"];
    arguments.extend(sets.iter().flat_map(|it| ["--set", it]));
    let first = run(folder.path(), &arguments);
    assert_eq!(first.code, OK, "{first:?}");
    let flags = first.out.lines().filter(|it| it.contains("; from: flag ")).count();
    assert_eq!(flags, changed.len(), "{}", first.out);
    let second = read_back(folder.path(), &first.out);
    assert_eq!(second.code, OK, "{second:?}");
    assert_eq!(settings(&first.out), settings(&second.out));
}

/// Three stars must not become the password of anything.
#[test]
fn a_dump_shows_no_secret_and_its_stars_are_not_taken_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = "[discovery]\nuser = \"me\"\npassword = \"hunter2\"\n\
                [order.database]\nurl = \"mysql://me:hunter2@db/order\"\n\
                [gateway.database]\nurl = \"mysql://me:hunter2@db/gateway\"\n";
    let dump = read_back(folder.path(), file);
    assert_eq!(dump.code, OK, "{dump:?}");
    assert!(!dump.out.contains("hunter2"), "{}", dump.out);
    let again = read_back(folder.path(), &dump.out);
    assert_eq!(again.code, MISCONFIGURED, "{again:?}");
    for key in ["discovery.password", "order.database.url", "gateway.database.url"] {
        assert!(again.error.contains(key), "{key} is not in {}", again.error);
    }
}

#[test]
fn what_is_valid_is_said_to_be_valid() {
    let folder = tempfile::tempdir().unwrap();
    let checked = run(folder.path(), &["config"]);
    assert_eq!((checked.code, checked.error.as_str()), (OK, ""));
    assert_eq!(checked.out, "the configuration is valid\n");
    for arguments in [&["--help"][..], &["--version"], &["shop", "--help"]] {
        let shown = run(folder.path(), arguments);
        assert_eq!(shown.code, OK, "{arguments:?}: {shown:?}");
        assert!(shown.out.contains("tradewind"), "{arguments:?}: {}", shown.out);
    }
}

#[test]
fn what_is_wrong_starts_nothing_and_says_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["frobnicate"], "frobnicate"),
        (&["shop", "bakery"], "bakery"),
        (&["up", "--set"], "--set"),
        (&["up", "--set", "registry.bind"], "expected KEY=VALUE"),
        (&["up", "--set", "=127.0.0.1:1"], "expected KEY=VALUE"),
        (&["up", "--set", "registry.bind="], "registry.bind"),
        (&["up", "--set", "registry.bind=nowhere"], "an IP address and a port"),
        (&["up", "--set", "registry.bnd=127.0.0.1:1"], "did you mean `registry.bind`?"),
        (&["registry", "--config", "none.toml"], "none.toml"),
        (&["config", "--config", "."], "cannot read the configuration file ."),
    ];
    for (arguments, said) in cases {
        let ended = run(folder.path(), arguments);
        assert_eq!(ended.code, MISCONFIGURED, "{arguments:?}: {ended:?}");
        assert!(ended.error.contains(said), "{arguments:?}: {}", ended.error);
        assert_eq!(ended.out, "", "{arguments:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was made");
}

#[test]
fn every_mistake_of_file_and_flags_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.toml");
    std::fs::write(&file, "[order]\ntoken_life = \"0s\"\n[gateway]\nbnd = 1\n").unwrap();
    let ended =
        run(folder.path(), &["config", "--config", "other.toml", "--set", "log.format=loud"]);
    assert_eq!(ended.code, MISCONFIGURED, "{ended:?}");
    for part in ["3 mistakes", "order.token_life (other.toml:2)", "gateway.bnd", "log.format"] {
        assert!(ended.error.contains(part), "{part} is not in {}", ended.error);
    }
}

/// Somebody who watches for an hour wants to know at its end whether all of it was well.
#[test]
fn a_watching_audit_ends_with_the_worst_of_its_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tradewind"));
    command.current_dir(folder.path()).args(["--data", "none", "audit", "--watch", "3600"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().contains("database of order"));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    drop(said);
    assert_eq!(child.wait().unwrap().code(), Some(2));
}
