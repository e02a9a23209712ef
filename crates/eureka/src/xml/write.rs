//! The writers.

use std::fmt::Write as _;

use super::name;
use crate::negotiate::compact_key;
use crate::{
    ActionType, DataCenter, Form, Head, Instance, LeaseInfo, Metadata, Port, Status, Version,
};

/// Which of the ways to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Style {
    /// Everything, or what is needed to call an instance. The compact form leaves fields out of the
    /// full one and keeps its order.
    pub form: Form,
    /// The version of the path: `v1` clients know three statuses.
    pub version: Version,
}

impl Style {
    const fn status(self, status: Status) -> Status {
        match self.version {
            Version::V1 => status.for_v1(),
            Version::V2 => status,
        }
    }
}

/// Writes `<instance>…</instance>`.
pub fn instance(out: &mut String, instance: &Instance, style: Style) {
    write_instance(&mut Writer { out, depth: 0 }, instance, style);
}

/// Writes `<application><name>…</name><instance>…</instance>…</application>`.
pub fn application<I>(out: &mut String, name: &str, instances: I, style: Style)
where
    I: IntoIterator<Item: AsRef<Instance>>,
{
    write_application(&mut Writer { out, depth: 0 }, name, instances, style);
}

/// Writes `<applications>…</applications>`: names with their instances.
pub fn applications<'a, I>(
    out: &mut String,
    head: Head<'_>,
    groups: impl IntoIterator<Item = (&'a str, I)>,
    style: Style,
) where
    I: IntoIterator<Item: AsRef<Instance>>,
{
    let mut writer = Writer { out, depth: 0 };
    writer.element("applications", None, |writer| {
        writer.text("versions__delta", Some(head.version_delta));
        writer.text("apps__hashcode", Some(head.hash_code));
        for (name, instances) in groups {
            write_application(writer, name, instances, style);
        }
    });
}

// === parts ===

fn write_application<I>(writer: &mut Writer<'_>, name: &str, instances: I, style: Style)
where
    I: IntoIterator<Item: AsRef<Instance>>,
{
    writer.element("application", None, |writer| {
        writer.text("name", Some(name));
        for it in instances {
            write_instance(writer, it.as_ref(), style);
        }
    });
}

fn write_instance(writer: &mut Writer<'_>, it: &Instance, style: Style) {
    let full = style.form == Form::Full;
    writer.element("instance", None, |writer| {
        writer.text("instanceId", it.instance_id.as_deref());
        writer.text("hostName", Some(&it.host_name));
        writer.text("app", Some(&it.app));
        writer.text("ipAddr", Some(&it.ip_addr));
        if full {
            writer.text("sid", it.sid.as_deref());
        }
        writer.text("status", Some(style.status(it.status).as_str()));
        if full {
            writer.text("overriddenstatus", Some(it.overridden_status.as_str()));
        }
        write_port(writer, "port", it.port);
        write_port(writer, "securePort", it.secure_port);
        if full {
            writer.number("countryId", Some(it.country_id.into()));
        }
        write_data_center(writer, it.data_center.as_ref(), style.form);
        if full {
            write_lease(writer, &it.lease);
            write_details(writer, it);
        }
        writer.text("vipAddress", it.vip_address.as_deref());
        writer.text("secureVipAddress", it.secure_vip_address.as_deref());
        if full {
            let coordinating = it.is_coordinating_discovery_server;
            writer.text("isCoordinatingDiscoveryServer", Some(boolean(coordinating)));
        }
        writer.number("lastUpdatedTimestamp", it.last_updated_ts);
        if full {
            writer.number("lastDirtyTimestamp", it.last_dirty_ts);
        }
        writer.text("actionType", it.action_type.map(ActionType::as_str));
        writer.text("asgName", it.asg_name.as_deref());
    });
}

/// Metadata, group and pages: what the compact form does without.
fn write_details(writer: &mut Writer<'_>, it: &Instance) {
    if it.metadata.iter().any(|(key, _)| !key.is_empty()) {
        write_metadata(writer, &it.metadata, |_| true);
    } else {
        writer.empty("metadata", Some(("class", "java.util.Collections$EmptyMap")));
    }
    writer.text("appGroupName", it.app_group_name.as_deref());
    writer.text("homePageUrl", it.home_page_url.as_deref());
    writer.text("statusPageUrl", it.status_page_url.as_deref());
    writer.text("healthCheckUrl", it.health_check_url.as_deref());
    writer.text("secureHealthCheckUrl", it.secure_health_check_url.as_deref());
}

fn write_port(writer: &mut Writer<'_>, name: &str, port: Port) {
    writer.begin(name, Some(("enabled", boolean(port.enabled))));
    writer.digits(port.number.into());
    writer.finish(name);
}

fn write_data_center(writer: &mut Writer<'_>, it: Option<&DataCenter>, form: Form) {
    // Clients cannot do without it.
    let it = it.unwrap_or(&DataCenter::MyOwn);
    writer.element("dataCenterInfo", Some(("class", it.class())), |writer| {
        writer.text("name", Some(it.name()));
        if let Some(metadata) = it.metadata() {
            write_metadata(writer, metadata, |key| form == Form::Full || compact_key(key));
        }
    });
}

fn write_lease(writer: &mut Writer<'_>, it: &LeaseInfo) {
    writer.element("leaseInfo", None, |writer| {
        writer.number("renewalIntervalInSecs", Some(it.renewal_interval_secs.into()));
        writer.number("durationInSecs", Some(it.duration_secs.into()));
        writer.number("registrationTimestamp", Some(it.registration_ts));
        writer.number("lastRenewalTimestamp", Some(it.last_renewal_ts));
        writer.number("evictionTimestamp", Some(it.eviction_ts));
        writer.number("serviceUpTimestamp", Some(it.service_up_ts));
    });
}

fn write_metadata(writer: &mut Writer<'_>, it: &Metadata, keep: impl Fn(&str) -> bool) {
    let mut pairs = it.iter().filter(|(key, _)| !key.is_empty() && keep(key)).peekable();
    if pairs.peek().is_none() {
        writer.empty("metadata", None);
        return;
    }
    writer.element("metadata", None, |writer| {
        let mut key_name = String::new();
        for (key, value) in pairs {
            key_name.clear();
            name::encode(&mut key_name, key);
            writer.text(&key_name, Some(value));
        }
    });
}

const fn boolean(it: bool) -> &'static str {
    if it { "true" } else { "false" }
}

