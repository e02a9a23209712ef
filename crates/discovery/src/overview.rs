//! What this process knows, for people and monitors: the page `/discovery` of a service.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::{Discovery, Instance};

/// The local copy of the registry.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// Milliseconds since a registry was last heard; absent if none ever was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_contact_age_ms: Option<u64>,
    /// The registry's revision that everything up to has been applied.
    pub revision: u64,
    /// Whether that registry knows every living instance.
    pub warm: bool,
    /// The followed services.
    pub services: BTreeMap<String, Known>,
}

/// What is known of one service.
#[derive(Clone, Debug, Serialize)]
pub struct Known {
    /// Whether anything is known at all: an unknown list is not an empty one.
    pub known: bool,
    /// Its instances.
    pub instances: Vec<Entry>,
}

/// One instance.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// `host:port`.
    pub address: String,
    /// What it says of itself.
    pub status: &'static str,
    /// For how many more milliseconds this process leaves it out, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_aside_ms: Option<u64>,
}

impl Discovery {
    /// What this process knows now.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let health = self.health();
        let now = self.store().clock().monotonic();
        let services = health.services.keys().map(|name| {
            let view = self.view(name);
            let entry = |it: &Instance| Entry {
                id: it.id.to_string(),
                address: format!("{}:{}", it.host, it.port),
                status: it.status.as_str(),
                set_aside_ms: view.suspected_until(&it.id).map(|until| millis(until.since(now))),
            };
            let instances = view.load().instances.iter().map(|it| entry(it)).collect();
            let known = health.services.get(name).is_some_and(Option::is_some);
            (name.to_string(), Known { known, instances })
        });
        Overview {
            last_contact_age_ms: health.last_contact_age.map(millis),
            revision: health.revision,
            warm: health.warm,
            services: services.collect(),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServiceName;

    #[tokio::test]
    async fn the_page_shows_who_is_known_and_who_is_set_aside() {
        let name = ServiceName::parse("inventory").unwrap();
        let instance = Instance::plain(&name, "127.0.0.1", 9002).unwrap();
        let discovery = Discovery::fixed(vec![instance.clone()]);
        let view = discovery.view(&name);
        assert!(view.known());
        let page = serde_json::to_value(discovery.overview()).unwrap();
        let entry = &page["services"]["inventory"]["instances"][0];
        assert_eq!(entry["address"], "127.0.0.1:9002");
        assert_eq!(entry["status"], "UP");
        assert!(entry["set_aside_ms"].is_null());
        discovery.report(&instance, crate::Suspicion::Refused);
        let page = serde_json::to_value(discovery.overview()).unwrap();
        assert!(page["services"]["inventory"]["instances"][0]["set_aside_ms"].as_u64() > Some(0));
    }
}
