use super::*;
use proptest::prelude::*;

fn rows(patterns: &[(&str, &str)]) -> Vec<RouteRow> {
    patterns.iter().map(|(id, path)| RouteRow::service(id, path, "order")).collect()
}

fn found(table: &Table, path: &str) -> Option<String> {
    table.find(path).map(|(_, it)| it.id.to_string())
}

/// R3.1a: the row of the source document, word for word, and what the service then sees.
#[test]
fn the_row_of_the_document_strips_its_prefix() {
    let mut row = RouteRow::service("order-service", "/order/**", "order-service");
    row.retryable = Some(false);
    row.strip_prefix = Some(true);
    let route = check(&row).unwrap();
    assert_eq!(route.upstream, Upstream::Service("order-service".into()));
    assert!(!route.retryable);
    for (path, want) in [("/order/orders/7", "/orders/7"), ("/order", "/"), ("/order/", "/")] {
        assert_eq!(route.target(path), want);
    }
    row.strip_prefix = Some(false);
    assert_eq!(check(&row).unwrap().target("/order/orders/7"), "/order/orders/7");
}

/// R3.1a
#[test]
fn null_columns_mean_what_zuul_means() {
    let route = check(&RouteRow::service("a", "/order/**", "order")).unwrap();
    assert_eq!(route.target("/order/x"), "/x", "strip_prefix NULL is Zuul's default, yes");
    assert!(!route.retryable, "retryable NULL is no");
    assert_eq!(route.auth, AuthPolicy::Optional);
    assert_eq!(
        check(&RouteRow::service("a", "/order", "order")).unwrap().target("/order"),
        "/order",
        "without a wildcard there is no prefix to strip"
    );
}

#[test]
fn a_prefix_is_taken_off_once_and_only_at_the_start() {
    let route = check(&RouteRow::service("a", "/order/**", "order")).unwrap();
    assert_eq!(route.target("/order/order/order"), "/order/order");
    let route = check(&RouteRow::service("a", "/*/order/**", "order")).unwrap();
    assert_eq!(route.target("/x/order/y"), "/x/order/y");
}

#[test]
fn a_url_with_spaces_or_control_characters_is_refused() {
    for url in ["http://h/\r\nX: y", "http://h\t:80", "http://h/a b"] {
        let mut row = RouteRow::service("a", "/order/**", "order");
        row.url = Some(url.to_owned());
        assert_eq!(check(&row).unwrap_err().field, "url", "{url:?}");
    }
}

#[test]
fn a_url_wins_over_the_service_and_brings_its_base_path() {
    let mut row = RouteRow::service("a", "/order/**", "order");
    row.url = Some("http://10.0.0.1:8080/base/".to_owned());
    let route = check(&row).unwrap();
    assert_eq!(route.target("/order/x"), "/base/x");
    assert_eq!(route.target("/order"), "/base");
    let Upstream::Url(url) = &route.upstream else { panic!("the url wins") };
    assert_eq!((&*url.host, url.port, url.secure), ("10.0.0.1", 8080, false));
    row.url = Some(String::new());
    assert!(matches!(check(&row).unwrap().upstream, Upstream::Service(_)), "empty counts as NULL");
}

#[test]
fn each_bad_column_is_named() {
    let good = RouteRow::service("a", "/a/**", "order");
    let long = "x".repeat(256);
    let table: Vec<(RouteRow, &str)> = vec![
        (RouteRow { id: String::new(), ..good.clone() }, "id"),
        (RouteRow { id: "x".repeat(51), ..good.clone() }, "id"),
        (RouteRow { id: "a/b".into(), ..good.clone() }, "id"),
        (RouteRow { path: "a".into(), ..good.clone() }, "path"),
        (RouteRow { path: format!("/{long}"), ..good.clone() }, "path"),
        (RouteRow { service_id: None, ..good.clone() }, "service_id"),
        (RouteRow { service_id: Some("a b".into()), ..good.clone() }, "service_id"),
        (RouteRow { service_id: Some("x".repeat(51)), ..good.clone() }, "service_id"),
        (RouteRow { url: Some("ftp://h/".into()), ..good.clone() }, "url"),
        (RouteRow { url: Some("h:80".into()), ..good.clone() }, "url"),
        (RouteRow { url: Some("forward:/local".into()), ..good.clone() }, "url"),
        (RouteRow { url: Some("http://u:p@h/".into()), ..good.clone() }, "url"),
        (RouteRow { url: Some("http://h/?q=1".into()), ..good.clone() }, "url"),
        (RouteRow { url: Some("http://h/a//b".into()), ..good.clone() }, "url"),
        (RouteRow { url: Some(format!("http://h/{long}")), ..good.clone() }, "url"),
        (RouteRow { api_name: Some(long.clone()), ..good.clone() }, "api_name"),
        (RouteRow { auth: Some("sometimes".into()), ..good.clone() }, "auth"),
    ];
    for (row, field) in table {
        assert_eq!(check(&row).unwrap_err().field, field, "{row:?}");
    }
}

#[test]
fn a_bad_row_is_reported_and_the_others_serve() {
    let mut all = rows(&[("good", "/order/**"), ("bad", "nonsense"), ("twice", "/order/**")]);
    all.push(RouteRow { enabled: false, ..RouteRow::service("off", "/off/**", "order") });
    all.push(RouteRow { enabled: false, ..RouteRow::service("off-bad", "x", "order") });
    let compiled = compile(&all);
    assert_eq!(found(&compiled.table, "/order/1").as_deref(), Some("good"));
    assert_eq!(found(&compiled.table, "/off/1"), None);
    let rejected: Vec<_> = compiled.rejected.iter().map(|it| (&*it.id, it.field)).collect();
    assert_eq!(rejected, [("bad", "path"), ("twice", "path")]);
}

#[test]
fn the_most_specific_pattern_serves() {
    let all = rows(&[
        ("all", "/**"),
        ("order", "/order/**"),
        ("one", "/order/*"),
        ("exact", "/order/quotes"),
        ("wild", "/*/quotes"),
    ]);
    let table = compile(&all).table;
    for (path, want) in [
        ("/order/quotes", "exact"),
        ("/order/other", "one"),
        ("/order/a/b", "order"),
        ("/points/quotes", "wild"),
        ("/points/x", "all"),
        ("/", "all"),
    ] {
        assert_eq!(found(&table, path).as_deref(), Some(want), "{path}");
    }
    assert_eq!(found(&Table::default(), "/order"), None);
}

proptest! {
    /// GATE-3
    #[test]
    fn the_order_of_the_rows_does_not_matter(
        patterns in proptest::collection::vec("(/[ab*?]{1,2}|/\\*\\*){1,3}", 1..8),
        path in "(/[ab]{0,2}){1,3}",
        seed in any::<u64>(),
    ) {
        let mut all: Vec<RouteRow> = patterns
            .iter()
            .enumerate()
            .map(|(at, it)| RouteRow::service(&format!("r{at}"), it, "order"))
            .collect();
        let first = compile(&all);
        let mut rng = tradewind_base::Rng::seeded(seed);
        for at in (1..all.len()).rev() {
            all.swap(at, rng.below(at + 1));
        }
        let second = compile(&all);
        prop_assert_eq!(found(&first.table, &path), found(&second.table, &path));
        prop_assert_eq!(&first.rejected, &second.rejected);
        // The answer is the best of all that match.
        if let Some((_, best)) = first.table.find(&path) {
            for other in first.table.routes().iter().filter(|it| it.pattern.matches(&path)) {
                prop_assert!(best.pattern.specificity(&other.pattern).is_le());
            }
        }
    }
}
