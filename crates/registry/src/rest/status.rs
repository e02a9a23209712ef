//! 15: the node itself, as a stock server tells it.

use http::HeaderMap;
use http::header::ACCEPT;
use tradewind_eureka::Format;
use tradewind_service::axum::extract::State;
use tradewind_service::axum::response::Response;

use super::{App, document, header};

pub(super) async fn status(State(app): State<App>, headers: HeaderMap) -> Response {
    let registry = &app.registry;
    let peers = |wanted: Option<bool>| {
        let peers = registry.peers.iter().filter(|it| wanted.is_none_or(|up| it.is_up() == up));
        peers.map(|it| it.url.to_string()).collect::<Vec<_>>().join(",")
    };
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let up = registry.now().mono.since_zero().as_secs();
    let general = [
        ("environment", "tradewind".to_owned()),
        ("num-of-cpus", cpus.to_string()),
        ("server-uptime", format!("{:02}:{:02}", up / 3600, up / 60 % 60)),
    ];
    let replicas = [
        ("registered-replicas", peers(None)),
        ("available-replicas", peers(Some(true))),
        ("unavailable-replicas", peers(Some(false))),
    ];
    match Format::negotiate(header(&headers, ACCEPT.as_str())) {
        Format::Json => {
            let map = |pairs: &[(&str, String)]| {
                pairs.iter().map(|(name, it)| ((*name).to_owned(), it.clone().into())).collect()
            };
            let general: serde_json::Map<String, serde_json::Value> = map(&general);
            let replicas: serde_json::Map<String, serde_json::Value> = map(&replicas);
            let status = serde_json::json!({
                "generalStats": general, "applicationStats": replicas,
            });
            document(Format::Json, status.to_string())
        }
        Format::Xml => {
            let lines = |pairs: &[(&str, String)]| {
                let line = |(name, it): &(&str, String)| {
                    format!("    <{name}>{}</{name}>\n", crate::page::escaped(it))
                };
                pairs.iter().map(line).collect::<String>()
            };
            let (general, replicas) = (lines(&general), lines(&replicas));
            let text = format!(
                "<status>\n  <generalStats>\n{general}  </generalStats>\n  \
                 <applicationStats>\n{replicas}  </applicationStats>\n</status>"
            );
            document(Format::Xml, text)
        }
    }
}
