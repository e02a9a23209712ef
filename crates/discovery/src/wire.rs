//! The registry's native protocol: paths, headers and JSON, for its clients and its servers.
//!
//! | request | answer |
//! |---|---|
//! | `GET /tradewind/v1/watch?services=a,b[&epoch=E&revision=N]` | 200, endless [`Line`]s, one JSON document each |
//! | `POST /tradewind/v1/suspicions`, a [`Suspicion`] | 202 |
//! | `GET /tradewind/v1/services`, `…/instances/{service}`, `…/status` | for people; not used by the client |
//!
//! A watch begins with [`Line::Snapshot`]; or, when `epoch` and `revision` name a point the
//! registry still has the history of, with [`Line::Resume`] for exactly that point. A snapshot has
//! an entry for *every* service that was asked for, empty or not: a service that is missing in it
//! is one the registry says nothing of. Changes follow, in the order of their revisions, and every
//! [`PING_INTERVAL`] a [`Line::Ping`]. `services` may be empty: such a stream shows presence alone
//! (see [`INSTANCE_HEADER`]).
//!
//! Fields that are not known are ignored, so that either side may be the newer one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Instance, InstanceId, ServiceName, Status};

/// The path of the change stream.
pub const WATCH_PATH: &str = "/tradewind/v1/watch";
/// The path that takes callers' reports.
pub const SUSPICIONS_PATH: &str = "/tradewind/v1/suspicions";
/// The path of the counts per service.
pub const SERVICES_PATH: &str = "/tradewind/v1/services";
/// The path under which the instances of a service are explained.
pub const INSTANCES_PATH: &str = "/tradewind/v1/instances";
/// The path of the registry node's own state.
pub const STATUS_PATH: &str = "/tradewind/v1/status";

/// Request header of a watch: `<service>/<instance id>` of the process that opened it, the id
/// percent-encoded. If such a stream closes and the instance has not cancelled, the registry has
/// reason to probe it.
pub const INSTANCE_HEADER: &str = "x-tradewind-instance";
/// The content type of a watch.
pub const NDJSON: &str = "application/x-ndjson";
/// How often a watch says that it is alive.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);
/// The longest line, in bytes: a snapshot of some hundred thousand instances.
pub const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One line of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Everything about the services asked for.
    Snapshot(Snapshot),
    /// Nothing was missed: changes go on after the point that was asked for.
    Resume(Resume),
    /// What changed.
    Change(Change),
    /// Nothing did.
    Ping(Ping),
}

/// All instances of the services that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The life of the registry node: another one after each start.
    pub epoch: String,
    /// The revision of the table.
    pub revision: u64,
    /// Whether the node has been up long enough to know every living instance. Of one that is not
    /// warm, an absence says nothing.
    pub warm: bool,
    /// The instances of each service.
    pub services: BTreeMap<String, Vec<InstanceRecord>>,
}

/// The watch goes on where an earlier one ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// As asked for.
    pub epoch: String,
    /// As asked for.
    pub revision: u64,
    /// As in [`Snapshot::warm`].
    pub warm: bool,
}

/// One step from an earlier revision to this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The revision after the change; higher than that of every line before.
    pub revision: u64,
    /// Instances that are new or changed, as they are now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upsert: Vec<InstanceRecord>,
    /// Instances that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Removal>,
}

/// An instance is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Its service.
    pub service: String,
    /// Its id.
    pub id: String,
    /// Why.
    pub why: Why,
}

/// Why an instance is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It said good-bye.
    Cancelled,
    /// Its lease ran out.
    Expired,
    /// A probe of it was refused.
    Refused,
    /// A reason this version does not know.
    #[serde(other)]
    Other,
}

/// The stream is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The revision of the table: everything up to it has been sent.
    pub revision: u64,
    /// Whether the node is warm by now; see [`Snapshot::warm`].
    #[serde(default)]
    pub warm: bool,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its id.
    pub id: String,
    /// Its service, in lower case.
    pub service: String,
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it is reached by TLS.
    #[serde(default)]
    pub secure: bool,
    /// `UP`, `DOWN`, `STARTING`, `OUT_OF_SERVICE` or `UNKNOWN`; anything else is `UNKNOWN`.
    pub status: String,
    /// Its own pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A caller could not reach an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// The service of the instance.
    pub service: String,
    /// The id of the instance.
    pub id: String,
    /// What the caller met.
    pub reason: Reason,
    /// Who the caller is, for people; empty when it did not say.
    #[serde(default)]
    pub by: String,
}

/// What a caller met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The connection was refused: nobody listens.
    Refused,
    /// No answer came in time.
    Timeout,
    /// The connection broke.
    Reset,
}

/// A record is no instance one could call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The service's name.
    #[error("not a service name")]
    Service,
    /// The id.
    #[error("not an instance id")]
    Id,
    /// Host and port.
    #[error("no usable address")]
    Address,
}

