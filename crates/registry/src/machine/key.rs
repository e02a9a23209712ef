//! What names an instance: its application and its id.

use std::fmt;
use std::sync::Arc;

/// The name of a lease: the application in upper case, and the id as the client gave it.
///
/// Both halves are shared, so that the many places that hold a key hold two pointers.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The application, in upper case as Eureka shows it.
    pub app: Arc<str>,
    /// The instance id. Case counts.
    pub id: Arc<str>,
}

impl Key {
    /// A key; the application is brought to upper case.
    #[must_use]
    pub fn new(app: &str, id: &str) -> Self {
        Self { app: app.to_uppercase().into(), id: id.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.id)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
