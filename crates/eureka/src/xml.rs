//! XML bodies.
//!
//! The layout is a stock server's: two spaces per level, no declaration, no line end after the
//! root. Readers never see a document type or an entity of its own making, see
//! [`ReadError::Entity`].
//!
//! XML cannot carry everything JSON can. Two things are lost on purpose, rather than making a
//! document that no client can read because of one odd instance:
//! - Characters that XML 1.0 forbids are written as U+FFFD. A stock server writes references to
//!   them, which parsers refuse.
//! - A metadata pair with an empty key is left out.
//!
//! Metadata keys become element names: `_` is written `__`, `$` is `_-` (both as a stock server
//! does), and each character that may not stand in a name is `_.` and four hex digits per UTF-16
//! unit, XStream's own notation. So every other key comes back as it was.

mod name;
mod parse;
mod write;

pub use write::{Style, application, applications, instance};

use crate::read::{self, ReadError};
use crate::{Application, Applications, Instance};

/// How deep elements may be nested. A list of applications needs five.
pub const DEPTH_MAX: usize = 32;

/// Reads one element `instance`.
///
/// # Errors
/// When the body is not XML, its root is another element, it has a document type or unknown
/// entities, is nested deeper than [`DEPTH_MAX`], or a field holds something of the wrong kind.
/// Nothing is an error because it is missing: see [`Instance::validate`].
pub fn read_instance(body: &[u8]) -> Result<Instance, ReadError> {
    read::instance(&parse::document(read::utf8(body)?, "instance")?)
}

/// Reads one element `application`.
///
/// # Errors
/// As [`read_instance`].
pub fn read_application(body: &[u8]) -> Result<Application, ReadError> {
    read::application(&parse::document(read::utf8(body)?, "application")?)
}

/// Reads one element `applications`.
///
/// # Errors
/// As [`read_instance`]; also when it has neither applications nor one of the two lines above them.
pub fn read_applications(body: &[u8]) -> Result<Applications, ReadError> {
    read::applications(&parse::document(read::utf8(body)?, "applications")?)
}
