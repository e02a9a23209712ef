use super::super::head::Slices;
use super::*;
use proptest::prelude::*;

fn head<'a>(headers: &'a [(&'a str, &'a [u8])]) -> Slices<'a> {
    Slices { method: "GET", path: "/", query: None, headers }
}

fn rules(headers: &[(&str, &[u8])]) -> Result<RequestRules, HeaderRefusal> {
    RequestRules::new(&head(headers), false)
}

#[test]
fn fields_of_a_connection_of_the_estate_and_of_proxies_are_dropped() {
    let rules = rules(&[("Connection", b"close, X-Mine"), ("connection", b"Other")]).unwrap();
    let dropped = [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "proxy-authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "X-Mine",
        "other",
        "X-Tradewind-User",
        "x-tradewind-anything",
        "X-Forwarded-For",
        "x-forwarded-anything",
        "Forwarded",
        "X-Real-IP",
        "Client-IP",
        "X-Forwarded",
        "Fastly-Client-IP",
        "X-Envoy-External-Address",
        "X_Tradewind_User",
        "some_name",
        "Host",
        "Expect",
        "X-Request-Id",
        "Traceparent",
        "Tracestate",
        "Authorization",
        "X-Original-URL",
        "X-HTTP-Method-Override",
    ];
    for name in dropped {
        assert!(!rules.keeps(name), "{name}");
    }
    for name in [
        "Accept",
        "Cookie",
        "Content-Type",
        "Content-Length",
        "Idempotency-Key",
        "Via",
        "Sec-WebSocket-Key",
        "x-trade",
        "Last-Event-ID",
    ] {
        assert!(rules.keeps(name), "{name}");
    }
}

#[test]
fn naming_a_field_that_must_arrive_is_refused() {
    for name in [
        "Host",
        "authorization",
        "X-Tradewind-User",
        "X-Forwarded-For",
        "Forwarded",
        "X-Request-Id",
        "Content-Length",
        "Cookie",
        "Via",
        "x-real-ip",
        "traceparent",
    ] {
        let value = format!("keep-alive, {name}");
        let refusal = rules(&[("Connection", value.as_bytes())]).unwrap_err();
        assert_eq!(refusal, HeaderRefusal::Nomination, "{name}");
    }
}

#[test]
fn the_token_passes_only_where_the_route_says_so() {
    let head = head(&[]);
    assert!(RequestRules::new(&head, true).unwrap().keeps("authorization"));
    assert!(!RequestRules::new(&head, false).unwrap().keeps("authorization"));
}

#[test]
fn trace_state_passes_only_with_a_trace() {
    let parent: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert!(rules(&[("traceparent", parent)]).unwrap().keeps("tracestate"));
    assert!(!rules(&[("traceparent", b"nonsense")]).unwrap().keeps("tracestate"));
}

#[test]
fn a_circle_is_noticed() {
    let via: &[u8] = b"1.1 tradewind, 1.1 tradewind, 1.0 other";
    assert!(rules(&[("Via", via)]).is_ok());
    assert_eq!(rules(&[("Via", via), ("via", via)]).unwrap_err(), HeaderRefusal::Loop);
}

#[test]
fn answers_lose_the_fields_of_their_connection_only() {
    let rules = ResponseRules::new([&b"close, X-Mine, Content-Length"[..]].into_iter());
    for name in [
        "Connection",
        "keep-alive",
        "x-mine",
        "Upgrade",
        "x-tradewind-user",
        "Proxy-Authenticate",
        "transfer-encoding",
        "x-request-id",
    ] {
        assert!(!rules.keeps(name), "{name}");
    }
    for name in ["Content-Length", "Set-Cookie", "WWW-Authenticate", "ETag", "some_name"] {
        assert!(rules.keeps(name), "{name}");
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn blocks_hold_their_addresses() {
    for (block, inside, outside) in [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ("0.0.0.0/0", "1.2.3.4", "::1"),
        ("fd00::/8", "fd12::1", "fe80::1"),
        ("::/0", "2001::1", "1.2.3.4"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
    ] {
        let block = Cidr::parse(block).unwrap();
        assert!(block.contains(ip(inside)) && !block.contains(ip(outside)), "{block}");
    }
    for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "a/8", "10.0.0.0/"] {
        assert!(Cidr::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn a_stranger_cannot_say_where_it_comes_from() {
    let headers: &[(&str, &[u8])] = &[
        ("Host", b"shop"),
        ("X-Forwarded-For", b"1.1.1.1"),
        ("X-Forwarded-Proto", b"https"),
        ("X-Forwarded-Host", b"evil"),
    ];
    let origin = Origin::of(&head(headers), ip("9.9.9.9"), false, &[]);
    let want = Origin {
        client: ip("9.9.9.9"),
        chain: "9.9.9.9".into(),
        proto: "http",
        host: "shop".into(),
    };
    assert_eq!(origin, want);
    assert_eq!(origin.forwarded(), "for=9.9.9.9;host=\"shop\";proto=http");
}

#[test]
fn a_trusted_proxy_continues_its_chain_up_to_the_first_stranger() {
    let trusted = [Cidr::parse("10.0.0.0/8").unwrap()];
    let headers: &[(&str, &[u8])] = &[
        ("Host", b"inner"),
        ("X-Forwarded-For", b"6.6.6.6, 7.7.7.7"),
        ("X-Forwarded-For", b"10.0.0.2"),
        ("X-Forwarded-Proto", b"https"),
        ("X-Forwarded-Host", b"shop"),
    ];
    let origin = Origin::of(&head(headers), ip("10.0.0.1"), false, &trusted);
    assert_eq!(origin.client, ip("7.7.7.7"), "6.6.6.6 was written by 7.7.7.7");
    assert_eq!(origin.chain, "7.7.7.7, 10.0.0.2, 10.0.0.1");
    assert_eq!((origin.proto, &*origin.host), ("https", "shop"));
}

proptest! {
    /// GATE-4
    #[test]
    fn no_internal_or_forwarding_field_ever_passes(
        suffix in "[a-zA-Z-]{0,12}",
        upper in any::<bool>(),
        connection in "[a-zA-Z, -]{0,20}",
    ) {
        if let Ok(rules) = rules(&[("Connection", connection.as_bytes())]) {
            for prefix in ["x-tradewind-", "x-forwarded-"] {
                let name = format!("{prefix}{suffix}");
                let name = if upper { name.to_uppercase() } else { name };
                prop_assert!(!rules.keeps(&name));
            }
        }
    }
}
