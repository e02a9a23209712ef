//! From the tree of a body to what it means. Each rule of what clients may leave out, write
//! differently or add is here, once for both formats.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::metadata::Metadata;
use crate::node::{Field, Node, lookup};
use crate::{
    ActionType, Application, Applications, DataCenter, Instance, LeaseInfo, Port,
    ReplicationAction, ReplicationInstance, ReplicationList, ReplicationResponse,
    ReplicationResult, Status,
};

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The text is not JSON, or nested too deep.
    #[error("body is not JSON")]
    Json(#[source] serde_json::Error),
    /// The text is not XML.
    #[error("body is not XML")]
    Xml(#[source] quick_xml::Error),
    /// The bytes are not text.
    #[error("body is not UTF-8")]
    Utf8(#[source] std::str::Utf8Error),
    /// XML without exactly one root element of this name.
    #[error("body is not one element {0:?}")]
    Root(&'static str),
    /// XML with a document type or with an entity beyond the five of XML. Neither has a use here,
    /// and a few lines of them can stand for gigabytes.
    #[error("document types and entities are not read")]
    Entity,
    /// XML elements inside each other beyond the number given.
    #[error("elements are nested deeper than {0}")]
    TooDeep(usize),
    /// A field holds something that cannot be read.
    #[error("field {field:?} is not {expected}")]
    Field {
        /// The field, with a dot between levels, such as `leaseInfo.durationInSecs`.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

type Result<T, E = ReadError> = std::result::Result<T, E>;

const fn wrong<T>(field: &'static str, expected: &'static str) -> Result<T> {
    Err(ReadError::Field { field, expected })
}

/// The fields of one object, asked for by name. `field` is the name for the error message.
#[derive(Clone, Copy)]
struct Fields<'n, 'a>(&'n [Field<'a>]);

impl<'n, 'a> Fields<'n, 'a> {
    fn of(node: &'n Node<'a>, field: &'static str) -> Result<Self> {
        node.fields().map_or_else(|| wrong(field, "an object"), |fields| Ok(Self(fields)))
    }

    fn get(self, name: &str) -> Option<&'n Node<'a>> {
        lookup(self.0, name)
    }

    fn text(self, name: &'static str) -> Result<Option<String>> {
        match self.get(name).map(Node::text) {
            None => Ok(None),
            Some(Some(text)) => Ok(Some(text.into_owned())),
            Some(None) => wrong(name, "text"),
        }
    }

    /// A status: missing is `None`, anything but one of the names is UNKNOWN.
    fn status(self, name: &'static str) -> Option<Status> {
        let text = self.get(name)?.text();
        Some(Status::lenient(&text.unwrap_or_default()))
    }

    fn object(self, name: &'static str) -> Result<Option<Self>> {
        self.get(name).map(|node| Self::of(node, name)).transpose()
    }

    /// What stands under a name, however often: an array, a lone object, repeated elements.
    fn each(self, name: &'static str) -> impl Iterator<Item = &'n Node<'a>> {
        let named = self.0.iter().filter(move |(held, _)| held == name);
        let items = named.flat_map(|(_, node)| match node {
            Node::List(items) => items.as_slice(),
            lone => std::slice::from_ref(lone),
        });
        items.filter(|item| **item != Node::Null)
    }
}

/// A whole number, in quotes or not; blank text counts as missing.
fn integer<T: TryFrom<i64>>(node: Option<&Node<'_>>, field: &'static str) -> Result<Option<T>> {
    let number = match node {
        None => return Ok(None),
        Some(Node::Integer(number)) => Some(*number),
        Some(node) => match node.text() {
            Some(text) if text.trim().is_empty() => return Ok(None),
            // Some writers know one kind of number only, and write 30 as 30.0.
            Some(text) => {
                let digits = text.trim();
                digits.strip_suffix(".0").unwrap_or(digits).parse().ok()
            }
            None => None,
        },
    };
    match number.map(T::try_from) {
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) | None => wrong(field, "a whole number in range"),
    }
}

/// A boolean, in quotes or not. Any text but `true` is false, as Java reads it; blank is missing.
fn boolean(node: Option<&Node<'_>>, field: &'static str) -> Result<Option<bool>> {
    match node {
        None => Ok(None),
        Some(Node::Bool(it)) => Ok(Some(*it)),
        Some(Node::Text(text)) if text.trim().is_empty() => Ok(None),
        Some(Node::Text(text)) => Ok(Some(text.trim().eq_ignore_ascii_case("true"))),
        Some(_) => wrong(field, "a boolean"),
    }
}

fn port(
    node: Option<&Node<'_>>,
    (field, number_field, enabled_field): (&'static str, &'static str, &'static str),
    default: Port,
) -> Result<Port> {
    let (number, enabled) = match node {
        None => return Ok(default),
        // An XML element without the attribute.
        Some(Node::Text(_)) => (node, None),
        // A bare JSON number lands here: a stock server refuses it too.
        Some(node) => {
            let fields = Fields::of(node, field)?;
            (fields.get("$"), fields.get("@enabled"))
        }
    };
    Ok(Port {
        number: integer(number, number_field)?.unwrap_or(default.number),
        enabled: boolean(enabled, enabled_field)?.unwrap_or(default.enabled),
    })
}

/// String pairs; scalars become text, nulls and nested values are passed over.
fn metadata(fields: Fields<'_, '_>) -> Metadata {
    let pairs = fields.0.iter();
    pairs.filter_map(|(name, node)| Some((&**name, node.text()?))).collect()
}

/// The kind by its name, by its class where the name is missing and the class leaves no choice.
/// Without either there is none: registrations are refused for it.
fn data_center(fields: Fields<'_, '_>) -> Result<Option<DataCenter>> {
    let class = fields.text("@class")?.unwrap_or_default();
    let amazon = || {
        let metadata = fields.object("metadata")?.map(metadata);
        Ok(Some(DataCenter::Amazon(metadata.unwrap_or_default())))
    };
    match fields.text("name")?.as_deref() {
        Some("Amazon") => amazon(),
        None if class.ends_with(".AmazonInfo") => amazon(),
        None | Some("") => Ok(None),
        Some("Netflix") => Ok(Some(DataCenter::Netflix)),
        Some(_) => Ok(Some(DataCenter::MyOwn)),
    }
}

fn lease(fields: Fields<'_, '_>) -> Result<LeaseInfo> {
    let seconds = |node, field, default: i32| -> Result<i32> {
        Ok(integer(node, field)?.filter(|it| *it > 0).unwrap_or(default))
    };
    let timestamp =
        |name, field| -> Result<i64> { Ok(integer(fields.get(name), field)?.unwrap_or_default()) };
    // The name of old clients.
    let renewal = fields.get("lastRenewalTimestamp").or_else(|| fields.get("renewalTimestamp"));
    Ok(LeaseInfo {
        renewal_interval_secs: seconds(
            fields.get("renewalIntervalInSecs"),
            "leaseInfo.renewalIntervalInSecs",
            LeaseInfo::RENEWAL_INTERVAL_SECS_DEFAULT,
        )?,
        duration_secs: seconds(
            fields.get("durationInSecs"),
            "leaseInfo.durationInSecs",
            LeaseInfo::DURATION_SECS_DEFAULT,
        )?,
        registration_ts: timestamp("registrationTimestamp", "leaseInfo.registrationTimestamp")?,
        last_renewal_ts: integer(renewal, "leaseInfo.lastRenewalTimestamp")?.unwrap_or_default(),
        eviction_ts: timestamp("evictionTimestamp", "leaseInfo.evictionTimestamp")?,
        service_up_ts: timestamp("serviceUpTimestamp", "leaseInfo.serviceUpTimestamp")?,
    })
}

/// Takes the wrapping object off, if there is one.
fn unwrapped<'n, 'a>(node: &'n Node<'a>, name: &'static str) -> Result<Fields<'n, 'a>> {
    let outer = Fields::of(node, name)?;
    match outer.get(name) {
        Some(inner) => Fields::of(inner, name),
        None => Ok(outer),
    }
}

/// The body of one instance, wrapped or bare.
pub(crate) fn instance(node: &Node<'_>) -> Result<Instance> {
    instance_of(unwrapped(node, "instance")?)
}

fn instance_of(fields: Fields<'_, '_>) -> Result<Instance> {
    const PORT: (&str, &str, &str) = ("port", "port.$", "port.@enabled");
    const SECURE: (&str, &str, &str) = ("securePort", "securePort.$", "securePort.@enabled");
    let overridden = fields.status("overriddenStatus");
    let overridden = overridden.or_else(|| fields.status("overriddenstatus"));
    let coordinating = "isCoordinatingDiscoveryServer";
    Ok(Instance {
        instance_id: fields.text("instanceId")?,
        host_name: fields.text("hostName")?.unwrap_or_default(),
        app: fields.text("app")?.unwrap_or_default().to_uppercase(),
        ip_addr: fields.text("ipAddr")?.unwrap_or_default(),
        sid: fields.text("sid")?.filter(|sid| sid != "na" && sid != "unknown"),
        status: fields.status("status").unwrap_or(Status::Up),
        overridden_status: overridden.unwrap_or(Status::Unknown),
        port: port(fields.get("port"), PORT, Port::PLAIN_DEFAULT)?,
        secure_port: port(fields.get("securePort"), SECURE, Port::SECURE_DEFAULT)?,
        country_id: integer(fields.get("countryId"), "countryId")?.unwrap_or(1),
        data_center: fields.object("dataCenterInfo")?.map_or(Ok(None), data_center)?,
        lease: fields.object("leaseInfo")?.map_or_else(|| Ok(LeaseInfo::default()), lease)?,
        metadata: fields.object("metadata")?.map(metadata).unwrap_or_default(),
        app_group_name: fields.text("appGroupName")?,
        home_page_url: fields.text("homePageUrl")?,
        status_page_url: fields.text("statusPageUrl")?,
        health_check_url: fields.text("healthCheckUrl")?,
        secure_health_check_url: fields.text("secureHealthCheckUrl")?,
        vip_address: fields.text("vipAddress")?,
        secure_vip_address: fields.text("secureVipAddress")?,
        is_coordinating_discovery_server: boolean(fields.get(coordinating), coordinating)?
            .unwrap_or_default(),
        last_updated_ts: integer(fields.get("lastUpdatedTimestamp"), "lastUpdatedTimestamp")?,
        last_dirty_ts: integer(fields.get("lastDirtyTimestamp"), "lastDirtyTimestamp")?,
        action_type: fields.text("actionType")?.as_deref().and_then(ActionType::from_name),
        asg_name: fields.text("asgName")?,
    })
}

/// The body of one application, wrapped or bare.
pub(crate) fn application(node: &Node<'_>) -> Result<Application> {
    application_of(unwrapped(node, "application")?)
}

fn application_of(fields: Fields<'_, '_>) -> Result<Application> {
    let instances = fields.each("instance");
    let instances: Vec<Arc<Instance>> = instances
        .map(|item| Ok(Arc::new(instance_of(Fields::of(item, "instance")?)?)))
        .collect::<Result<_>>()?;
    let first = || instances.first().map(|it| it.app.clone());
    let name = fields.text("name")?.map(|name| name.to_uppercase());
    Ok(Application { name: name.or_else(first).unwrap_or_default(), instances })
}

/// The body of a list of applications, wrapped or bare, full or compact.
pub(crate) fn applications(node: &Node<'_>) -> Result<Applications> {
    let fields = unwrapped(node, "applications")?;
    // An answer that is not about applications at all must not pass for an empty table: who
    // follows it would forget every instance.
    let marks = ["application", "versions__delta", "apps__hashcode"];
    if !marks.into_iter().any(|mark| fields.0.iter().any(|(name, _)| name == mark)) {
        return wrong("applications", "a list of applications");
    }
    let each = fields.each("application");
    Ok(Applications {
        version_delta: fields.text("versions__delta")?.unwrap_or_default(),
        hash_code: fields.text("apps__hashcode")?.unwrap_or_default(),
        applications: each
            .map(|item| application_of(Fields::of(item, "application")?))
            .collect::<Result<_>>()?,
    })
}

/// A batch of changes from a peer.
pub(crate) fn replication_list(node: &Node<'_>) -> Result<ReplicationList> {
    let each = list(node, "replicationList")?;
    Ok(ReplicationList { items: each.map(replication_instance).collect::<Result<_>>()? })
}

fn replication_instance(node: &Node<'_>) -> Result<ReplicationInstance> {
    let fields = Fields::of(node, "replicationList")?;
    let carried = fields.object("instanceInfo")?.map(instance_of).transpose()?;
    let action = fields.text("action")?;
    let Some(action) = action.as_deref().and_then(ReplicationAction::from_name) else {
        return wrong("action", "the name of an action");
    };
    Ok(ReplicationInstance {
        app_name: fields.text("appName")?.unwrap_or_default().to_uppercase(),
        id: fields.text("id")?.unwrap_or_default(),
        last_dirty_ts: integer(fields.get("lastDirtyTimestamp"), "lastDirtyTimestamp")?,
        overridden_status: fields.status("overriddenStatus"),
        status: fields.status("status"),
        instance: carried.map(Arc::new),
        action,
    })
}

/// The answers to a batch.
pub(crate) fn replication_response(node: &Node<'_>) -> Result<ReplicationResponse> {
    let each = list(node, "responseList")?;
    let result = |node| {
        let fields = Fields::of(node, "responseList")?;
        let Some(status_code) = integer(fields.get("statusCode"), "statusCode")? else {
            return wrong("statusCode", "there");
        };
        // Only an instance is of use; some answers may carry text.
        let entity = match fields.get("responseEntity") {
            Some(entity @ Node::Object(_)) => Some(Arc::new(instance(entity)?)),
            Some(_) | None => None,
        };
        Ok(ReplicationResult { status_code, instance: entity })
    };
    Ok(ReplicationResponse { results: each.map(result).collect::<Result<_>>()? })
}

/// The one list of a body. It must be there: an empty batch for a misread one would lose changes.
fn list<'n, 'a>(
    node: &'n Node<'a>,
    name: &'static str,
) -> Result<impl Iterator<Item = &'n Node<'a>>> {
    let fields = Fields::of(node, name)?;
    if fields.get(name).is_none() {
        return wrong(name, "a list");
    }
    Ok(fields.each(name))
}

/// The body as text, without the mark some editors put before it.
pub(crate) fn utf8(body: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(body).map_err(ReadError::Utf8)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Reads a JSON body into the tree. Depth is bounded by the parser (128).
pub(crate) fn json(body: &[u8]) -> Result<Node<'_>> {
    serde_json::from_str(utf8(body)?).map_err(ReadError::Json)
}

/// Text that is appended to without a copy where it comes in one piece.
pub(crate) fn append<'a>(text: &mut Cow<'a, str>, more: Cow<'a, str>) {
    if text.is_empty() {
        *text = more;
    } else {
        text.to_mut().push_str(&more);
    }
}
