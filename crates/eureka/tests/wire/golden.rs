//! Bodies recorded from a stock server's codecs and from real clients: written exactly, read fully.

use std::sync::Arc;

use tradewind_eureka::{
    Applications, DataCenter, Head, Instance, Port, ReplicationAction, ReplicationInstance,
    ReplicationList, ReplicationResponse, ReplicationResult, Status, hash_code, json, xml,
};

use crate::fixtures::{amazon, golden, orders, pay, table, written};

const XML: xml::Style =
    xml::Style { form: tradewind_eureka::Form::Full, version: tradewind_eureka::Version::V2 };

#[test]
fn instances_in_json() {
    for (instance, golden) in [
        (orders(), golden!("java-instance.json")),
        (amazon(), golden!("java-instance-amazon.json")),
    ] {
        assert_eq!(written(|out| json::instance(out, &instance)), golden);
        assert_eq!(json::read_instance(golden.as_bytes()).unwrap(), instance);
    }
}

#[test]
fn an_instance_in_xml() {
    let golden = golden!("java-instance.xml");
    assert_eq!(written(|out| xml::instance(out, &orders(), XML)), golden);
    assert_eq!(xml::read_instance(golden.as_bytes()).unwrap(), orders());
}

#[test]
fn an_application_in_json() {
    let golden = golden!("java-application.json");
    assert_eq!(written(|out| json::application(out, "PAY", [pay()])), golden);
    let read = json::read_application(golden.as_bytes()).unwrap();
    assert_eq!((read.name.as_str(), read.instances), ("PAY", vec![Arc::new(pay())]));
}

#[test]
fn an_application_in_xml_is_the_part_of_the_table() {
    let table = golden!("java-applications.xml");
    let (_, from) = table.rsplit_once("  <application>").unwrap();
    let (part, _) = from.split_once("\n</applications>").unwrap();
    let part = format!("<application>{part}").replace("\n  ", "\n");
    assert_eq!(written(|out| xml::application(out, "PAY", [pay()], XML)), part);
    assert_eq!(*xml::read_application(part.as_bytes()).unwrap().instances[0], pay());
}

#[test]
fn the_table_in_json() {
    let golden = golden!("java-applications.json");
    let table = table();
    assert_eq!(written(|out| json::applications(out, table.head(), table.groups())), golden);
    assert_eq!(json::read_applications(golden.as_bytes()).unwrap(), table);
}

#[test]
fn the_table_in_xml() {
    let golden = golden!("java-applications.xml");
    let table = table();
    assert_eq!(written(|out| xml::applications(out, table.head(), table.groups(), XML)), golden);
    assert_eq!(xml::read_applications(golden.as_bytes()).unwrap(), table);
}

#[test]
fn the_table_in_compact_json() {
    let golden = golden!("java-applications-compact.json");
    let table = table();
    let out = written(|out| json::applications_compact(out, table.head(), table.groups()));
    assert_eq!(out, golden);
    let read = json::read_applications(golden.as_bytes()).unwrap();
    assert_eq!(read.hash_code, table.hash_code);
    let compact = &read.applications[0].instances[1];
    assert_eq!((&compact.data_center, compact.port), (&amazon().data_center, amazon().port));
    assert_eq!(compact.last_updated_ts, amazon().last_updated_ts);
}

