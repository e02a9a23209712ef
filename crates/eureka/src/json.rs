//! JSON bodies.
//!
//! The writers' order and quoting are a stock server's: booleans of ports and the two timestamps of
//! an instance are strings, the lease's are numbers, an empty metadata map is Java's marker of one,
//! lists are arrays even for one element, and `application` is there even when empty.

mod write;

pub use write::{
    application, applications, applications_compact, instance, replication_list,
    replication_response,
};

use crate::read::{self, ReadError};
use crate::{Application, Applications, Instance, ReplicationList, ReplicationResponse};

/// Reads one instance, wrapped as `{"instance":{…}}` or bare.
///
/// # Errors
/// When the body is not JSON, or a field holds something of the wrong kind. Nothing is an error
/// because it is missing: see [`Instance::validate`].
pub fn read_instance(body: &[u8]) -> Result<Instance, ReadError> {
    read::instance(&read::json(body)?)
}

/// Reads one application, wrapped or bare.
///
/// # Errors
/// As [`read_instance`].
pub fn read_application(body: &[u8]) -> Result<Application, ReadError> {
    read::application(&read::json(body)?)
}

/// Reads a list of applications, full or compact, wrapped or bare, with arrays or lone objects.
///
/// # Errors
/// As [`read_instance`]; also when it has neither applications nor one of the two values beside
/// them: `{}` must not pass for an empty table.
pub fn read_applications(body: &[u8]) -> Result<Applications, ReadError> {
    read::applications(&read::json(body)?)
}

/// Reads a peer's batch.
///
/// # Errors
/// As [`read_instance`]; also when `replicationList` is missing, or an action is missing or none
/// of those Eureka knows.
pub fn read_replication_list(body: &[u8]) -> Result<ReplicationList, ReadError> {
    read::replication_list(&read::json(body)?)
}

/// Reads the answers to a batch.
///
/// # Errors
/// As [`read_instance`]; also when `responseList` or a `statusCode` is missing.
pub fn read_replication_response(body: &[u8]) -> Result<ReplicationResponse, ReadError> {
    read::replication_response(&read::json(body)?)
}
