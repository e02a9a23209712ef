//! The writers. Straight into the buffer: a table of ten thousand instances is some ten megabytes,
//! and a tree of it would be several times that, for every poll that misses the cache.

use std::fmt::Write as _;

use crate::negotiate::compact_key;
use crate::{
    DataCenter, Head, Instance, LeaseInfo, Metadata, Port, ReplicationInstance, ReplicationList,
    ReplicationResponse, ReplicationResult, Status,
};

/// Writes `{"instance":{…}}`.
pub fn instance(out: &mut String, instance: &Instance) {
    out.push_str(r#"{"instance":"#);
    bare_instance(out, instance);
    out.push('}');
}

/// Writes `{"application":{"name":…,"instance":[…]}}`.
pub fn application<I>(out: &mut String, name: &str, instances: I)
where
    I: IntoIterator<Item: AsRef<Instance>>,
{
    out.push_str(r#"{"application":"#);
    bare_application(out, name, instances, bare_instance);
    out.push('}');
}

/// Writes `{"applications":{…}}`: names with their instances.
pub fn applications<'a, I>(
    out: &mut String,
    head: Head<'_>,
    groups: impl IntoIterator<Item = (&'a str, I)>,
) where
    I: IntoIterator<Item: AsRef<Instance>>,
{
    out.push_str(r#"{"applications":{"#);
    versions(out, head);
    out.push_str(r#","application":"#);
    array(out, groups, |out, (name, instances)| {
        bare_application(out, name, instances, bare_instance);
    });
    out.push_str("}}");
}

/// As [`applications`] in the compact form: what is needed to call an instance, in the order and
/// with the extra field of a stock server's compact answer.
pub fn applications_compact<'a, I>(
    out: &mut String,
    head: Head<'_>,
    groups: impl IntoIterator<Item = (&'a str, I)>,
) where
    I: IntoIterator<Item: AsRef<Instance>>,
{
    out.push_str(r#"{"applications":{"application":"#);
    let written = array(out, groups, |out, (name, instances)| {
        bare_application(out, name, instances, compact_instance);
    });
    out.push_str(r#","registeredApplicationsEmpty":"#);
    out.push_str(if written == 0 { "true" } else { "false" });
    out.push(',');
    versions(out, head);
    out.push_str("}}");
}

/// Writes a batch for a peer.
pub fn replication_list(out: &mut String, list: &ReplicationList) {
    out.push_str(r#"{"replicationList":"#);
    array(out, &list.items, replication_instance);
    out.push('}');
}

/// Writes the answers to a batch.
pub fn replication_response(out: &mut String, response: &ReplicationResponse) {
    out.push_str(r#"{"responseList":"#);
    array(out, &response.results, replication_result);
    out.push('}');
}

// === parts ===

fn versions(out: &mut String, head: Head<'_>) {
    out.push_str(r#""versions__delta":"#);
    string(out, head.version_delta);
    out.push_str(r#","apps__hashcode":"#);
    string(out, head.hash_code);
}

fn bare_application<I>(
    out: &mut String,
    name: &str,
    instances: I,
    write: impl Fn(&mut String, &Instance),
) where
    I: IntoIterator<Item: AsRef<Instance>>,
{
    out.push_str(r#"{"name":"#);
    string(out, name);
    out.push_str(r#","instance":"#);
    array(out, instances, |out, it| write(out, it.as_ref()));
    out.push('}');
}

fn bare_instance(out: &mut String, it: &Instance) {
    let mut object = Object::open(out);
    object.text("instanceId", it.instance_id.as_deref());
    object.text("hostName", Some(&it.host_name));
    object.text("app", Some(&it.app));
    object.text("ipAddr", Some(&it.ip_addr));
    object.text("sid", it.sid.as_deref());
    object.text("status", Some(it.status.as_str()));
    object.text("overriddenStatus", Some(it.overridden_status.as_str()));
    port(object.key("port"), it.port);
    port(object.key("securePort"), it.secure_port);
    number(object.key("countryId"), it.country_id.into());
    data_center(object.key("dataCenterInfo"), it.data_center.as_ref(), |_| true);
    lease(object.key("leaseInfo"), &it.lease);
    if it.metadata.is_empty() {
        // What a stock server writes for Java's empty map, and what clients know to be one.
        object.key("metadata").push_str(r#"{"@class":"java.util.Collections$EmptyMap"}"#);
    } else {
        metadata(object.key("metadata"), &it.metadata, |_| true);
    }
    object.text("appGroupName", it.app_group_name.as_deref());
    object.text("homePageUrl", it.home_page_url.as_deref());
    object.text("statusPageUrl", it.status_page_url.as_deref());
    object.text("healthCheckUrl", it.health_check_url.as_deref());
    object.text("secureHealthCheckUrl", it.secure_health_check_url.as_deref());
    object.text("vipAddress", it.vip_address.as_deref());
    object.text("secureVipAddress", it.secure_vip_address.as_deref());
    quoted(object.key("isCoordinatingDiscoveryServer"), it.is_coordinating_discovery_server);
    object.quoted_number("lastUpdatedTimestamp", it.last_updated_ts);
    object.quoted_number("lastDirtyTimestamp", it.last_dirty_ts);
    object.text("actionType", it.action_type.map(crate::ActionType::as_str));
    object.text("asgName", it.asg_name.as_deref());
    object.close();
}

fn compact_instance(out: &mut String, it: &Instance) {
    let mut object = Object::open(out);
    object.text("instanceId", it.instance_id.as_deref());
    object.text("app", Some(&it.app));
    object.text("ipAddr", Some(&it.ip_addr));
    object.text("vipAddress", it.vip_address.as_deref());
    object.text("secureVipAddress", it.secure_vip_address.as_deref());
    data_center(object.key("dataCenterInfo"), it.data_center.as_ref(), compact_key);
    object.text("hostName", Some(&it.host_name));
    object.text("status", Some(it.status.as_str()));
    if let Some(timestamp) = it.last_updated_ts {
        number(object.key("lastUpdatedTimestamp"), timestamp);
    }
    object.text("actionType", it.action_type.map(crate::ActionType::as_str));
    object.text("asgName", it.asg_name.as_deref());
    port(object.key("port"), it.port);
    port(object.key("securePort"), it.secure_port);
    object.close();
}

fn port(out: &mut String, port: Port) {
    out.push_str(r#"{"$":"#);
    number(out, port.number.into());
    out.push_str(r#","@enabled":"#);
    quoted(out, port.enabled);
    out.push('}');
}

fn data_center(out: &mut String, it: Option<&DataCenter>, keep: impl Fn(&str) -> bool) {
    // Clients cannot do without it.
    let it = it.unwrap_or(&DataCenter::MyOwn);
    let mut object = Object::open(out);
    object.text("@class", Some(it.class()));
    object.text("name", Some(it.name()));
    if let Some(held) = it.metadata() {
        metadata(object.key("metadata"), held, keep);
    }
    object.close();
}

fn lease(out: &mut String, it: &LeaseInfo) {
    let mut object = Object::open(out);
    number(object.key("renewalIntervalInSecs"), it.renewal_interval_secs.into());
    number(object.key("durationInSecs"), it.duration_secs.into());
    number(object.key("registrationTimestamp"), it.registration_ts);
    number(object.key("lastRenewalTimestamp"), it.last_renewal_ts);
    number(object.key("evictionTimestamp"), it.eviction_ts);
    number(object.key("serviceUpTimestamp"), it.service_up_ts);
    object.close();
}

fn metadata(out: &mut String, it: &Metadata, keep: impl Fn(&str) -> bool) {
    out.push('{');
    let mut first = true;
    for (key, value) in it.iter().filter(|(key, _)| keep(key)) {
        if !first {
            out.push(',');
        }
        first = false;
        string(out, key);
        out.push(':');
        string(out, value);
    }
    out.push('}');
}

fn replication_instance(out: &mut String, it: &ReplicationInstance) {
    let mut object = Object::open(out);
    object.text("appName", Some(&it.app_name));
    object.text("id", Some(&it.id));
    if let Some(timestamp) = it.last_dirty_ts {
        number(object.key("lastDirtyTimestamp"), timestamp);
    }
    object.text("overriddenStatus", it.overridden_status.map(Status::as_str));
    object.text("status", it.status.map(Status::as_str));
    if let Some(instance) = &it.instance {
        bare_instance(object.key("instanceInfo"), instance);
    }
    object.text("action", Some(it.action.as_str()));
    object.close();
}

fn replication_result(out: &mut String, it: &ReplicationResult) {
    let mut object = Object::open(out);
    number(object.key("statusCode"), it.status_code.into());
    if let Some(instance) = &it.instance {
        bare_instance(object.key("responseEntity"), instance);
    }
    object.close();
}

// === JSON itself ===

/// An object under way. The names are ours: nothing in them needs escaping.
struct Object<'o> {
    out: &'o mut String,
    empty: bool,
}

impl<'o> Object<'o> {
    fn open(out: &'o mut String) -> Self {
        out.push('{');
        Self { out, empty: true }
    }

    /// Writes the name; the value is to be written to what is returned.
    fn key(&mut self, name: &'static str) -> &mut String {
        self.out.push_str(if self.empty { "\"" } else { ",\"" });
        self.empty = false;
        self.out.push_str(name);
        self.out.push_str("\":");
        self.out
    }

    fn text(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            string(self.key(name), value);
        }
    }

    fn quoted_number(&mut self, name: &'static str, value: Option<i64>) {
        if let Some(value) = value {
            let out = self.key(name);
            out.push('"');
            number(out, value);
            out.push('"');
        }
    }

    fn close(self) {
        self.out.push('}');
    }
}

/// Writes an array; how many items it had.
fn array<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) -> usize {
    let mut written = 0;
    out.push('[');
    for item in items {
        if written > 0 {
            out.push(',');
        }
        write(out, item);
        written += 1;
    }
    out.push(']');
    written
}

fn quoted(out: &mut String, it: bool) {
    out.push_str(if it { "\"true\"" } else { "\"false\"" });
}

fn number(out: &mut String, it: i64) {
    // Writing to a `String` cannot fail.
    write!(out, "{it}").unwrap_or_default();
}

/// Writes a string, escaped as Jackson does: short escapes where JSON has them, upper-case hex for
/// the other control characters, everything else as it is.
fn string(out: &mut String, text: &str) {
    out.push('"');
    for part in text.split_inclusive(|it: char| it < ' ' || it == '"' || it == '\\') {
        let mut chars = part.chars();
        match chars.next_back() {
            Some(special @ ('\0'..='\x1f' | '"' | '\\')) => {
                out.push_str(chars.as_str());
                escaped(out, special);
            }
            Some(_) | None => out.push_str(part),
        }
    }
    out.push('"');
}

fn escaped(out: &mut String, special: char) {
    match special {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\u{c}' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        other => write!(out, "\\u{:04X}", u32::from(other)).unwrap_or_default(),
    }
}
