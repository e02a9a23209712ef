//! How the tour is told: one line per thing that is done or seen, in columns.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use super::proof::Unmet;

/// The longest line, in characters.
const WIDTH: usize = 92;
/// Where the text begins, behind the label.
const TEXT_AT: usize = 10;

/// Writes to standard output. Nothing depends on somebody reading it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Story {
    colours: bool,
}

/// What a line is about, with its colour (an SGR parameter).
#[derive(Clone, Copy, Debug)]
struct Label {
    word: &'static str,
    colour: &'static str,
}

const ASKS: Label = Label { word: "asks", colour: "36" };
const GETS: Label = Label { word: "gets", colour: "36" };
const DOES: Label = Label { word: "does", colour: "33" };
const SEES: Label = Label { word: "sees", colour: "2" };
const HELD: Label = Label { word: "held", colour: "1;32" };
const FAILED: Label = Label { word: "FAILED", colour: "1;31" };
const WANTED: Label = Label { word: "wanted", colour: "31" };
const SAW: Label = Label { word: "saw", colour: "31" };
const LOGS: Label = Label { word: "logs", colour: "2" };

impl Story {
    /// In colours where a terminal reads it and nobody objects (<https://no-color.org>).
    pub(super) fn begin() -> Self {
        let objects = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|it| it == "dumb");
        Self { colours: std::io::stdout().is_terminal() && !objects && !dumb }
    }

    /// A line of its own weight.
    pub(super) fn title(&self, text: &str) {
        say(&format!("{}\n", self.paint("1", text)));
    }

    /// Plain text from the left margin.
    pub(super) fn tells(&self, text: &str) {
        say(&wrapped(text, 0));
    }

    /// The head of a chapter and what is about to happen.
    pub(super) fn chapter(&self, number: u8, title: &str, text: &str) {
        say(&format!(
            "\n{}\n{}\n",
            self.paint("1", &format!("{number}  {title}")),
            wrapped(text, 3)
        ));
    }

    /// A request.
    pub(super) fn asks(&self, text: impl Display) {
        self.line(ASKS, &text);
    }

    /// Its answer.
    pub(super) fn gets(&self, text: impl Display) {
        self.line(GETS, &text);
    }

    /// Something that is done to a process or a connection.
    pub(super) fn does(&self, text: impl Display) {
        self.line(DOES, &text);
    }

    /// What was found out afterwards.
    pub(super) fn sees(&self, text: impl Display) {
        self.line(SEES, &text);
    }

    /// What another program printed, line by line, each cut where it is too long.
    pub(super) fn quotes(&self, text: &str) {
        for line in text.lines().filter(|it| !it.trim().is_empty()) {
            say(&format!("{:TEXT_AT$}{}\n", "", cut(line.trim_end(), WIDTH - TEXT_AT)));
        }
    }

    /// The chapter held, and the mechanism that made it.
    pub(super) fn held(&self, why: impl Display) {
        self.line(HELD, &why);
    }

    /// The chapter did not hold.
    pub(super) fn failed(&self, unmet: &Unmet, logs: &Path) {
        self.line(FAILED, &"something did not come as it must");
        self.line(WANTED, &unmet.wanted);
        self.line(SAW, &unmet.saw);
        self.line(LOGS, &format!("{} (the folder is kept)", logs.display()));
    }

    /// The last line of a tour that held.
    pub(super) fn well(&self, text: &str) {
        say(&format!("\n{}\n", self.paint("1;32", text)));
    }

    /// The last line of one that did not.
    pub(super) fn badly(&self, text: &str) {
        say(&format!("\n{}\n", self.paint("1;31", text)));
    }

    fn line(&self, label: Label, text: &dyn Display) {
        let text = wrapped(&text.to_string(), TEXT_AT);
        let rest = text.get(TEXT_AT..).unwrap_or_default();
        let pad = TEXT_AT.saturating_sub(3 + label.word.len());
        let word = self.paint(label.colour, label.word);
        say(&format!("   {word}{:pad$}{rest}", ""));
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// The text in lines of at most [`WIDTH`] characters, each indented; a line break stays one. What
/// is indented in the text stays so, also where its line is broken.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let own = line.len() - line.trim_start().len();
        let margin = indent + own;
        let mut column = margin;
        out.push_str(&" ".repeat(margin));
        for (index, word) in words(line.trim_start()).into_iter().enumerate() {
            let (gap, word) = word;
            let length = word.chars().count();
            if 0 < index && WIDTH < column + gap + length {
                out.push('\n');
                out.push_str(&" ".repeat(margin));
                column = margin;
            } else {
                out.push_str(&" ".repeat(gap));
                column += gap;
            }
            out.push_str(word);
            column += length;
        }
        out.push('\n');
    }
    out
}

/// The beginning of a line, with a sign that it goes on.
fn cut(line: &str, length: usize) -> String {
    if line.chars().count() <= length {
        return line.to_owned();
    }
    let mut text: String = line.chars().take(length.saturating_sub(1)).collect();
    text.truncate(text.trim_end().len());
    text.push('…');
    text
}

/// The words with the spaces before each: columns stay where they are.
fn words(line: &str) -> Vec<(usize, &str)> {
    let mut gap = 0;
    let mut words = Vec::new();
    for piece in line.split(' ') {
        if piece.is_empty() {
            gap += 1;
        } else {
            words.push((gap, piece));
            gap = 1;
        }
    }
    words
}

/// A span as people read it: `37 ms`, `1.42 s`.
pub(super) fn span(it: Duration) -> String {
    let millis = it.as_millis();
    if millis < 1000 {
        format!("{millis} ms")
    } else {
        format!("{}.{:02} s", millis / 1000, millis % 1000 / 10)
    }
}

/// An amount as people read it: `136.00 CNY`.
pub(super) fn money(cents: i64, currency: &str) -> String {
    format!("{}.{:02} {currency}", cents / 100, cents.rem_euclid(100))
}

fn say(text: &str) {
    // Who reads may be gone; what is proved is proved all the same, and the exit code tells.
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()));
    drop(out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_words_and_keeps_its_columns() {
        let text = format!("{}\n  name    value", "word ".repeat(30));
        let lines = wrapped(&text, 10);
        assert!(lines.lines().all(|it| it.chars().count() <= WIDTH), "{lines}");
        assert!(lines.lines().all(|it| it.starts_with("          ")), "{lines}");
        assert_eq!(lines.lines().last(), Some("            name    value"));
        assert_eq!(lines.matches("word").count(), 30);
        // What has no place to break is not broken.
        let long = "x".repeat(200);
        assert_eq!(wrapped(&long, 3), format!("   {long}\n"));
    }

    #[test]
    fn what_is_too_long_is_cut_with_a_sign() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("éé éé", 4), "éé…");
    }

    #[test]
    fn spans_and_amounts_are_short() {
        assert_eq!(span(Duration::from_micros(37_900)), "37 ms");
        assert_eq!(span(Duration::from_millis(1425)), "1.42 s");
        assert_eq!(money(13_605, "CNY"), "136.05 CNY");
    }

    #[test]
    fn without_a_terminal_there_are_no_escape_codes() {
        assert_eq!(Story { colours: false }.paint("1", "x"), "x");
        assert!(Story { colours: true }.paint("1", "x").starts_with('\u{1b}'));
    }
}
