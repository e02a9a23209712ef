//! What a branch is to reserve, written once.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// JSON that is passed on as it was written. It goes into the log and into every Try, some of them
/// repeated: a tree of values would be built, copied and written anew each time.
#[derive(Clone, Debug)]
pub struct Payload(Arc<RawValue>);

impl Payload {
    /// Writes a value.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self(to_raw_value(value)?.into()))
    }

    /// Of a branch that needs none.
    #[must_use]
    pub fn null() -> Self {
        Self(Arc::from(RawValue::NULL.to_owned()))
    }

    /// The JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The same as a tree of values.
    #[must_use]
    pub fn value(&self) -> serde_json::Value {
        // It is JSON, of no more than the depth that it was read with.
        serde_json::from_str(self.text()).unwrap_or_default()
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Payload {}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Box::<RawValue>::deserialize(deserializer)?.into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_passed_on_as_it_was_written() {
        let written = Payload::of(&json!({"b": [1, null], "a": "ü"})).unwrap();
        assert_eq!(written.text(), r#"{"a":"ü","b":[1,null]}"#);
        let read: Payload = serde_json::from_str(r#"{"z":1, "a":2}"#).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"{"z":1, "a":2}"#);
        assert_eq!(read.value(), json!({"a": 2, "z": 1}));
        assert_eq!(Payload::null(), Payload::of(&()).unwrap());
        // Also out of a tree of values, as tests and the coordinator have them.
        assert_eq!(Payload::deserialize(json!([7])).unwrap().text(), "[7]");
    }
}
