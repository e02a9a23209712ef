//! Eureka's documents as native clients see them.

use tradewind_discovery::Instance as Native;
use tradewind_discovery::wire::InstanceRecord;
use tradewind_eureka::Instance;

/// The record of an instance that can be called; `None` for one without a port or with an address
/// that is none. It stays visible to Eureka clients, but no native client could use it.
pub(super) fn callable(doc: &Instance) -> Option<InstanceRecord> {
    let record = unchecked(doc);
    Native::try_from(record.clone()).ok()?;
    Some(record)
}

/// The record of any instance; port 0 when it has none.
pub(super) fn unchecked(doc: &Instance) -> InstanceRecord {
    // As Spring has it: an instance with its secure port enabled is called there.
    let secure = doc.secure_port.enabled && doc.secure_port.number_u16().is_some();
    let port = if secure { doc.secure_port } else { doc.port };
    let port = port.number_u16().filter(|_| port.enabled).unwrap_or(0);
    let name = doc.host_name.trim();
    let host = if name.is_empty() { doc.ip_addr.trim() } else { name };
    let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    InstanceRecord {
        id: doc.effective_id().to_owned(),
        service: doc.app.to_lowercase(),
        host: host.to_owned(),
        port,
        secure,
        status: doc.status.as_str().to_owned(),
        metadata: doc.metadata.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tradewind_eureka::Port;

    fn doc() -> Instance {
        Instance {
            instance_id: Some("h:orders:1".into()),
            host_name: "h1".into(),
            app: "ORDERS".into(),
            port: Port { number: 8080, enabled: true },
            secure_port: Port { number: 8443, enabled: false },
            ..Instance::default()
        }
    }

    #[test]
    fn the_secure_port_counts_when_it_is_enabled() {
        let plain = callable(&doc()).unwrap();
        assert_eq!((plain.service.as_str(), plain.port, plain.secure), ("orders", 8080, false));
        let both = Instance { secure_port: Port { number: 8443, enabled: true }, ..doc() };
        let secure = callable(&both).unwrap();
        assert_eq!((secure.port, secure.secure), (8443, true));
    }

    #[test]
    fn what_cannot_be_called_is_not_shown() {
        let closed = Port { number: 8080, enabled: false };
        assert!(callable(&Instance { port: closed, ..doc() }).is_none());
        assert!(callable(&Instance { host_name: "a/b".into(), ..doc() }).is_none());
        let bracketed = Instance { host_name: "[::1]".into(), ..doc() };
        assert_eq!(callable(&bracketed).unwrap().host, "::1");
    }
}
