//! The shapes themselves: what an instance, an application and the whole table hold.

pub(crate) mod metadata;
pub(crate) mod replication;
pub(crate) mod status;

use std::sync::Arc;

use crate::{Metadata, Status};

/// What happened last to an instance; clients apply a delta by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActionType {
    /// Registered, registered again, or its metadata changed.
    Added,
    /// Its status or its override changed.
    Modified,
    /// Cancelled or expired.
    Deleted,
}

impl ActionType {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    /// The action of this exact name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Added, Self::Modified, Self::Deleted].into_iter().find(|it| it.as_str() == name)
    }
}

/// A port and whether it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// The number as the client sent it. Java's `int`: clients without a web server send 0 or -1.
    pub number: i32,
    /// Whether the instance listens there.
    pub enabled: bool,
}

impl Port {
    /// What a missing `port` is read as.
    pub const PLAIN_DEFAULT: Self = Self { number: 7001, enabled: true };
    /// What a missing `securePort` is read as.
    pub const SECURE_DEFAULT: Self = Self { number: 7002, enabled: false };

    /// The number, when one can connect to it (1 to 65535).
    #[must_use]
    pub fn number_u16(self) -> Option<u16> {
        u16::try_from(self.number).ok().filter(|number| *number != 0)
    }
}

/// Where an instance runs. Only Amazon's kind carries metadata; the class name on the wire follows
/// from the kind, so that a strict client is never shown one it cannot load.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DataCenter {
    /// The usual kind: one's own machines.
    MyOwn,
    /// Netflix's own machines.
    Netflix,
    /// EC2, with keys such as `instance-id`, `local-ipv4` and `availability-zone`.
    Amazon(Metadata),
}

impl DataCenter {
    /// `name` on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::MyOwn => "MyOwn",
            Self::Netflix => "Netflix",
            Self::Amazon(_) => "Amazon",
        }
    }

    /// `@class` on the wire.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            Self::MyOwn | Self::Netflix => "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
            Self::Amazon(_) => "com.netflix.appinfo.AmazonInfo",
        }
    }

    /// Amazon's metadata.
    #[must_use]
    pub const fn metadata(&self) -> Option<&Metadata> {
        match self {
            Self::MyOwn | Self::Netflix => None,
            Self::Amazon(metadata) => Some(metadata),
        }
    }
}

/// The lease a client asked for and what became of it. Timestamps are Unix milliseconds, 0 when
/// the event has not happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseInfo {
    /// How often the client promises to renew, in seconds.
    pub renewal_interval_secs: i32,
    /// How long the lease lasts without renewal, in seconds.
    pub duration_secs: i32,
    /// When the lease was made.
    pub registration_ts: i64,
    /// When it was renewed last.
    pub last_renewal_ts: i64,
    /// When it was ended.
    pub eviction_ts: i64,
    /// When the instance first was UP.
    pub service_up_ts: i64,
}

impl LeaseInfo {
    /// Seconds between renewals when the client names none.
    pub const RENEWAL_INTERVAL_SECS_DEFAULT: i32 = 30;
    /// Seconds a lease lasts when the client names none.
    pub const DURATION_SECS_DEFAULT: i32 = 90;
}

impl Default for LeaseInfo {
    fn default() -> Self {
        Self {
            renewal_interval_secs: Self::RENEWAL_INTERVAL_SECS_DEFAULT,
            duration_secs: Self::DURATION_SECS_DEFAULT,
            registration_ts: 0,
            last_renewal_ts: 0,
            eviction_ts: 0,
            service_up_ts: 0,
        }
    }
}

/// One instance of an application, every field Eureka carries.
///
/// Meant to be kept and passed as `Arc<Instance>`; the writers take it by reference.
/// `Instance::default()` is what a body without any field is read as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance {
    /// The id the client chose; see [`Instance::effective_id`].
    pub instance_id: Option<String>,
    /// The host's name; empty when the body had none.
    pub host_name: String,
    /// The application's name, upper case; empty when the body had none.
    pub app: String,
    /// The host's address; empty when the body had none.
    pub ip_addr: String,
    /// Deprecated by Eureka; `na` and `unknown` are read as `None`.
    pub sid: Option<String>,
    /// The status clients act on.
    pub status: Status,
    /// The operator's override; [`Status::Unknown`] when there is none.
    pub overridden_status: Status,
    /// The plain port.
    pub port: Port,
    /// The TLS port.
    pub secure_port: Port,
    /// Deprecated by Eureka, always 1 in practice.
    pub country_id: i32,
    /// Where it runs; `None` when the body had none, which a registration must not
    /// (see [`Instance::validate`]). Written as [`DataCenter::MyOwn`] then.
    pub data_center: Option<DataCenter>,
    /// The lease.
    pub lease: LeaseInfo,
    /// The client's own pairs, in the order of their arrival.
    pub metadata: Metadata,
    /// A group of applications this one belongs to.
    pub app_group_name: Option<String>,
    /// The page for people.
    pub home_page_url: Option<String>,
    /// The page of build and runtime facts.
    pub status_page_url: Option<String>,
    /// The health check, plain.
    pub health_check_url: Option<String>,
    /// The health check over TLS.
    pub secure_health_check_url: Option<String>,
    /// Virtual addresses, comma-separated, verbatim: Spring finds services by it.
    pub vip_address: Option<String>,
    /// Virtual addresses for TLS.
    pub secure_vip_address: Option<String>,
    /// Whether the instance is a registry itself and the node that answered.
    pub is_coordinating_discovery_server: bool,
    /// When the registry changed it last, Unix milliseconds; `None` when the body had none, which
    /// means the time of its arrival.
    pub last_updated_ts: Option<i64>,
    /// When the client changed it last, Unix milliseconds; the larger one wins between peers.
    /// `None` as above.
    pub last_dirty_ts: Option<i64>,
    /// What happened to it last.
    pub action_type: Option<ActionType>,
    /// Its auto scaling group.
    pub asg_name: Option<String>,
}