impl TryFrom<InstanceRecord> for Instance {
    type Error = RecordError;

    fn try_from(record: InstanceRecord) -> Result<Self, RecordError> {
        let instance = Self {
            id: InstanceId::parse(&record.id).map_err(|_| RecordError::Id)?,
            service: ServiceName::parse(&record.service).map_err(|_| RecordError::Service)?,
            host: record.host,
            port: record.port,
            secure: record.secure,
            status: Status::lenient(&record.status),
            metadata: record.metadata,
        };
        instance.address().map_err(|_| RecordError::Address)?;
        Ok(instance)
    }
}

impl From<&Instance> for InstanceRecord {
    fn from(instance: &Instance) -> Self {
        Self {
            id: instance.id.as_str().to_owned(),
            service: instance.service.as_str().to_owned(),
            host: instance.host.clone(),
            port: instance.port,
            secure: instance.secure,
            status: instance.status.as_str().to_owned(),
            metadata: instance.metadata.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &Line, text: &str) {
        assert_eq!(serde_json::to_string(line).unwrap(), text);
        assert_eq!(serde_json::from_str::<Line>(text).unwrap(), *line);
    }

    fn record() -> InstanceRecord {
        InstanceRecord {
            id: "h:order:1".into(),
            service: "order".into(),
            host: "h".into(),
            port: 1,
            secure: false,
            status: "UP".into(),
            metadata: BTreeMap::from([("lane".into(), "gray".into())]),
        }
    }

    #[test]
    fn lines_have_this_text() {
        check(
            &Line::Snapshot(Snapshot {
                epoch: "e1".into(),
                revision: 7,
                warm: true,
                services: BTreeMap::from([
                    ("order".into(), vec![record()]),
                    ("points".into(), vec![]),
                ]),
            }),
            r#"{"snapshot":{"epoch":"e1","revision":7,"warm":true,"services":{"order":[{"id":"h:order:1","service":"order","host":"h","port":1,"secure":false,"status":"UP","metadata":{"lane":"gray"}}],"points":[]}}}"#,
        );
        check(
            &Line::Resume(Resume { epoch: "e1".into(), revision: 7, warm: false }),
            r#"{"resume":{"epoch":"e1","revision":7,"warm":false}}"#,
        );
        check(
            &Line::Change(Change {
                revision: 8,
                upsert: vec![InstanceRecord { metadata: BTreeMap::new(), ..record() }],
                remove: vec![Removal {
                    service: "order".into(),
                    id: "x".into(),
                    why: Why::Refused,
                }],
            }),
            r#"{"change":{"revision":8,"upsert":[{"id":"h:order:1","service":"order","host":"h","port":1,"secure":false,"status":"UP"}],"remove":[{"service":"order","id":"x","why":"refused"}]}}"#,
        );
        check(
            &Line::Ping(Ping { revision: 8, warm: true }),
            r#"{"ping":{"revision":8,"warm":true}}"#,
        );
    }

    #[test]
    fn a_newer_side_is_understood() {
        let text = r#"{"change":{"revision":1,"x":0,"remove":[{"service":"a","id":"i","why":"moved","to":"b"}]}}"#;
        let Line::Change(change) = serde_json::from_str(text).unwrap() else { panic!("{text}") };
        assert_eq!(change.remove[0].why, Why::Other);
        assert_eq!(
            serde_json::from_str::<Line>(r#"{"ping":{"revision":3}}"#).unwrap(),
            Line::Ping(Ping { revision: 3, warm: false })
        );
    }

    #[test]
    fn suspicions_have_this_text() {
        let suspicion = Suspicion {
            service: "inventory".into(),
            id: "h:inventory:1".into(),
            reason: Reason::Timeout,
            by: "order".into(),
        };
        let text =
            r#"{"service":"inventory","id":"h:inventory:1","reason":"timeout","by":"order"}"#;
        assert_eq!(serde_json::to_string(&suspicion).unwrap(), text);
        assert_eq!(serde_json::from_str::<Suspicion>(text).unwrap(), suspicion);
    }

    #[test]
    fn a_record_becomes_an_instance_only_if_it_can_be_called() {
        let instance = Instance::try_from(record()).unwrap();
        assert_eq!(InstanceRecord::from(&instance), record());
        let odd = InstanceRecord { status: "up".into(), ..record() };
        assert_eq!(Instance::try_from(odd).unwrap().status, Status::Unknown);
        for (record, error) in [
            (InstanceRecord { id: String::new(), ..record() }, RecordError::Id),
            (InstanceRecord { service: "a b".into(), ..record() }, RecordError::Service),
            (InstanceRecord { host: "a/b".into(), ..record() }, RecordError::Address),
            (InstanceRecord { port: 0, ..record() }, RecordError::Address),
        ] {
            assert_eq!(Instance::try_from(record), Err(error));
        }
    }
}
