//! Reading a JSON body by hand, so that every mistake in it is named at once.
//!
//! A typed decoder stops at the first wrong field. People who fix a basket want the whole list.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tradewind::base::problem::FieldError;

/// The most mistakes that are listed; a body with more of them is wrong anyway.
pub(crate) const MISTAKES_MAX: usize = 250;
/// The longest part of a foreign field name that is repeated in an answer, in characters.
const NAME_CHARS_MAX: usize = 40;

/// The mistakes found so far, in the order of the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mistakes {
    /// By position in the body: 0 for the body itself, then one per element.
    found: BTreeMap<usize, Vec<FieldError>>,
    count: usize,
    malformed: bool,
}

/// What came of reading one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading<T> {
    /// It is right.
    Good(T),
    /// It is of the wrong type: no client that knows the interface sends it.
    Malformed,
    /// It is of the right type and has a value that is not accepted.
    Refused,
}

impl Mistakes {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether some mistake is one of form, not of content.
    pub(crate) const fn malformed(&self) -> bool {
        self.malformed
    }

    /// Notes a mistake of the body itself.
    pub(crate) fn note(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.note_at(0, field, message);
    }

    /// Notes a mistake of the element at `position`, from 1.
    pub(crate) fn note_at(
        &mut self,
        position: usize,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        if self.count < MISTAKES_MAX {
            self.count += 1;
            let error = FieldError { field: field.into(), message: message.into() };
            self.found.entry(position).or_default().push(error);
        }
    }

    /// These and others of the same body.
    pub(crate) fn and(mut self, others: Self) -> Self {
        self.malformed |= others.malformed;
        for (position, errors) in others.found {
            for it in errors {
                self.note_at(position, it.field, it.message);
            }
        }
        self
    }

    pub(crate) fn into_errors(self) -> Vec<FieldError> {
        self.found.into_values().flatten().collect()
    }
}

/// A JSON object of which certain fields are expected.
#[derive(Clone, Debug)]
pub(crate) struct Object<'a> {
    fields: &'a Map<String, Value>,
    prefix: String,
    position: usize,
}

impl<'a> Object<'a> {
    /// The body itself as an object that has no fields but `known`.
    pub(crate) fn body(value: &'a Value, known: &[&str], mistakes: &mut Mistakes) -> Option<Self> {
        Self::read(value, String::new(), 0, known, mistakes)
    }

    /// Element `index` of the list `list` as an object that has no fields but `known`.
    pub(crate) fn element(
        value: &'a Value,
        list: &str,
        index: usize,
        known: &[&str],
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        Self::read(value, format!("{list}[{index}]"), index + 1, known, mistakes)
    }

    fn read(
        value: &'a Value,
        path: String,
        position: usize,
        known: &[&str],
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let Value::Object(fields) = value else {
            let path = if path.is_empty() { "body".to_owned() } else { path };
            mistakes.malformed = true;
            mistakes.note_at(position, path, "must be a JSON object");
            return None;
        };
        let prefix = if path.is_empty() { path } else { path + "." };
        for name in fields.keys().filter(|it| !known.contains(&it.as_str())) {
            mistakes.malformed = true;
            let name: String = name.chars().take(NAME_CHARS_MAX).collect();
            let message = format!("is not known here; known are {}", known.join(", "));
            mistakes.note_at(position, format!("{prefix}{name}"), message);
        }
        Some(Self { fields, prefix, position })
    }

    /// The full path of a field, as it is named to the caller.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The field, or a mistake when it is missing or `read` finds it wrong.
    pub(crate) fn field<T>(
        &self,
        name: &str,
        expected: &str,
        mistakes: &mut Mistakes,
        read: impl FnOnce(&'a Value) -> Reading<T>,
    ) -> Option<T> {
        let reading = self.fields.get(name).map(read);
        if let Some(Reading::Good(it)) = reading {
            return Some(it);
        }
        let missing = if reading.is_none() { "is missing; it " } else { "" };
        mistakes.malformed |= !matches!(reading, Some(Reading::Refused));
        mistakes.note_at(self.position, self.path(name), format!("{missing}must be {expected}"));
        None
    }
}

/// A whole number in JSON's own notation for them: `1.0` and `1e0` are malformed, as what they
/// would become depends on the reader.
pub(crate) fn whole<T>(value: &Value, accept: impl FnOnce(i128) -> Option<T>) -> Reading<T> {
    let number = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    checked(number, accept)
}

/// A text.
pub(crate) fn text<'a>(value: &'a Value, accept: impl FnOnce(&'a str) -> bool) -> Reading<&'a str> {
    checked(value.as_str(), |it| accept(it).then_some(it))
}

fn checked<R, T>(typed: Option<R>, accept: impl FnOnce(R) -> Option<T>) -> Reading<T> {
    typed.map_or(Reading::Malformed, |it| accept(it).map_or(Reading::Refused, Reading::Good))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_mistake_is_listed_in_the_order_of_the_body() {
        let mut mistakes = Mistakes::default();
        let second = json!({"size": "x", "extra": 1});
        let second = Object::element(&second, "list", 1, &["size"], &mut mistakes).unwrap();
        assert_eq!(second.field("size", "a number", &mut mistakes, |it| whole(it, Some)), None);
        assert!(Object::element(&json!(3), "list", 0, &["size"], &mut mistakes).is_none());
        mistakes.note("list", "is short");
        let fields: Vec<_> = mistakes.into_errors().into_iter().map(|it| it.field).collect();
        assert_eq!(fields, ["list", "list[0]", "list[1].extra", "list[1].size"]);
    }

    #[test]
    fn a_flood_of_mistakes_and_of_long_names_is_cut() {
        let mut mistakes = Mistakes::default();
        let fields = (0..1000).map(|it| (format!("{it:0100}"), Value::Null));
        let body = Value::Object(fields.collect());
        assert!(Object::body(&body, &["a"], &mut mistakes).is_some());
        let errors = mistakes.into_errors();
        assert_eq!(errors.len(), MISTAKES_MAX);
        assert!(errors.iter().all(|it| it.field.len() <= NAME_CHARS_MAX));
    }
}
