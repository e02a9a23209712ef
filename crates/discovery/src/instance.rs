//! Services, their instances, and lists of them.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tradewind_http::{Scheme, Target};

/// The name of a service, in lower case. Eureka writes the same name in upper case, as the
/// application; clients disagree on case, so it is decided here, once.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

/// Why a text is not a [`ServiceName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {} letters, digits, `.`, `_` or `-`", ServiceName::LEN_MAX)]
pub struct ServiceNameError;

impl ServiceName {
    /// The longest name, in bytes.
    pub const LEN_MAX: usize = 128;

    /// Takes ASCII letters, digits, `.`, `_` and `-`; upper case becomes lower case.
    ///
    /// # Errors
    /// When the text is empty, too long, or has another character.
    pub fn parse(text: &str) -> Result<Self, ServiceNameError> {
        let usable = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-');
        if text.is_empty() || Self::LEN_MAX < text.len() || !text.bytes().all(usable) {
            return Err(ServiceNameError);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The name, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as Eureka writes it, in upper case.
    #[must_use]
    pub fn eureka_app(&self) -> String {
        self.0.to_ascii_uppercase()
    }
}

impl FromStr for ServiceName {
    type Err = ServiceNameError;
    fn from_str(text: &str) -> Result<Self, ServiceNameError> {
        Self::parse(text)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the registry knows an instance by, unique within its service; `host:service:port` for our
/// own. Case matters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(Arc<str>);

/// Why a text is not an [`InstanceId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {} bytes without control characters", InstanceId::LEN_MAX)]
pub struct InstanceIdError;

impl InstanceId {
    /// The longest id, in bytes.
    pub const LEN_MAX: usize = 512;

    /// Takes any text without control characters: foreign clients choose their ids freely.
    ///
    /// # Errors
    /// When the text is empty, too long, or has a control character.
    pub fn parse(text: &str) -> Result<Self, InstanceIdError> {
        if text.is_empty() || Self::LEN_MAX < text.len() || text.chars().any(char::is_control) {
            return Err(InstanceIdError);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceId {
    type Err = InstanceIdError;
    fn from_str(text: &str) -> Result<Self, InstanceIdError> {
        Self::parse(text)
    }
}

impl Borrow<str> for InstanceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Where an instance stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Ready for calls: the only status that is called.
    Up,
    /// Registered, but must not be called.
    Down,
    /// Not ready yet.
    Starting,
    /// Taken out of traffic on purpose.
    OutOfService,
    /// Nobody knows.
    #[default]
    Unknown,
}

impl Status {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "UP",
            Self::Down => "DOWN",
            Self::Starting => "STARTING",
            Self::OutOfService => "OUT_OF_SERVICE",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The status of a name; every other text is [`Status::Unknown`], as with Eureka.
    #[must_use]
    pub fn lenient(name: &str) -> Self {
        match name {
            "UP" => Self::Up,
            "DOWN" => Self::Down,
            "STARTING" => Self::Starting,
            "OUT_OF_SERVICE" => Self::OutOfService,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Unique within the service.
    pub id: InstanceId,
    /// The service it is an instance of.
    pub service: ServiceName,
    /// Host name or address to connect to; an IPv6 address without brackets.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
    /// Whether it is reached by TLS.
    pub secure: bool,
    /// Where it stands in its life.
    pub status: Status,
    /// The instance's own pairs: version, lane, zone.
    pub metadata: BTreeMap<String, String>,
}

/// An instance has no address one could connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instance {id} of {service} has no usable address")]
pub struct AddressError {
    /// The service.
    pub service: ServiceName,
    /// The instance.
    pub id: InstanceId,
    source: tradewind_http::TargetError,
}

impl Instance {
    /// An instance that is UP, reached without TLS, with the id `host:service:port`.
    ///
    /// # Errors
    /// When host and port are no address.
    pub fn plain(service: &ServiceName, host: &str, port: u16) -> Result<Self, AddressError> {
        let text = format!("{host}:{service}:{port}");
        // A host that makes no id makes no address either.
        let id = InstanceId::parse(&text).unwrap_or_else(|_| InstanceId("invalid".into()));
        let instance = Self {
            id,
            service: service.clone(),
            host: host.to_owned(),
            port,
            secure: false,
            status: Status::Up,
            metadata: BTreeMap::new(),
        };
        instance.address()?;
        Ok(instance)
    }

    /// Where to connect to, checked.
    ///
    /// # Errors
    /// When host and port are no address.
    pub fn address(&self) -> Result<Target, AddressError> {
        let scheme = if self.secure { Scheme::Https } else { Scheme::Http };
        Target::new(scheme, &self.host, self.port).map_err(|source| AddressError {
            service: self.service.clone(),
            id: self.id.clone(),
            source,
        })
    }

    /// Where to connect to. Instances in a [`List`] always have an address: the lists take no
    /// other. One without leads to a target that does not exist (`invalid.`, RFC 6761 §6.4).
    #[must_use]
    pub fn target(&self) -> Target {
        self.address().unwrap_or_else(|_| nowhere())
    }
}

fn nowhere() -> Target {
    #[expect(clippy::expect_used, reason = "a constant that the tests read")]
    Target::new(Scheme::Http, "invalid.", 1).expect("a host name and a port")
}

/// The instances of one service at one moment, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct List {
    /// The registry's revision the list stems from; it never goes back within an epoch. Zero before
    /// anything is known.
    pub revision: u64,
    /// All instances, callable or not.
    pub instances: Vec<Arc<Instance>>,
    /// Names who counts the revisions: one stretch of following one life of one registry node.
    /// Empty for a fixed list.
    pub epoch: Arc<str>,
}

impl List {
    /// A list of these instances, put in order.
    #[must_use]
    pub fn new(revision: u64, mut instances: Vec<Arc<Instance>>) -> Self {
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        Self { revision, instances, epoch: Arc::default() }
    }

    /// The instances that may be called: those that are UP.
    pub fn up(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.iter().filter(|it| it.status == Status::Up)
    }

    /// The instance of this id.
    #[must_use]
    pub fn get(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        let at = self.instances.binary_search_by(|it| it.id.cmp(id)).ok()?;
        self.instances.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_case_and_eureka_the_other() {
        let name = ServiceName::parse("Order-Service").unwrap();
        assert_eq!(name.as_str(), "order-service");
        assert_eq!(name.eureka_app(), "ORDER-SERVICE");
        for bad in ["", "a b", "a,b", "a/b", "é", &"x".repeat(129)] {
            assert_eq!(ServiceName::parse(bad), Err(ServiceNameError), "{bad}");
        }
    }

    #[test]
    fn ids_are_foreign_text_within_bounds() {
        assert!(InstanceId::parse("Host:app:8080").is_ok());
        for bad in ["", "a\nb", &"x".repeat(513)] {
            assert_eq!(InstanceId::parse(bad), Err(InstanceIdError), "{bad:?}");
        }
    }

    #[test]
    fn an_instance_leads_to_its_target() {
        let service = ServiceName::parse("order").unwrap();
        let mut instance = Instance::plain(&service, "127.0.0.1", 9001).unwrap();
        assert_eq!(instance.id.as_str(), "127.0.0.1:order:9001");
        assert_eq!(instance.target().to_string(), "http://127.0.0.1:9001");
        instance.secure = true;
        instance.host = "::1".into();
        assert_eq!(instance.target().to_string(), "https://[::1]:9001");
        instance.host = "not a host".into();
        assert!(instance.address().is_err());
        assert_eq!(instance.target(), nowhere());
        assert!(Instance::plain(&service, "a\nb", 1).is_err());
        assert!(Instance::plain(&service, "a", 0).is_err());
    }

    #[test]
    fn only_up_is_callable_and_the_order_is_by_id() {
        let service = ServiceName::parse("order").unwrap();
        let one = |port, status| {
            let instance = Instance::plain(&service, "h", port).unwrap();
            Arc::new(Instance { status, ..instance })
        };
        let list = List::new(
            7,
            vec![
                one(3, Status::Up),
                one(1, Status::Up),
                one(2, Status::Down),
                one(4, Status::Unknown),
            ],
        );
        assert_eq!(list.up().map(|it| it.port).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(list.get(&one(2, Status::Up).id).unwrap().port, 2);
        assert!(list.get(&InstanceId::parse("x").unwrap()).is_none());
    }
}