impl Default for Instance {
    fn default() -> Self {
        Self {
            instance_id: None,
            host_name: String::new(),
            app: String::new(),
            ip_addr: String::new(),
            sid: None,
            status: Status::Up,
            overridden_status: Status::Unknown,
            port: Port::PLAIN_DEFAULT,
            secure_port: Port::SECURE_DEFAULT,
            country_id: 1,
            data_center: None,
            lease: LeaseInfo::default(),
            metadata: Metadata::new(),
            app_group_name: None,
            home_page_url: None,
            status_page_url: None,
            health_check_url: None,
            secure_health_check_url: None,
            vip_address: None,
            secure_vip_address: None,
            is_coordinating_discovery_server: false,
            last_updated_ts: None,
            last_dirty_ts: None,
            action_type: None,
            asg_name: None,
        }
    }
}

impl AsRef<Self> for Instance {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Why a registration is refused. The text is what the client is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Nothing to identify it by.
    #[error("Missing instanceId")]
    InstanceId,
    /// `hostName` is missing or blank.
    #[error("Missing hostname")]
    HostName,
    /// `ipAddr` is missing or blank.
    #[error("Missing ip address")]
    IpAddr,
    /// `app` is missing or blank.
    #[error("Missing appName")]
    App,
    /// `app` is not the application of the path.
    #[error("Mismatched appName, expecting {expected} but was {found}")]
    AppMismatch {
        /// The application of the path.
        expected: String,
        /// The application of the body.
        found: String,
    },
    /// `dataCenterInfo` or its `name` is missing.
    #[error("Missing dataCenterInfo or its name")]
    DataCenter,
}

impl Instance {
    /// What the registry knows the instance by: `instanceId` if it has one, else Amazon's
    /// `instance-id`, else the host's name. The JavaScript client sends no `instanceId`.
    #[must_use]
    pub fn effective_id(&self) -> &str {
        let given = self.instance_id.as_deref().filter(|id| !id.is_empty());
        let amazon = || {
            let metadata = self.data_center.as_ref()?.metadata()?;
            metadata.get("instance-id").filter(|id| !id.is_empty())
        };
        given.or_else(amazon).unwrap_or(&self.host_name)
    }

    /// Checks what a registration must have. `path_app` is the application named by the path.
    ///
    /// # Errors
    /// The first thing that is missing or does not fit, in the order a stock server checks.
    pub fn validate(&self, path_app: &str) -> Result<(), Invalid> {
        let blank = |text: &str| text.trim().is_empty();
        if blank(self.effective_id()) {
            Err(Invalid::InstanceId)
        } else if blank(&self.host_name) {
            Err(Invalid::HostName)
        } else if blank(&self.ip_addr) {
            Err(Invalid::IpAddr)
        } else if blank(&self.app) {
            Err(Invalid::App)
        } else if self.app != path_app.to_uppercase() {
            Err(Invalid::AppMismatch { expected: path_app.into(), found: self.app.clone() })
        } else if self.data_center.is_none() {
            Err(Invalid::DataCenter)
        } else {
            Ok(())
        }
    }
}

/// The instances of one application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Application {
    /// The name, upper case.
    pub name: String,
    /// Its instances.
    pub instances: Vec<Arc<Instance>>,
}

/// The two lines above a list of applications, as the writers take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// `versions__delta`: `1` for a full list, a counter for a delta, `-1` for a list by address.
    pub version_delta: &'a str,
    /// `apps__hashcode`: see [`hash_code`](crate::hash_code).
    pub hash_code: &'a str,
}

/// A list of applications as it was read: the whole table, a delta, or a list by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applications {
    /// `versions__delta`; empty when the body had none.
    pub version_delta: String,
    /// `apps__hashcode`; empty when the body had none.
    pub hash_code: String,
    /// The applications.
    pub applications: Vec<Application>,
}

impl Applications {
    /// The two lines above the list, for the writers.
    #[must_use]
    pub fn head(&self) -> Head<'_> {
        Head { version_delta: &self.version_delta, hash_code: &self.hash_code }
    }

    /// The applications as the writers take them.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &[Arc<Instance>])> {
        self.applications.iter().map(|it| (it.name.as_str(), it.instances.as_slice()))
    }
}
