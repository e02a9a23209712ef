//! What is taken in: bounds of number and size.

use tradewind_eureka::Instance;

use super::{Key, Table};

/// Why an instance is not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The table is full.
    #[error("the registry holds {max} instances already")]
    TableFull {
        /// The limit.
        max: usize,
    },
    /// The application is full.
    #[error("the application holds {max} instances already")]
    AppFull {
        /// The limit.
        max: usize,
    },
    /// A name is too long.
    #[error("{field} is longer than {max} bytes")]
    NameTooLong {
        /// The field of the body.
        field: &'static str,
        /// The limit, in bytes.
        max: usize,
    },
    /// The metadata, or all other texts together, are too long.
    #[error("{field} takes more than {max} bytes")]
    TooLarge {
        /// What is too long.
        field: &'static str,
        /// The limit, in bytes.
        max: usize,
    },
}

impl Table {
    /// Whether another instance of this shape is taken in.
    pub(super) fn admit(&self, key: &Key, doc: &Instance) -> Result<(), Refusal> {
        let max = self.limits.name_bytes_max;
        let names = [
            ("app", key.app.len()),
            ("instanceId", key.id.len()),
            ("hostName", doc.host_name.len()),
            ("ipAddr", doc.ip_addr.len()),
        ];
        if let Some((field, _)) = names.into_iter().find(|(_, len)| max < *len) {
            return Err(Refusal::NameTooLong { field, max });
        }
        let max = self.limits.metadata_bytes_max;
        if max < doc.metadata.size_bytes() {
            return Err(Refusal::TooLarge { field: "metadata", max });
        }
        if max < text_bytes(doc) {
            return Err(Refusal::TooLarge { field: "the text of all other fields", max });
        }
        if self.entry(key).is_some() {
            return Ok(());
        }
        let app = self.apps.get(&*key.app).map_or(0, |app| app.instances.len());
        if self.limits.instances_max <= self.count {
            Err(Refusal::TableFull { max: self.limits.instances_max })
        } else if self.limits.instances_per_app_max <= app {
            Err(Refusal::AppFull { max: self.limits.instances_per_app_max })
        } else {
            Ok(())
        }
    }
}

/// The bytes of all texts but the metadata and the names that have their own limit.
fn text_bytes(doc: &Instance) -> usize {
    let optional = [
        &doc.sid,
        &doc.app_group_name,
        &doc.home_page_url,
        &doc.status_page_url,
        &doc.health_check_url,
        &doc.secure_health_check_url,
        &doc.vip_address,
        &doc.secure_vip_address,
        &doc.asg_name,
    ];
    let center = doc.data_center.as_ref().and_then(|it| it.metadata());
    optional.into_iter().flatten().map(String::len).sum::<usize>()
        + center.map_or(0, |it| it.size_bytes())
}
