//! An ordered map of strings.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// String pairs in the order of their arrival, keys unique.
///
/// The key `@class` cannot be held: on the wire it is Java's marker for the type of a map, and
/// readers drop it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metadata(Vec<(String, String)>);

/// The one key that is not data.
const CLASS: &str = "@class";

impl Metadata {
    /// Without any pair.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(held, _)| held == key).map(|(_, value)| value.as_str())
    }

    /// Puts a value in; a held key keeps its place and gets the new value. `@class` is ignored.
    ///
    /// Looks through all keys; to make a large map use [`FromIterator`].
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let key = key.into();
        match self.0.iter_mut().find(|(held, _)| *held == key) {
            Some(pair) => pair.1 = value.into(),
            None if key == CLASS => (),
            None => self.0.push((key, value.into())),
        }
    }

    /// Takes a key out; its value, if it was there.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(held, _)| held == key)?;
        Some(self.0.remove(at).1)
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// How many pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all keys and values: what a registry bounds.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Metadata {
    /// As [`Metadata::insert`] one by one, in linear time: a body full of short keys must not cost
    /// the square of their number.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut held: Vec<(String, String)> = Vec::new();
        for (key, value) in pairs {
            let key = key.into();
            if key == CLASS {
                continue;
            }
            match places.entry(key) {
                Entry::Occupied(place) => {
                    if let Some(pair) = held.get_mut(*place.get()) {
                        pair.1 = value.into();
                    }
                }
                Entry::Vacant(place) => {
                    held.push((place.key().clone(), value.into()));
                    place.insert(held.len() - 1);
                }
            }
        }
        Self(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_keeps_its_place_and_takes_the_last_value() {
        let pairs = [("b", "1"), ("a", "2"), ("@class", "x"), ("b", "3")];
        let collected: Metadata = pairs.into_iter().collect();
        let mut inserted = Metadata::new();
        for (key, value) in pairs {
            inserted.insert(key, value);
        }
        assert_eq!(collected.iter().collect::<Vec<_>>(), [("b", "3"), ("a", "2")]);
        assert_eq!(collected, inserted);
        assert_eq!(collected.size_bytes(), 4);
        assert_eq!(inserted.remove("b").as_deref(), Some("3"));
        assert_eq!(inserted.get("b"), None);
        assert_eq!(inserted.len(), 1);
    }
}
