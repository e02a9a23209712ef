//! The guide's own lines, as a reader pastes them.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tradewind_e2e::{Estate, binary};

fn read(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/");
    std::fs::read_to_string(Path::new(folder).join(name)).unwrap()
}

/// The shell blocks, in their order.
fn blocks(guide: &str) -> Vec<&str> {
    guide.split("```sh\n").skip(1).map(|it| it.split("```").next().unwrap()).collect()
}

/// The block that contains this text.
fn block<'a>(blocks: &[&'a str], text: &str) -> &'a str {
    let mut found = blocks.iter().filter(|it| it.contains(text));
    let block = found.next().unwrap_or_else(|| panic!("no block has `{text}`"));
    assert!(found.next().is_none(), "two blocks have `{text}`");
    block
}

#[test]
fn both_languages_have_the_same_commands_tables_and_drawings() {
    let (english, chinese) = (read("README.md"), read("README.zh-CN.md"));
    assert_eq!(blocks(&english), blocks(&chinese));
    let count = |text: &str, start: &str| text.lines().filter(|it| it.starts_with(start)).count();
    for start in ["|", "## ", "!["] {
        assert_eq!(count(&english, start), count(&chinese, start), "{start}");
    }
    let drawings = |text: &str| -> Vec<String> {
        let names = text.split("](images/").skip(1);
        names.map(|it| it.split(')').next().unwrap().to_owned()).collect()
    };
    for name in drawings(&english).into_iter().chain(drawings(&chinese)) {
        assert!(read(&format!("images/{name}")).starts_with("<svg"), "{name}");
    }
}

/// The statuses that curl wrote, in their order.
fn statuses(text: &str) -> Vec<&str> {
    let word = |it: &'_ str| it.len() == 3 && it.bytes().all(|it| it.is_ascii_digit());
    text.lines().filter_map(|it| it.split(' ').next()).filter(|it| word(it)).collect()
}

/// Everything but what takes long, a build of its own, or another start.
#[tokio::test]
async fn the_lines_of_the_guide_do_what_it_says() {
    let estate = Estate::start().await;
    let guide = read("README.md");
    let blocks = blocks(&guide);
    // The binary under test may have any name.
    let mut script = format!("set -u\ntradewind() {{ '{}' \"$@\"; }}\n", binary().display());
    for text in [
        "place() {",
        "place first",
        "place twice",
        "place to-cancel",
        "P=$(pid points)",
        "A=$(pid warehouse-a)",
    ] {
        script.push_str(&format!(
            "echo \"## {}\"\n{}",
            text.replace(['$', '"'], ""),
            block(&blocks, text)
        ));
    }
    script.push_str("echo '## audit'\ntradewind audit\n");
    let gateway = format!("127.0.0.1:{}", estate.ports.gateway);
    let script = script.replace("127.0.0.1:9000", &gateway);
    let run = tokio::process::Command::new("sh")
        .arg("-c")
        .arg(&script)
        .current_dir(estate.data().parent().unwrap())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output =
        tokio::time::timeout(Duration::from_secs(120), run).await.expect("an end").unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "the audit is not clean: {printed}\n{errors}");
    let told = |title: &str| {
        let rest = printed.split(&format!("## {title}")).nth(1);
        let rest = rest.unwrap_or_else(|| panic!("nothing under `{title}`: {printed}\n{errors}"));
        rest.split("\n## ").next().unwrap().to_owned()
    };
    assert_eq!(statuses(&told("place first")), ["201"], "{printed}");
    assert!(told("place first").contains("\"step\":\"place\""), "{printed}");
    assert_eq!(statuses(&told("place twice")), ["201", "201", "422"], "{printed}");
    assert_eq!(statuses(&told("place to-cancel")), ["201", "200"], "{printed}");
    assert_eq!(statuses(&told("P=(pid points)")), ["503", "201"], "{printed}");
    let patient = told("A=(pid warehouse-a)");
    assert_eq!(statuses(&patient), ["201"], "{printed}");
    assert!(patient.contains("\"state\":\"placed\"\n"), "{printed}");
    assert!(patient.contains("\"state\":\"shipped\""), "{printed}");
}
