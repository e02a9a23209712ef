//! What clients leave out, write differently or add, case by case; and what is refused.

use tradewind_eureka::{
    DataCenter, Instance, Invalid, LeaseInfo, Metadata, Port, ReadError, Status, json, xml,
};

use crate::fixtures::{orders, written};

/// Reads `{"instance":{<fields>}}`.
fn read(fields: &str) -> Instance {
    let body = format!(r#"{{"instance":{{{fields}}}}}"#);
    json::read_instance(body.as_bytes()).unwrap_or_else(|err| panic!("{fields}: {err:?}"))
}

fn pairs(pairs: &[(&str, &str)]) -> Metadata {
    pairs.iter().copied().collect()
}

type Change = fn(&mut Instance);

const ACCEPTED: &[(&str, Change)] = &[
    ("", |_| ()),
    (r#""app":"orders""#, |it| it.app = "ORDERS".into()),
    (r#""status":"UP""#, |_| ()),
    (r#""status":null"#, |_| ()),
    (r#""status":"up""#, |it| it.status = Status::Unknown),
    (r#""status":"BROKEN""#, |it| it.status = Status::Unknown),
    (r#""status":7"#, |it| it.status = Status::Unknown),
    (r#""status":"OUT_OF_SERVICE""#, |it| it.status = Status::OutOfService),
    (r#""overriddenStatus":"DOWN""#, |it| it.overridden_status = Status::Down),
    (r#""overriddenstatus":"DOWN""#, |it| it.overridden_status = Status::Down),
    (r#""overriddenStatus":null,"overriddenstatus":"UP""#, |it| it.overridden_status = Status::Up),
    (r#""overriddenStatus":"""#, |_| ()),
    (r#""port":{"$":1,"@enabled":false}"#, |it| it.port = Port { number: 1, enabled: false }),
    (r#""port":{"$":"2","@enabled":"FALSE"}"#, |it| it.port = Port { number: 2, enabled: false }),
    (r#""port":{"$":3}"#, |it| it.port = Port { number: 3, enabled: true }),
    (r#""port":{"$":-1}"#, |it| it.port.number = -1),
    (r#""port":{}"#, |_| ()),
    (r#""port":null"#, |_| ()),
    (r#""securePort":{"$":4}"#, |it| it.secure_port = Port { number: 4, enabled: false }),
    (r#""countryId":"49""#, |it| it.country_id = 49),
    (r#""sid":"na""#, |_| ()),
    (r#""sid":"s""#, |it| it.sid = Some("s".into())),
    (r#""dataCenterInfo":{"name":"MyOwn"}"#, |it| it.data_center = Some(DataCenter::MyOwn)),
    (r#""dataCenterInfo":{"@class":"x.MyDataCenterInfo","name":"MyOwn"}"#, |it| {
        it.data_center = Some(DataCenter::MyOwn);
    }),
    (r#""dataCenterInfo":{"@class":"x","name":"Elsewhere","metadata":{"a":"b"}}"#, |it| {
        it.data_center = Some(DataCenter::MyOwn);
    }),
    (r#""dataCenterInfo":{"name":"Netflix"}"#, |it| it.data_center = Some(DataCenter::Netflix)),
    (r#""dataCenterInfo":{"@class":"com.netflix.appinfo.AmazonInfo"}"#, |it| {
        it.data_center = Some(DataCenter::Amazon(Metadata::new()));
    }),
    (r#""dataCenterInfo":{"name":"Amazon","metadata":{"instance-id":"i"}}"#, |it| {
        it.data_center = Some(DataCenter::Amazon(pairs(&[("instance-id", "i")])));
    }),
    (r#""dataCenterInfo":{"@class":"x"}"#, |_| ()),
    (r#""leaseInfo":{"durationInSecs":"9","renewalIntervalInSecs":3.0}"#, |it| {
        it.lease.duration_secs = 9;
        it.lease.renewal_interval_secs = 3;
    }),
    (r#""leaseInfo":{"durationInSecs":0,"renewalIntervalInSecs":-1}"#, |_| ()),
    (r#""leaseInfo":{"renewalTimestamp":5,"evictionTimestamp":"6"}"#, |it| {
        it.lease = LeaseInfo { last_renewal_ts: 5, eviction_ts: 6, ..LeaseInfo::default() };
    }),
    (r#""leaseInfo":null"#, |_| ()),
    (r#""metadata":{"n":1,"f":1.5,"t":true,"z":null,"o":{"p":1},"l":[1],"@class":"x"}"#, |it| {
        it.metadata = pairs(&[("n", "1"), ("f", "1.5"), ("t", "true")]);
    }),
    (r#""metadata":{"@class":"java.util.Collections$EmptyMap"}"#, |_| ()),
    (r#""metadata":"""#, |_| ()),
    (r#""vipAddress":"a, b""#, |it| it.vip_address = Some("a, b".into())),
    (r#""isCoordinatingDiscoveryServer":true"#, |it| it.is_coordinating_discovery_server = true),
    (r#""isCoordinatingDiscoveryServer":"true""#, |it| it.is_coordinating_discovery_server = true),
    (r#""lastDirtyTimestamp":7"#, |it| it.last_dirty_ts = Some(7)),
    (r#""lastDirtyTimestamp":"7""#, |it| it.last_dirty_ts = Some(7)),
    (r#""lastUpdatedTimestamp":"""#, |_| ()),
    (r#""actionType":"RENAMED""#, |_| ()),
    (r#""hostName":"a","hostName":"b""#, |it| it.host_name = "b".into()),
    (r#""unknown":1,"nested":{"a":[{"b":null}]},"hostName":"h""#, |it| it.host_name = "h".into()),
];

#[test]
fn what_clients_may_do() {
    for (fields, change) in ACCEPTED {
        let mut expected = Instance::default();
        change(&mut expected);
        assert_eq!(read(fields), expected, "{fields}");
    }
}

#[test]
fn the_wrapping_object_may_be_missing() {
    let bare = br#"{"app":"a","metadata":{"instance":"x"}}"#;
    assert_eq!(json::read_instance(bare).unwrap().app, "A");
    let bare = br#"{"name":"a","instance":{"app":"a"}}"#;
    assert_eq!(json::read_application(bare).unwrap().instances.len(), 1);
    let bare = br#"{"versions__delta":1,"apps__hashcode":"","application":null}"#;
    assert_eq!(json::read_applications(bare).unwrap().version_delta, "1");
}

#[test]
fn a_lone_object_stands_for_an_array_of_one() {
    let body = br#"{"applications":{"versions__delta":"2","apps__hashcode":"UP_1_",
        "application":{"name":"a","instance":{"hostName":"h","app":"a"}}}}"#;
    let read = json::read_applications(body).unwrap();
    assert_eq!(read.applications[0].name, "A");
    assert_eq!(read.applications[0].instances[0].host_name, "h");
    let body = br#"{"applications":{"application":[null,{"instance":[{"app":"b"},null]}]}}"#;
    let read = json::read_applications(body).unwrap();
    assert_eq!((read.applications.len(), read.applications[0].name.as_str()), (1, "B"));
}

#[test]
fn an_answer_about_something_else_is_not_an_empty_table() {
    for body in ["{}", r#"{"applications":{}}"#, r#"{"applications":null}"#, r#"{"error":"x"}"#] {
        let err = json::read_applications(body.as_bytes()).unwrap_err();
        assert!(matches!(err, ReadError::Field { field: "applications", .. }), "{body}: {err:?}");
    }
    assert!(xml::read_applications(b"<applications/>").is_err());
}

#[test]
fn errors_name_the_field() {
    for (fields, field) in [
        (r#""port":8080"#, "port"),
        (r#""port":{"$":"many"}"#, "port.$"),
        (r#""port":{"$":4294967296}"#, "port.$"),
        (r#""securePort":{"$":1,"@enabled":[]}"#, "securePort.@enabled"),
        (r#""leaseInfo":{"durationInSecs":"soon"}"#, "leaseInfo.durationInSecs"),
        (r#""leaseInfo":[]"#, "leaseInfo"),
        (r#""metadata":"x""#, "metadata"),
        (r#""metadata":[]"#, "metadata"),
        (r#""dataCenterInfo":"MyOwn""#, "dataCenterInfo"),
        (r#""hostName":{"a":"b"}"#, "hostName"),
        (r#""lastDirtyTimestamp":"yesterday""#, "lastDirtyTimestamp"),
        (r#""lastDirtyTimestamp":99999999999999999999"#, "lastDirtyTimestamp"),
        (r#""isCoordinatingDiscoveryServer":{}"#, "isCoordinatingDiscoveryServer"),
    ] {
        let body = format!(r#"{{"instance":{{{fields}}}}}"#);
        let err = json::read_instance(body.as_bytes()).unwrap_err();
        assert!(matches!(err, ReadError::Field { field: it, .. } if it == field), "{err:?}");
        assert!(err.to_string().contains(field));
    }
}

#[test]
fn what_is_not_an_instance_at_all_is_refused() {
    for body in ["", "[]", "1", "\"\u{0}", "{", r#"{"instance":[]}"#, "{} {}", "{\"a\":1e999}"] {
        assert!(json::read_instance(body.as_bytes()).is_err(), "{body}");
    }
    assert!(matches!(json::read_instance(b"{\"app\":\"\xff\"}"), Err(ReadError::Utf8(_))));
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(json::read_instance(deep.as_bytes()), Err(ReadError::Json(_))));
}

#[test]
fn batches_are_read_strictly_where_a_change_could_be_lost() {
    for (body, field) in [
        ("{}", "replicationList"),
        (r#"{"replicationList":[{"appName":"A","id":"i"}]}"#, "action"),
        (r#"{"replicationList":[{"action":"heartbeat"}]}"#, "action"),
        (r#"{"replicationList":[1]}"#, "replicationList"),
    ] {
        let err = json::read_replication_list(body.as_bytes()).unwrap_err();
        assert!(matches!(err, ReadError::Field { field: it, .. } if it == field), "{err:?}");
    }
    assert!(json::read_replication_list(br#"{"replicationList":[]}"#).unwrap().items.is_empty());
    assert!(json::read_replication_response(b"{}").is_err());
    assert!(json::read_replication_response(br#"{"responseList":[{}]}"#).is_err());
    let text = br#"{"responseList":[{"statusCode":"404","responseEntity":"gone"}]}"#;
    let read = json::read_replication_response(text).unwrap();
    assert_eq!((read.results[0].status_code, &read.results[0].instance), (404, &None));
}

#[test]
fn a_registration_must_say_what_it_is() {
    let missing = |change: Change| {
        let mut instance = orders();
        change(&mut instance);
        instance.validate("orders")
    };
    assert_eq!(missing(|_| ()), Ok(()));
    assert_eq!(missing(|it| it.instance_id = Some(String::new())), Ok(()));
    let nameless: Change = |it| {
        it.instance_id = None;
        it.host_name.clear();
    };
    assert_eq!(missing(nameless), Err(Invalid::InstanceId));
    assert_eq!(missing(|it| it.host_name = " ".into()), Err(Invalid::HostName));
    assert_eq!(missing(|it| it.ip_addr.clear()), Err(Invalid::IpAddr));
    assert_eq!(missing(|it| it.app.clear()), Err(Invalid::App));
    assert_eq!(missing(|it| it.data_center = None), Err(Invalid::DataCenter));
    let err = missing(|it| it.app = "PAY".into()).unwrap_err();
    assert_eq!(err.to_string(), "Mismatched appName, expecting orders but was PAY");
}

#[test]
fn the_id_falls_back_to_amazons_and_the_hosts() {
    let mut instance = crate::fixtures::amazon();
    instance.instance_id = Some(String::new());
    assert_eq!(instance.effective_id(), "i-0abc");
    instance.data_center = Some(DataCenter::MyOwn);
    assert_eq!(instance.effective_id(), "h1.example");
}

#[test]
fn a_registration_written_by_hand_in_xml() {
    let body = "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- by hand -->\n\
        <instance><hostName>h<!-- x -->1</hostName><app><![CDATA[a&b]]></app>\
        <ipAddr>10.0.0.&#49;</ipAddr><vipAddress>&lt;a&gt; &quot;b&apos;</vipAddress>\
        <port>8080</port><securePort> 8443 </securePort><unknown><deep><er/></deep></unknown>\
        <dataCenterInfo class='ignored'><name>Amazon</name><metadata><mac>m</mac></metadata>\
        </dataCenterInfo><leaseInfo/><metadata other='x'>\n<a>1</a>\n<_.0040class>c</_.0040class>\
        <b class='x'>2</b><c/></metadata></instance>\n";
    let expected = Instance {
        host_name: "h1".into(),
        app: "A&B".into(),
        ip_addr: "10.0.0.1".into(),
        vip_address: Some("<a> \"b'".into()),
        port: Port { number: 8080, enabled: true },
        secure_port: Port { number: 8443, enabled: false },
        data_center: Some(DataCenter::Amazon(pairs(&[("mac", "m")]))),
        metadata: pairs(&[("a", "1"), ("b", "2"), ("c", "")]),
        ..Instance::default()
    };
    assert_eq!(xml::read_instance(body.as_bytes()).unwrap(), expected);
}

#[test]
fn entities_cannot_be_made_to_grow() {
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE instance [<!ENTITY a \"aaaaaaaaaa\">\
        <!ENTITY b \"&a;&a;&a;&a;\">]><instance><app>&b;</app></instance>";
    assert!(matches!(xml::read_instance(bomb.as_bytes()), Err(ReadError::Entity)));
    let external = "<!DOCTYPE instance SYSTEM \"file:///etc/passwd\"><instance/>";
    assert!(matches!(xml::read_instance(external.as_bytes()), Err(ReadError::Entity)));
    let unknown = "<instance><app>&b;</app></instance>";
    assert!(matches!(xml::read_instance(unknown.as_bytes()), Err(ReadError::Entity)));
}

#[test]
fn xml_that_is_not_one_instance_is_refused() {
    let deep = format!("<instance>{}", "<a>".repeat(100_000));
    assert!(matches!(xml::read_instance(deep.as_bytes()), Err(ReadError::TooDeep(_))));
    for body in [
        "",
        " ",
        "text",
        "<application/>",
        "<instance>",
        "<instance></app>",
        "</instance>",
        "<instance/><instance/>",
        "<instance/>x",
        "<instance>&</instance>",
        "<instance>&#0;</instance>",
        "<instance><metadata class=x/></instance>",
        "<instance><port enabled='maybe'>no</port></instance>",
    ] {
        assert!(xml::read_instance(body.as_bytes()).is_err(), "{body}");
    }
    assert!(matches!(xml::read_instance(b"<instance>\xff"), Err(ReadError::Utf8(_))));
}

#[test]
fn amazon_without_metadata_stays_amazon() {
    let bare =
        Instance { data_center: Some(DataCenter::Amazon(Metadata::new())), ..Instance::default() };
    let out = written(|out| json::instance(out, &bare));
    assert_eq!(json::read_instance(out.as_bytes()).unwrap(), bare);
    let out = written(|out| xml::instance(out, &bare, xml::Style::default()));
    assert_eq!(xml::read_instance(out.as_bytes()).unwrap(), bare);
}
