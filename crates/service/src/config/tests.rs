//! Precedence, every mistake at once, the dump.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use tradewind_base::ExposeSecret as _;

use super::*;

fn sources(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
    let pairs = |it: &[(&str, &str)]| {
        it.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    Sources {
        file: Some(("tradewind.toml".into(), file.to_owned())),
        environment: pairs(environment),
        flags: pairs(flags),
    }
}

#[derive(Debug)]
struct Read {
    bind: SocketAddr,
    timeout: Duration,
    body: ByteSize,
    urls: Vec<String>,
    weight: NonZeroU16,
    strict: bool,
    data: PathBuf,
    password: Option<SecretString>,
    admin: Option<SocketAddr>,
}

/// A server with a setting of every type.
fn read(reader: &mut Reader) -> Read {
    let mut gateway = reader.section("gateway");
    let read = Read {
        bind: gateway.get("bind", "127.0.0.1:9000".parse().unwrap(), "address to listen on"),
        timeout: gateway.get_within(
            "timeout",
            Duration::from_secs(3),
            &(Duration::from_millis(1)..=Duration::from_secs(60)),
            "longest wait for an answer",
        ),
        body: gateway.get("body_max", ByteSize::mib(1), "largest body"),
        urls: gateway.get("urls", vec!["http://a".to_owned()], "where the registry is"),
        weight: gateway.get("weight", NonZeroU16::MIN, "share of the load"),
        strict: gateway.get("strict", true, "whether doubts are refused"),
        data: gateway.get("data", PathBuf::from("data"), "folder for what is kept"),
        password: gateway.secret("password", "password for the database"),
        admin: gateway.section("admin").optional("bind", "address of the admin surface"),
    };
    if read.admin == Some(read.bind) {
        gateway.invalid("admin.bind", "must differ from gateway.bind");
    }
    read
}

fn errors(sources: Sources) -> String {
    let mut reader = Reader::new(sources);
    let _defaults = read(&mut reader);
    reader.finish().map(|it| panic!("accepted: {it}")).unwrap_err().to_string()
}

#[test]
fn the_later_source_wins() {
    let file = "[gateway]\nbind = \"127.0.0.1:1\"\ntimeout = \"1s\"\nweight = 1_0\nstrict = false";
    let environment = [
        ("TRADEWIND__GATEWAY__TIMEOUT", "2s"),
        ("TRADEWIND__GATEWAY__WEIGHT", "20"),
        ("TRADEWIND__GATEWAY__ADMIN__BIND", "[::1]:9010"),
        ("TRADEWIND_HOME", "/not/ours"),
        ("PATH", "/bin"),
    ];
    let mut reader = Reader::new(sources(file, &environment, &[("gateway.weight", "30")]));
    let it = read(&mut reader);
    reader.finish().unwrap();
    assert_eq!(it.bind.port(), 1, "only the file has it");
    assert_eq!(it.timeout, Duration::from_secs(2), "environment over file");
    assert_eq!(it.weight.get(), 30, "flag over environment");
    assert!(!it.strict);
    assert_eq!(it.body, ByteSize::mib(1), "the default where nobody says anything");
    assert_eq!(it.admin, Some("[::1]:9010".parse().unwrap()));
}

#[test]
fn lists_come_from_lists_and_from_text() {
    let both = [
        (sources("gateway.urls = [\"http://a\", \"http://b\"]", &[], &[]), "file"),
        (sources("", &[("TRADEWIND__GATEWAY__URLS", "http://a, http://b,")], &[]), "environment"),
    ];
    for (sources, from) in both {
        let mut reader = Reader::new(sources);
        assert_eq!(read(&mut reader).urls, ["http://a", "http://b"], "{from}");
        reader.finish().unwrap();
    }
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let file = r#"
[gateway]
bnid = "127.0.0.1:9000"
timeout = "5 minutes"
body_max = "1MB"
urls = [["nested"]]
weight = 0
strict = "yes"
password = ["a"]
data = ""
[gateway.admin]
bind = "somewhere"
[other]
key = 1
"#;
    let environment = [
        ("TRADEWIND__GATEWAY__BIND", "127.0.0.1"),
        ("TRADEWIND__GATEWAY", "x"),
        ("TRADEWIND__GATEWAY__STRIKT", "true"),
    ];
    let expected = "\
14 mistakes in the configuration
  gateway (environment variable TRADEWIND__GATEWAY): is a section, not a value
  gateway.admin.bind (tradewind.toml:12): `somewhere` is not one; expected an IP address and a port like 127.0.0.1:9000
  gateway.bind (environment variable TRADEWIND__GATEWAY__BIND): `127.0.0.1` is not one; expected an IP address and a port like 127.0.0.1:9000
  gateway.bnid (tradewind.toml:3): no such key; did you mean `gateway.bind`?
  gateway.body_max (tradewind.toml:5): `1MB` has an unknown unit; expected a size like 512B, 64KiB, 1MiB or 2GiB
  gateway.data (tradewind.toml:10): `` is not one; expected a path
  gateway.password (tradewind.toml:9): expected a text that is not empty
  gateway.strict (tradewind.toml:8): `yes`: provided string was not `true` or `false`; expected true or false
  gateway.strikt (environment variable TRADEWIND__GATEWAY__STRIKT): no such key; did you mean `gateway.strict`?
  gateway.timeout (tradewind.toml:4): `5 minutes` has an unknown unit; expected a duration with its unit like 250ms, 3s, 2m or 1h from 1ms to 1m
  gateway.urls (tradewind.toml:6): it is a list of lists or tables; expected a list
  gateway.weight (tradewind.toml:7): `0`: number would be zero for non-zero type; expected a number from 1 to 65535
  gateway.wieght (flag gateway.wieght): no such key; did you mean `gateway.weight`?
  other.key (tradewind.toml:14): no such key; `config --dump` lists them all";
    assert_eq!(errors(sources(file, &environment, &[("gateway.wieght", "1")])), expected);
}

#[test]
fn text_that_is_not_toml_is_placed_and_the_rest_still_read() {
    let text = errors(sources("[gateway]\nweight = 0\nbind = = 3\n", &[], &[]));
    assert!(text.contains("tradewind.toml:3): not TOML: "), "{text}");
    assert!(text.contains("gateway.weight (tradewind.toml:2)"), "{text}");
}

#[test]
fn values_outside_their_range_and_against_each_other_are_mistakes() {
    let text = errors(sources("gateway.timeout = \"0s\"", &[], &[]));
    assert!(text.contains("0s is not from 1ms to 1m"), "{text}");
    let text = errors(sources("gateway.admin.bind = \"127.0.0.1:9000\"", &[], &[]));
    assert!(text.contains("(tradewind.toml:1): must differ from gateway.bind"), "{text}");
}

#[test]
fn what_must_be_set_is_asked_for() {
    let mut reader = Reader::new(Sources::default());
    let url: Option<String> = reader.section("order").required("database", "where orders are kept");
    assert_eq!(url, None);
    let text = reader.finish().unwrap_err().to_string();
    assert!(text.contains("order.database: must be set: where orders are kept"), "{text}");
}

#[test]
fn what_another_program_reads_is_left_alone() {
    let file = "[order]\nanything = 1\n[orders]\nmore = 2";
    let mut reader = Reader::new(sources(file, &[], &[]));
    reader.leave_out("order");
    let text = reader.finish().unwrap_err().to_string();
    assert!(text.contains("orders.more") && !text.contains("order.anything"), "{text}");
}

#[test]
fn the_dump_explains_every_key_and_reads_back_the_same() {
    let file = "[gateway]\nbind = \"127.0.0.1:1\"\npassword = \"hush\"";
    let environment = [("TRADEWIND__GATEWAY__TIMEOUT", "1500ms")];
    let mut reader = Reader::new(sources(file, &environment, &[("gateway.strict", "false")]));
    let it = read(&mut reader);
    assert_eq!(it.password.unwrap().expose_secret(), "hush");
    let dump = reader.finish().unwrap().to_string();
    let expected = r#"# Defaults, then this file, then the environment, then flags: the later wins.

[gateway]
# address to listen on
# an IP address and a port like 127.0.0.1:9000; from: tradewind.toml:2
bind = "127.0.0.1:1"
# longest wait for an answer
# a duration with its unit like 250ms, 3s, 2m or 1h from 1ms to 1m; from: environment variable TRADEWIND__GATEWAY__TIMEOUT
timeout = "1500ms"
# largest body
# a size like 512B, 64KiB, 1MiB or 2GiB; from: default
body_max = "1MiB"
# where the registry is
# a list; from: default
urls = ["http://a"]
# share of the load
# a number from 1 to 65535; from: default
weight = 1
# whether doubts are refused
# true or false; from: flag gateway.strict
strict = false
# folder for what is kept
# a path; from: default
data = "data"
# password for the database
# a secret text; from: tradewind.toml:3
password = "***"

[gateway.admin]
# address of the admin surface
# an IP address and a port like 127.0.0.1:9000; from: default
# bind is not set
"#;
    assert_eq!(dump, expected);
    let refused = errors(sources(&dump, &[], &[]));
    assert!(refused.starts_with("1 mistake ") && refused.contains("gateway.password"), "{refused}");
    let mut again = Reader::new(sources(&dump.replace("***", "hush"), &[], &[]));
    let same = read(&mut again);
    again.finish().unwrap();
    assert_eq!((same.bind, same.timeout, same.strict), (it.bind, it.timeout, it.strict));
    assert_eq!((same.body, same.data, same.urls), (it.body, it.data, it.urls));
}

#[test]
fn what_a_setting_shows_it_also_reads() {
    fn check<T: Setting + PartialEq + std::fmt::Debug>(texts: &[(&str, &str)], wrong: &[&str]) {
        for (text, shown) in texts {
            let value = T::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(value.show(), *shown);
            assert_eq!(T::parse(shown).as_ref(), Ok(&value));
        }
        for text in wrong {
            assert!(T::parse(text).is_err(), "{text}");
        }
    }
    check::<Duration>(
        &[("250ms", "250ms"), ("90s", "90s"), ("120s", "2m"), ("0s", "0s"), ("2 h", "2h")],
        &["", "3", "s", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615d", "3 S"],
    );
    check::<ByteSize>(
        &[("64KiB", "64KiB"), ("1024", "1KiB"), ("0B", "0B"), ("3 GiB", "3GiB"), ("7", "7B")],
        &["", "1KB", "-1", "1.5MiB", "99999999999GiB"],
    );
    check::<SocketAddr>(
        &[("localhost:80", "127.0.0.1:80"), ("[::]:1", "[::]:1")],
        &["", ":80", "host:80", "127.0.0.1", "127.0.0.1:99999"],
    );
    check::<bool>(&[("true", "true")], &["yes", "1", "TRUE"]);
    check::<u16>(&[("65535", "65535"), (" 7 ", "7")], &["65536", "-1", "0x10", ""]);
    check::<f64>(&[("0.5", "0.5"), ("1", "1.0")], &["NaN", "inf", "x"]);
    check::<Vec<u16>>(&[("1, 2,3", "1,2,3"), ("", "")], &["1,x"]);
}
