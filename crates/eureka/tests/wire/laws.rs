//! What holds for every instance and every body.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use tradewind_eureka::{
    ActionType, Application, Applications, DataCenter, Instance, LeaseInfo, Metadata, Port,
    ReplicationAction, ReplicationInstance, ReplicationList, Status, json, xml,
};

use crate::fixtures::written;

/// Text of all kinds: usual, with markup, with control characters, with anything.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9.:-]{0,12}",
        "[<>&\"'\\\\\\]\\[ _$@/=;#x-]{0,12}",
        "[\\x00-\\x20\\x7f-\\xa0\u{2028}\u{fffe}\u{ffff}]{0,6}",
        prop::collection::vec(any::<char>(), 0..6).prop_map(String::from_iter),
    ]
}

fn optional() -> impl Strategy<Value = Option<String>> {
    prop::option::of(text())
}

fn pairs() -> impl Strategy<Value = Metadata> {
    prop::collection::vec((text(), text()), 0..6).prop_map(Metadata::from_iter)
}

fn status() -> impl Strategy<Value = Status> {
    prop::sample::select(Status::ALL.to_vec())
}

fn port() -> impl Strategy<Value = Port> {
    (any::<i32>(), any::<bool>()).prop_map(|(number, enabled)| Port { number, enabled })
}

fn data_center() -> impl Strategy<Value = DataCenter> {
    prop_oneof![
        Just(DataCenter::MyOwn),
        Just(DataCenter::Netflix),
        pairs().prop_map(DataCenter::Amazon),
    ]
}

fn lease() -> impl Strategy<Value = LeaseInfo> {
    let timestamps = (any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>());
    (1..i32::MAX, 1..i32::MAX, timestamps).prop_map(|(renewal, duration, timestamps)| LeaseInfo {
        renewal_interval_secs: renewal,
        duration_secs: duration,
        registration_ts: timestamps.0,
        last_renewal_ts: timestamps.1,
        eviction_ts: timestamps.2,
        service_up_ts: timestamps.3,
    })
}

fn instance() -> impl Strategy<Value = Instance> {
    let names = (optional(), text(), text(), text(), optional(), any::<i32>());
    let states = (status(), status(), port(), port(), data_center(), lease());
    let urls = (optional(), optional(), optional(), optional(), optional());
    let rest = (optional(), optional(), optional(), pairs(), any::<bool>());
    let actions = [ActionType::Added, ActionType::Modified, ActionType::Deleted];
    let action = prop::option::of(prop::sample::select(actions.to_vec()));
    let times = (prop::option::of(any::<i64>()), prop::option::of(any::<i64>()), action);
    (names, states, urls, rest, times).prop_map(|(names, states, urls, rest, times)| Instance {
        instance_id: names.0,
        host_name: names.1,
        app: names.2.to_uppercase(),
        ip_addr: names.3,
        sid: names.4.filter(|sid| sid != "na" && sid != "unknown"),
        country_id: names.5,
        status: states.0,
        overridden_status: states.1,
        port: states.2,
        secure_port: states.3,
        data_center: Some(states.4),
        lease: states.5,
        app_group_name: urls.0,
        home_page_url: urls.1,
        status_page_url: urls.2,
        health_check_url: urls.3,
        secure_health_check_url: urls.4,
        vip_address: rest.0,
        secure_vip_address: rest.1,
        asg_name: rest.2,
        metadata: rest.3,
        is_coordinating_discovery_server: rest.4,
        last_updated_ts: times.0,
        last_dirty_ts: times.1,
        action_type: times.2,
    })
}

fn table() -> impl Strategy<Value = Applications> {
    let application = (text(), prop::collection::vec(instance().prop_map(Arc::new), 0..3))
        .prop_map(|(name, instances)| Application { name: name.to_uppercase(), instances });
    (text(), text(), prop::collection::vec(application, 0..3)).prop_map(
        |(version_delta, hash_code, applications)| Applications {
            version_delta,
            hash_code,
            applications,
        },
    )
}