// === XML itself ===

/// The one attribute an element may have.
type Attribute = Option<(&'static str, &'static str)>;

/// Lines, indented. Names and attributes are ours or encoded: nothing in them needs escaping.
struct Writer<'o> {
    out: &'o mut String,
    depth: usize,
}

impl Writer<'_> {
    fn line(&mut self) {
        self.out.push('\n');
        for _ in 0..self.depth {
            self.out.push_str("  ");
        }
    }

    /// Writes a start tag without its end, on a new line unless it is the root's.
    fn tag(&mut self, name: &str, attribute: Attribute) {
        if self.depth > 0 {
            self.line();
        }
        self.out.push('<');
        self.out.push_str(name);
        if let Some((attribute, value)) = attribute {
            self.out.push(' ');
            self.out.push_str(attribute);
            self.out.push_str("=\"");
            self.out.push_str(value);
            self.out.push('"');
        }
    }

    fn begin(&mut self, name: &str, attribute: Attribute) {
        self.tag(name, attribute);
        self.out.push('>');
    }

    fn finish(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    fn empty(&mut self, name: &str, attribute: Attribute) {
        self.tag(name, attribute);
        self.out.push_str("/>");
    }

    /// An element of elements. There must be one at least.
    fn element(&mut self, name: &str, attribute: Attribute, children: impl FnOnce(&mut Self)) {
        self.begin(name, attribute);
        self.depth += 1;
        children(self);
        self.depth -= 1;
        self.line();
        self.finish(name);
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.begin(name, None);
            escape(self.out, value);
            self.finish(name);
        }
    }

    fn number(&mut self, name: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.begin(name, None);
            self.digits(value);
            self.finish(name);
        }
    }

    fn digits(&mut self, value: i64) {
        // Writing to a `String` cannot fail.
        write!(self.out, "{value}").unwrap_or_default();
    }
}

/// Writes text as XStream does, except for what XML forbids (see the module).
fn escape(out: &mut String, text: &str) {
    let special = |it: char| {
        it.is_control() || matches!(it, '&' | '<' | '>' | '"' | '\'' | '\u{fffe}' | '\u{ffff}')
    };
    for part in text.split_inclusive(special) {
        let mut chars = part.chars();
        let Some(last) = chars.next_back().filter(|it| special(*it)) else {
            out.push_str(part);
            continue;
        };
        out.push_str(chars.as_str());
        match last {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' => out.push(last),
            // As it is, a parser would make it a line feed.
            '\r' => out.push_str("&#xd;"),
            '\u{7f}'..='\u{9f}' => {
                write!(out, "&#x{:x};", u32::from(last)).unwrap_or_default();
            }
            _ => out.push(char::REPLACEMENT_CHARACTER),
        }
    }
}
