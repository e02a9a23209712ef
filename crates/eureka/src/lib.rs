//! Eureka's wire shapes: JSON and XML, exact to the byte.

mod model;

pub use model::metadata::Metadata;
pub use model::replication::{
    ReplicationAction, ReplicationInstance, ReplicationList, ReplicationResponse, ReplicationResult,
};
pub use model::{
    ActionType, Application, Applications, DataCenter, Head, Instance, Invalid, LeaseInfo, Port,
    Status,
};

/// `apps__hashcode` of a table: for each status that occurs, in the order of the names, the name
/// and how often, each followed by an underscore. Empty for an empty table.
pub fn hash_code(statuses: impl IntoIterator<Item = Status>) -> String {
    let mut counts = [0_usize; Status::ALL.len()];
    for status in statuses {
        counts[status as usize] += 1;
    }
    let occurring = Status::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0);
    occurring.map(|(status, count)| format!("{status}_{count}_")).collect()
}