/// What XML 1.0 lets a document hold.
const fn legal(it: char) -> bool {
    matches!(it, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// What is left of text in XML.
fn legalized(text: &str) -> String {
    text.chars().map(|it| if legal(it) { it } else { '\u{fffd}' }).collect()
}

fn legalized_pairs(pairs: &Metadata) -> Metadata {
    let kept = pairs.iter().filter(|(key, _)| !key.is_empty());
    kept.map(|(key, value)| (key, legalized(value))).collect()
}

/// What is left of an instance in XML.
fn in_xml(it: &Instance) -> Instance {
    let optional = |text: &Option<String>| text.as_deref().map(legalized);
    Instance {
        instance_id: optional(&it.instance_id),
        host_name: legalized(&it.host_name),
        app: legalized(&it.app),
        ip_addr: legalized(&it.ip_addr),
        sid: optional(&it.sid),
        data_center: it.data_center.as_ref().map(|it| match it {
            DataCenter::Amazon(pairs) => DataCenter::Amazon(legalized_pairs(pairs)),
            other => other.clone(),
        }),
        metadata: legalized_pairs(&it.metadata),
        app_group_name: optional(&it.app_group_name),
        home_page_url: optional(&it.home_page_url),
        status_page_url: optional(&it.status_page_url),
        health_check_url: optional(&it.health_check_url),
        secure_health_check_url: optional(&it.secure_health_check_url),
        vip_address: optional(&it.vip_address),
        secure_vip_address: optional(&it.secure_vip_address),
        asg_name: optional(&it.asg_name),
        ..it.clone()
    }
}

/// Fails on anything Spring's client would refuse: a field it does not know, a missing list, a
/// list that is no array, a status or a class outside its own.
fn assert_strict(body: &str) {
    let body: Value = serde_json::from_str(body).unwrap();
    assert_fields(&body, &["applications"]);
    let all = &body["applications"];
    assert_fields(all, &["versions__delta", "apps__hashcode", "application"]);
    for application in all["application"].as_array().unwrap() {
        assert_fields(application, &["name", "instance"]);
        for instance in application["instance"].as_array().unwrap() {
            assert_strict_instance(instance);
        }
    }
}

#[rustfmt::skip]
const INSTANCE: [&str; 25] = [
    "instanceId", "hostName", "app", "ipAddr", "sid", "status", "overriddenStatus", "port",
    "securePort", "countryId", "dataCenterInfo", "leaseInfo", "metadata", "appGroupName",
    "homePageUrl", "statusPageUrl", "healthCheckUrl", "secureHealthCheckUrl", "vipAddress",
    "secureVipAddress", "isCoordinatingDiscoveryServer", "lastUpdatedTimestamp",
    "lastDirtyTimestamp", "actionType", "asgName",
];
#[rustfmt::skip]
const LEASE: [&str; 6] = [
    "renewalIntervalInSecs", "durationInSecs", "registrationTimestamp", "lastRenewalTimestamp",
    "evictionTimestamp", "serviceUpTimestamp",
];

fn assert_strict_instance(instance: &Value) {
    assert_fields(instance, &INSTANCE);
    for field in ["status", "overriddenStatus"] {
        assert!(Status::from_name(instance[field].as_str().unwrap()).is_some());
    }
    for field in ["port", "securePort"] {
        assert_fields(&instance[field], &["$", "@enabled"]);
        assert!(instance[field]["$"].is_i64() && instance[field]["@enabled"].is_string());
    }
    assert_fields(&instance["leaseInfo"], &LEASE);
    let center = &instance["dataCenterInfo"];
    let amazon = center["name"] == "Amazon";
    let class = if amazon { "AmazonInfo" } else { "InstanceInfo$DefaultDataCenterInfo" };
    assert_eq!(center["@class"], format!("com.netflix.appinfo.{class}"));
    assert_fields(
        center,
        if amazon { &["@class", "name", "metadata"] } else { &["@class", "name"] },
    );
    assert!(instance["metadata"].as_object().unwrap().values().all(Value::is_string));
    for field in ["lastUpdatedTimestamp", "lastDirtyTimestamp"] {
        assert!(instance.get(field).is_none_or(Value::is_string));
    }
}

fn assert_fields(object: &Value, known: &[&str]) {
    for (field, value) in object.as_object().unwrap() {
        assert!(known.contains(&field.as_str()), "unknown field {field}");
        assert!(!value.is_null(), "{field} is null");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn instances_come_back_from_json(instance in instance()) {
        let out = written(|out| json::instance(out, &instance));
        prop_assert_eq!(json::read_instance(out.as_bytes()).unwrap(), instance);
    }

    #[test]
    fn instances_come_back_from_xml_but_for_what_xml_cannot_hold(instance in instance()) {
        let out = written(|out| xml::instance(out, &instance, xml::Style::default()));
        prop_assert_eq!(xml::read_instance(out.as_bytes()).unwrap(), in_xml(&instance));
        prop_assert!(out.chars().all(legal), "{:?}", out);
    }

    #[test]
    fn tables_come_back_and_are_strict(table in table()) {
        let out = written(|out| json::applications(out, table.head(), table.groups()));
        assert_strict(&out);
        prop_assert_eq!(&json::read_applications(out.as_bytes()).unwrap(), &table);

        let style = xml::Style::default();
        let out = written(|out| xml::applications(out, table.head(), table.groups(), style));
        let read = xml::read_applications(out.as_bytes()).unwrap();
        prop_assert_eq!(read.version_delta, legalized(&table.version_delta));
        for (read, written) in read.applications.iter().zip(&table.applications) {
            prop_assert_eq!(&read.name, &legalized(&written.name));
            let expected = written.instances.iter().map(|it| Arc::new(in_xml(it)));
            prop_assert_eq!(&read.instances, &expected.collect::<Vec<_>>());
        }
        prop_assert_eq!(read.applications.len(), table.applications.len());

        let out = written(|out| json::applications_compact(out, table.head(), table.groups()));
        let read = json::read_applications(out.as_bytes()).unwrap();
        prop_assert_eq!(read.applications.len(), table.applications.len());
    }

    #[test]
    fn batches_come_back(items in prop::collection::vec((text(), text(), instance()), 0..4)) {
        let items = items.into_iter().zip(ReplicationAction::ALL);
        let items = items.map(|((app_name, id, instance), action)| ReplicationInstance {
            app_name: app_name.to_uppercase(),
            id,
            last_dirty_ts: instance.last_dirty_ts,
            overridden_status: Some(instance.overridden_status),
            status: Some(instance.status),
            instance: (action == ReplicationAction::Register).then(|| Arc::new(instance)),
            action,
        });
        let list = ReplicationList { items: items.collect() };
        let out = written(|out| json::replication_list(out, &list));
        prop_assert_eq!(json::read_replication_list(out.as_bytes()).unwrap(), list);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..24),
    ) {
        crate::mutated::read_all(&bytes);
        crate::mutated::read_all(pieces.concat().as_bytes());
    }
}

#[rustfmt::skip]
const PIECES: &[&str] = &[
    "{", "}", "[", "]", ":", ",", "\"", "\"instance\"", "\"application\"", "\"port\"", "\"$\"",
    "\"metadata\"", "null", "1", "-", "<", ">", "/", "<instance>", "</instance>", "<metadata>",
    "</metadata>", "<_.D800>", "</_.D800>", "<![CDATA[", "]]>", "<!--", "-->", "<?", "?>", "&",
    "&#x", ";", "<!DOCTYPE ", " class='", "\u{feff}", "\\ud800", "<port enabled='true'>",
];
