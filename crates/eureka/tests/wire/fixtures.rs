//! The invented instances of the recorded bodies, and the bodies.

use std::sync::Arc;

use tradewind_eureka::{
    ActionType, Application, Applications, DataCenter, Instance, LeaseInfo, Port, Status,
};

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/", $name)).trim_end()
    };
}
pub(crate) use golden;

/// Every recorded body; the two files of requests are not bodies.
pub(crate) fn bodies() -> [&'static str; 12] {
    [
        golden!("java-application.json"),
        golden!("java-applications-compact.json"),
        golden!("java-applications-empty.json"),
        golden!("java-applications-empty.xml"),
        golden!("java-applications.json"),
        golden!("java-applications.xml"),
        golden!("java-instance-amazon.json"),
        golden!("java-instance.json"),
        golden!("java-instance.xml"),
        golden!("java-register-spring.json"),
        golden!("java-replication-list.json"),
        golden!("java-replication-response.json"),
    ]
}

pub(crate) fn orders() -> Instance {
    Instance {
        instance_id: Some("h1:orders:8080".into()),
        host_name: "h1.example".into(),
        app: "ORDERS".into(),
        ip_addr: "10.0.0.1".into(),
        status: Status::Up,
        port: Port { number: 8080, enabled: true },
        secure_port: Port { number: 8443, enabled: false },
        data_center: Some(DataCenter::MyOwn),
        lease: LeaseInfo {
            renewal_interval_secs: 30,
            duration_secs: 90,
            registration_ts: 1_700_000_000_000,
            last_renewal_ts: 1_700_000_030_000,
            eviction_ts: 0,
            service_up_ts: 1_700_000_000_001,
        },
        metadata: [("zone", "z1"), ("a_b", "x"), ("d$e", "y<&>z")].into_iter().collect(),
        home_page_url: Some("http://h1.example:8080/".into()),
        status_page_url: Some("http://h1.example:8080/actuator/info".into()),
        health_check_url: Some("http://h1.example:8080/actuator/health".into()),
        vip_address: Some("orders".into()),
        secure_vip_address: Some("orders".into()),
        last_updated_ts: Some(1_700_000_000_002),
        last_dirty_ts: Some(1_699_999_999_999),
        action_type: Some(ActionType::Added),
        ..Instance::default()
    }
}

pub(crate) fn amazon() -> Instance {
    let metadata = [
        ("local-ipv4", "10.0.0.1"),
        ("instance-id", "i-0abc"),
        ("availability-zone", "us-east-1c"),
    ];
    Instance {
        instance_id: Some("i-0abc".into()),
        status: Status::Down,
        data_center: Some(DataCenter::Amazon(metadata.into_iter().collect())),
        metadata: tradewind_eureka::Metadata::new(),
        asg_name: Some("orders-v001".into()),
        ..orders()
    }
}

pub(crate) fn pay() -> Instance {
    Instance {
        instance_id: Some("h3:pay:8080".into()),
        app: "PAY".into(),
        metadata: tradewind_eureka::Metadata::new(),
        ..orders()
    }
}

pub(crate) fn table() -> Applications {
    Applications {
        version_delta: "1".into(),
        hash_code: "DOWN_1_UP_2_".into(),
        applications: vec![
            Application {
                name: "ORDERS".into(),
                instances: vec![Arc::new(orders()), Arc::new(amazon())],
            },
            Application { name: "PAY".into(), instances: vec![Arc::new(pay())] },
        ],
    }
}

/// What a writer writes.
pub(crate) fn written(write: impl FnOnce(&mut String)) -> String {
    let mut out = String::new();
    write(&mut out);
    out
}
