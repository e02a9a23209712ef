//! Values that go into statements and come out of rows.

use tradewind_base::Timestamp;

use crate::error::{Error, ErrorKind};

/// A parameter or a column. Exact types only: money and quantities are integers, times are
/// milliseconds, so floating point columns are refused instead of rounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Value {
    /// SQL NULL.
    Null,
    /// Any integer column, also a boolean (0 or 1) and an exact sum of integers.
    Integer(i64),
    /// UTF-8 text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Integer(_) => "an integer",
            Self::Text(_) => "text",
            Self::Blob(_) => "bytes",
        }
    }
}

/// Builds the parameter list of a statement: `params![id, "text", None::<i64>]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::Value::from($value)),*] as &[$crate::Value]
    };
}

macro_rules! integers {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Value {
            fn from(it: $kind) -> Self {
                Self::Integer(i64::from(it))
            }
        }
    )*};
}

integers!(i8, i16, i32, i64, u8, u16, u32, bool);

impl From<&str> for Value {
    fn from(it: &str) -> Self {
        Self::Text(it.to_owned())
    }
}

impl From<&String> for Value {
    fn from(it: &String) -> Self {
        Self::Text(it.clone())
    }
}

impl From<String> for Value {
    fn from(it: String) -> Self {
        Self::Text(it)
    }
}

impl From<&[u8]> for Value {
    fn from(it: &[u8]) -> Self {
        Self::Blob(it.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(it: Vec<u8>) -> Self {
        Self::Blob(it)
    }
}

impl From<Timestamp> for Value {
    fn from(it: Timestamp) -> Self {
        Self::Integer(it.millis())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(it: Option<T>) -> Self {
        it.map_or(Self::Null, Into::into)
    }
}

/// What [`Row::get`] can produce. Implement it for id types of your own.
pub trait FromValue: Sized {
    /// What the column should have held, for the message: `"a 32-bit integer"`.
    const EXPECTED: &'static str;
    /// The value, or `None` when the column holds something else.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_integers {
    ($($kind:ty => $expected:literal),* $(,)?) => {$(
        impl FromValue for $kind {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::Integer(it) => Self::try_from(*it).ok(),
                    Value::Null | Value::Text(_) | Value::Blob(_) => None,
                }
            }
        }
    )*};
}

from_integers! {
    i8 => "an integer of 8 bits",
    i16 => "an integer of 16 bits",
    i32 => "an integer of 32 bits",
    i64 => "an integer",
    u8 => "an unsigned integer of 8 bits",
    u16 => "an unsigned integer of 16 bits",
    u32 => "an unsigned integer of 32 bits",
    u64 => "an integer that is not negative",
    usize => "an integer that is not negative",
}

impl FromValue for bool {
    const EXPECTED: &'static str = "0 or 1";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(0) => Some(false),
            Value::Integer(1) => Some(true),
            Value::Null | Value::Integer(_) | Value::Text(_) | Value::Blob(_) => None,
        }
    }
}

impl FromValue for String {
    const EXPECTED: &'static str = "text";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(it) => Some(it.clone()),
            Value::Null | Value::Integer(_) | Value::Blob(_) => None,
        }
    }
}

impl FromValue for Vec<u8> {
    const EXPECTED: &'static str = "bytes";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Blob(it) => Some(it.clone()),
            Value::Null | Value::Integer(_) | Value::Text(_) => None,
        }
    }
}

impl FromValue for Timestamp {
    const EXPECTED: &'static str = "milliseconds";
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).map(Self::from_millis)
    }
}

impl FromValue for Value {
    const EXPECTED: &'static str = "anything";
    fn from_value(value: &Value) -> Option<Self> {
        Some(value.clone())
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            Value::Integer(_) | Value::Text(_) | Value::Blob(_) => T::from_value(value).map(Some),
        }
    }
}

/// One row of an answer.
#[derive(Debug)]
pub struct Row {
    pub(crate) values: Vec<Value>,
    pub(crate) statement: &'static str,
}

impl Row {
    /// The column at `index`, counted from 0.
    ///
    /// # Errors
    /// When there is no such column, or it holds something else (NULL is read as an `Option`).
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T, Error> {
        let value = self.values.get(index).ok_or_else(|| {
            Error::new(ErrorKind::Type, self.statement)
                .detail(format!("the answer has no column {index}"))
        })?;
        T::from_value(value).ok_or_else(|| {
            Error::new(ErrorKind::Type, self.statement).detail(format!(
                "column {index} holds {}, expected {}",
                value.type_name(),
                T::EXPECTED
            ))
        })
    }

    /// How many columns the row has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the row has no column, which no statement answers with.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Value]) -> Row {
        Row { values: values.to_vec(), statement: "SELECT it" }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let row = row(params![7, "text", vec![0_u8, 255], true, None::<i64>, Some(9_u32)]);
        assert_eq!(row.get::<i64>(0).unwrap(), 7);
        assert_eq!(row.get::<String>(1).unwrap(), "text");
        assert_eq!(row.get::<Vec<u8>>(2).unwrap(), [0, 255]);
        assert!(row.get::<bool>(3).unwrap());
        assert_eq!(row.get::<Option<i64>>(4).unwrap(), None);
        assert_eq!(row.get::<Option<u32>>(5).unwrap(), Some(9));
    }

    #[test]
    fn a_column_of_another_type_is_an_error_that_names_it() {
        let row = row(params![None::<i64>, -1, 300, "text", 2]);
        let text = row.get::<i64>(0).unwrap_err().to_string();
        assert!(text.contains("column 0 holds NULL, expected an integer"), "{text}");
        assert_eq!(row.get::<u64>(1).unwrap_err().kind(), ErrorKind::Type);
        assert!(row.get::<u8>(2).is_err());
        assert!(row.get::<i64>(3).is_err());
        assert!(row.get::<bool>(4).is_err());
        assert!(row.get::<i64>(9).unwrap_err().to_string().contains("no column 9"));
    }
}