#[test]
fn the_compact_form_drops_other_amazon_keys() {
    let keys = ["ami-id", "public-ipv4", "mac", "public-hostname"];
    let metadata = keys.into_iter().map(|key| (key, "x")).collect();
    let instance =
        Instance { data_center: Some(DataCenter::Amazon(metadata)), ..Instance::default() };
    let head = Head { version_delta: "1", hash_code: "" };
    let out = written(|out| json::applications_compact(out, head, [("A", [&instance])]));
    assert!(out.contains(r#""metadata":{"public-ipv4":"x","public-hostname":"x"}"#), "{out}");
    let style = xml::Style { form: tradewind_eureka::Form::Compact, ..XML };
    let out = written(|out| xml::instance(out, &instance, style));
    let read = xml::read_instance(out.as_bytes()).unwrap();
    let kept = read.data_center.as_ref().and_then(DataCenter::metadata).unwrap().iter();
    assert_eq!(kept.map(|(key, _)| key).collect::<Vec<_>>(), ["public-ipv4", "public-hostname"]);
    for dropped in ["leaseInfo", "overriddenstatus", "countryId", "isCoord", "lastDirty"] {
        assert!(!out.contains(dropped), "{dropped} in {out}");
    }
}

#[test]
fn the_empty_table() {
    let table = Applications { version_delta: "1".into(), ..Applications::default() };
    let golden = golden!("java-applications-empty.json");
    assert_eq!(written(|out| json::applications(out, table.head(), table.groups())), golden);
    assert_eq!(json::read_applications(golden.as_bytes()).unwrap(), table);
    let golden = golden!("java-applications-empty.xml");
    assert_eq!(written(|out| xml::applications(out, table.head(), table.groups(), XML)), golden);
    assert_eq!(xml::read_applications(golden.as_bytes()).unwrap(), table);
    let compact = written(|out| json::applications_compact(out, table.head(), table.groups()));
    assert!(compact.contains(r#""application":[],"registeredApplicationsEmpty":true"#));
}

#[test]
fn a_registration_by_spring() {
    let read = json::read_instance(golden!("java-register-spring.json").as_bytes()).unwrap();
    assert_eq!(read, orders());
}

#[test]
fn a_batch_between_peers() {
    let item = |action| ReplicationInstance {
        app_name: "ORDERS".into(),
        id: "h1:orders:8080".into(),
        last_dirty_ts: Some(1_699_999_999_999),
        overridden_status: None,
        status: Some(Status::Up),
        instance: None,
        action,
    };
    let register = ReplicationInstance {
        instance: Some(Arc::new(orders())),
        ..item(ReplicationAction::Register)
    };
    let cancel = ReplicationInstance {
        last_dirty_ts: None,
        status: None,
        ..item(ReplicationAction::Cancel)
    };
    let list =
        ReplicationList { items: vec![register, item(ReplicationAction::Heartbeat), cancel] };
    let golden = golden!("java-replication-list.json");
    assert_eq!(written(|out| json::replication_list(out, &list)), golden);
    assert_eq!(json::read_replication_list(golden.as_bytes()).unwrap(), list);
}

#[test]
fn the_answers_to_a_batch() {
    let results = vec![
        ReplicationResult { status_code: 200, instance: None },
        ReplicationResult { status_code: 409, instance: Some(Arc::new(orders())) },
    ];
    let response = ReplicationResponse { results };
    let golden = golden!("java-replication-response.json");
    assert_eq!(written(|out| json::replication_response(out, &response)), golden);
    assert_eq!(json::read_replication_response(golden.as_bytes()).unwrap(), response);
}

/// The bodies in a file of recorded requests.
fn bodies(requests: &str) -> Vec<Instance> {
    let lines = requests.lines().filter_map(|line| line.trim().strip_prefix("BODY "));
    lines.map(|body| json::read_instance(body.as_bytes()).unwrap()).collect()
}

#[test]
fn registrations_by_the_python_client() {
    let read = bodies(golden!("py-eureka-client-0.13.3.requests.txt"));
    assert_eq!(read.iter().map(|it| it.status).collect::<Vec<_>>(), [Status::Up, Status::Down]);
    let first = &read[0];
    assert_eq!(first.validate("lab-py"), Ok(()));
    assert_eq!(first.effective_id(), "127.0.0.1:lab-py:9090");
    assert_eq!(first.secure_port, Port { number: 9443, enabled: false });
    assert_eq!(first.secure_health_check_url.as_deref(), Some(""));
    assert_eq!(first.last_dirty_ts, Some(1_795_386_630_120));
    assert_eq!(first.lease.renewal_interval_secs, 1);
    let pairs: Vec<_> = first.metadata.iter().collect();
    assert_eq!(pairs, [("management.port", "9090"), ("zone", "default"), ("a_b", "c")]);
}

#[test]
fn registrations_by_the_javascript_client() {
    let read = bodies(golden!("eureka-js-client-4.5.0.requests.txt"));
    assert_eq!(read.len(), 2);
    let expected = Instance {
        app: "LAB-JS".into(),
        host_name: "localhost".into(),
        ip_addr: "127.0.0.1".into(),
        port: Port { number: 8080, enabled: true },
        vip_address: Some("lab-js".into()),
        data_center: Some(DataCenter::MyOwn),
        ..Instance::default()
    };
    assert_eq!(read[0], expected);
    assert_eq!(read[0].effective_id(), "localhost");
    assert_eq!(read[0].validate("lab-js"), Ok(()));
}

#[test]
fn the_hash_counts_by_status_in_the_order_of_their_names() {
    let table = table();
    let statuses = table.groups().flat_map(|(_, instances)| instances).map(|it| it.status);
    assert_eq!(hash_code(statuses), table.hash_code);
    let mixed = [
        (Status::Up, 340),
        (Status::OutOfService, 1),
        (Status::Down, 2),
        (Status::Unknown, 3),
        (Status::Starting, 4),
    ];
    let statuses = mixed.into_iter().flat_map(|(status, times)| std::iter::repeat_n(status, times));
    assert_eq!(hash_code(statuses), "DOWN_2_OUT_OF_SERVICE_1_STARTING_4_UNKNOWN_3_UP_340_");
    assert_eq!(hash_code([]), "");
}

#[test]
fn v1_clients_are_shown_three_statuses() {
    let style = xml::Style { version: tradewind_eureka::Version::V1, ..XML };
    for (status, shown) in [
        (Status::Up, "UP"),
        (Status::Starting, "STARTING"),
        (Status::Down, "DOWN"),
        (Status::OutOfService, "DOWN"),
        (Status::Unknown, "DOWN"),
    ] {
        let out = written(|out| xml::instance(out, &Instance { status, ..orders() }, style));
        assert!(out.contains(&format!("<status>{shown}</status>")), "{out}");
        assert!(out.contains("<overriddenstatus>UNKNOWN<"), "{out}");
    }
}
