//! `GET /`: the instances, for a person with a browser.

use std::fmt::Write as _;

use http::header::{CONTENT_TYPE, HeaderValue};
use tradewind_service::axum::extract::State;
use tradewind_service::axum::response::{IntoResponse as _, Response};

use crate::rest::App;

/// The most rows; the rest is counted.
const ROWS_MAX: usize = 1000;

/// Text within HTML or XML.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

pub(crate) async fn page(State(app): State<App>) -> Response {
    let registry = &app.registry;
    let (all, protections) = registry.read(|table, now| (table.snapshot(), table.protections(now)));
    let count: usize = all.apps.iter().map(|(_, it)| it.len()).sum();
    let mut rows = String::new();
    for instance in all.apps.iter().flat_map(|(_, it)| it).take(ROWS_MAX) {
        // Writing to a string does not fail.
        let _done = writeln!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{}:{}</td><td>{}</td></tr>",
            escaped(&instance.app),
            escaped(instance.effective_id()),
            escaped(&instance.host_name),
            instance.port.number,
            instance.status,
        );
    }
    let held: String =
        protections.iter().map(|it| format!("<p>{}</p>\n", escaped(&it.text))).collect();
    let shown = count.min(ROWS_MAX);
    let body = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>Tradewind registry</title></head>\n<body><h1>Tradewind registry</h1>\n\
         <p>Node {}, revision {}, {count} instances, {shown} of them shown.</p>\n{held}\
         <table>\n<tr><th>Application</th><th>Instance</th><th>Address</th><th>Status</th></tr>\n\
         {rows}</table></body></html>\n",
        escaped(&registry.node),
        all.revision,
    );
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (
            http::header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
        ),
    ];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_stays_text() {
        assert_eq!(escaped("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
