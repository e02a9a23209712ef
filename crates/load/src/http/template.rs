//! Text with placeholders.

use tradewind_base::Rng;

/// Text with placeholders:
///
/// | placeholder | becomes |
/// |---|---|
/// | `{sequence}` | the number of the request, from zero |
/// | `{run}` | a word that is the same for the whole run and differs between runs |
/// | `{id}` | 32 random hexadecimal digits, anew at each place |
/// | `{number:1..200}` | a random number from 1 to 200, both included, anew at each place |
/// | `{{name}` | the text `{name}` |
///
/// Every other brace is itself, so JSON can be written as it is. A word in braces that is none of
/// these is refused: it is more likely a mistake than a text.
///
/// What is random depends on run and number alone, so that a run can be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Sequence,
    Run,
    Id,
    Number { from: u64, span: usize },
}

/// Why a text is no [`Template`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A word in braces that is no placeholder.
    #[error(
        "`{{{0}}}` is no placeholder; they are {{sequence}}, {{run}}, {{id}}, {{number:1..200}}; write `{{{{{0}}}` for the text itself"
    )]
    Unknown(String),
    /// The bounds of a number are wrong.
    #[error("`{{{0}}}` needs two numbers, the smaller one first: {{number:1..200}}")]
    Bounds(String),
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// When a word in braces is no placeholder.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            if let Some(escaped) = after.strip_prefix('{')
                && word(escaped).is_some()
            {
                plain.push('{');
                rest = escaped;
                continue;
            }
            let Some((inside, behind)) = word(after) else {
                plain.push('{');
                rest = after;
                continue;
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(placeholder(inside)?);
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// Whether it has no placeholders.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.0.iter().all(|it| matches!(it, Part::Text(_)))
    }

    /// The text for the request with this number.
    #[must_use]
    pub fn fill(&self, sequence: u64, run: &str) -> String {
        let mut text = String::new();
        let mut rng = None;
        for part in &self.0 {
            match part {
                Part::Text(it) => text.push_str(it),
                Part::Run => text.push_str(run),
                Part::Sequence => text.push_str(&sequence.to_string()),
                Part::Id => {
                    let rng = rng.get_or_insert_with(|| seeded(sequence, run));
                    text.push_str(&format!("{:032x}", rng.u128()));
                }
                Part::Number { from, span } => {
                    let rng = rng.get_or_insert_with(|| seeded(sequence, run));
                    text.push_str(&(from + rng.below(*span) as u64).to_string());
                }
            }
        }
        text
    }
}

fn seeded(sequence: u64, run: &str) -> Rng {
    // FNV-1a over the run's word, so that neighbouring numbers and runs share nothing.
    let seed = run.bytes().chain(sequence.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |sum, it| {
        (sum ^ u64::from(it)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Rng::seeded(seed)
}

/// What is inside the brace that was just opened, if it looks like a placeholder, and what
/// follows it.
fn word(after: &str) -> Option<(&str, &str)> {
    let (inside, behind) = after.split_once('}')?;
    let name = inside.split(':').next().unwrap_or(inside);
    let named = !name.is_empty() && name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
    let plain = !inside.contains(['"', '{', ' ', '\n', ',']);
    (named && plain).then_some((inside, behind))
}

fn placeholder(inside: &str) -> Result<Part, TemplateError> {
    match inside.split_once(':') {
        None if inside == "sequence" => Ok(Part::Sequence),
        None if inside == "run" => Ok(Part::Run),
        None if inside == "id" => Ok(Part::Id),
        Some(("number", bounds)) => {
            let wrong = || TemplateError::Bounds(inside.to_owned());
            let (from, to) = bounds.split_once("..").ok_or_else(wrong)?;
            let parse = |it: &str| it.trim().parse::<u64>().map_err(|_| wrong());
            let (from, to) = (parse(from)?, parse(to)?);
            let span = to.checked_sub(from).and_then(|it| usize::try_from(it).ok());
            let span = span.and_then(|it| it.checked_add(1)).ok_or_else(wrong)?;
            Ok(Part::Number { from, span })
        }
        _ => Err(TemplateError::Unknown(inside.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_itself_and_placeholders_are_filled() {
        let text =
            r#"{"items":[{"product_id":{number:7..7},"quantity":1}],"note":"{sequence} of {run}"}"#;
        let filled = Template::parse(text).unwrap().fill(41, "r1");
        assert_eq!(filled, r#"{"items":[{"product_id":7,"quantity":1}],"note":"41 of r1"}"#);
        for text in ["", "{}", "{", "}{", r#"{"a":{}}"#, "{ a }", "{\"a\": 1}", "{A}"] {
            let template = Template::parse(text).unwrap();
            assert!(template.is_fixed());
            assert_eq!(template.fill(1, "r"), text);
        }
        assert_eq!(Template::parse("a{{id}b").unwrap().fill(1, "r"), "a{id}b");
    }

    #[test]
    fn what_is_random_stays_within_bounds_and_is_the_same_in_the_next_run_of_the_name() {
        let template = Template::parse("{id}/{number:3..5}").unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for sequence in 0..200 {
            let text = template.fill(sequence, "a");
            assert_eq!(text, template.fill(sequence, "a"));
            assert_ne!(text, template.fill(sequence, "b"));
            let (id, number) = text.split_once('/').unwrap();
            assert_eq!(id.len(), 32);
            seen.insert(number.to_owned());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["3", "4", "5"]);
    }

    #[test]
    fn a_mistake_is_told() {
        assert_eq!(Template::parse("{sequense}"), Err(TemplateError::Unknown("sequense".into())));
        for text in ["{number:5..3}", "{number:1}", "{number:a..b}"] {
            assert!(matches!(Template::parse(text), Err(TemplateError::Bounds(_))), "{text}");
        }
        let whole = Template::parse("{number:0..18446744073709551615}");
        assert!(whole.is_err(), "the span does not fit: {whole:?}");
        let message = Template::parse("{x}").unwrap_err().to_string();
        assert!(message.contains("`{x}` is no placeholder"), "{message}");
        assert!(message.contains("`{{x}`"), "{message}");
    }
}
