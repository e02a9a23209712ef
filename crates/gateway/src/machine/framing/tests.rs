use super::*;
use proptest::prelude::*;

/// Feeds bytes in pieces of one size, as an IO driver does. Returns the heads and what was passed.
fn feed(bytes: &[u8], piece: usize) -> (Vec<Facts>, Vec<u8>, Option<Refusal>) {
    let mut tracker = Tracker::new(Limits::default());
    let (mut heads, mut passed, mut inbox) = (Vec::new(), Vec::new(), Vec::new());
    for part in bytes.chunks(piece) {
        inbox.extend_from_slice(part);
        loop {
            match tracker.step(&inbox) {
                Step::Wait | Step::Hold => break,
                Step::Head { skip, bytes, facts } => {
                    heads.push(facts);
                    passed.extend_from_slice(&inbox[skip..skip + bytes]);
                    inbox.drain(..skip + bytes);
                }
                Step::Pass(bytes) => {
                    passed.extend_from_slice(&inbox[..bytes]);
                    inbox.drain(..bytes);
                }
                Step::Refuse(refusal) | Step::Break(refusal) => {
                    return (heads, passed, Some(refusal));
                }
            }
        }
    }
    (heads, passed, None)
}

fn refused(text: &str) -> Option<Refusal> {
    feed(text.as_bytes(), usize::MAX).2
}

fn with(field: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n")
}

#[test]
fn requests_are_told_apart_however_the_bytes_come() {
    let text = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n\
        POST /b HTTP/1.1\r\nhost: h:80\r\nContent-Length: 5\r\n\r\nhello\
        POST /c HTTP/1.1\r\nhost: [::1]:80\r\nTransfer-Encoding: Chunked\r\n\r\n\
        5;ext=1\r\nhello\r\nA\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n\
        \r\nGET /d HTTP/1.0\r\n\r\n";
    for piece in [1, 2, 3, 7, 64, 4096] {
        let (heads, passed, refusal) = feed(text.as_bytes(), piece);
        assert_eq!(refusal, None, "piece {piece}");
        let want: Vec<u64> = [("GET", "/a"), ("POST", "/b"), ("POST", "/c"), ("GET", "/d")]
            .map(|(method, target)| fingerprint(method, target))
            .to_vec();
        assert_eq!(heads.iter().map(|it| it.fingerprint).collect::<Vec<_>>(), want);
        assert_eq!(heads[1].content_length, Some(5));
        assert!(heads[2].chunked);
        // Nothing is changed but the forgiven empty line.
        assert_eq!(passed, text.replace("\r\n\r\n\r\nGET", "\r\n\r\nGET").as_bytes());
    }
}

#[test]
fn ambiguous_lengths_are_refused() {
    use Refusal as R;
    let table = [
        ("Content-Length: 5\r\nContent-Length: 5", R::ContentLength),
        ("Content-Length: 5\r\nContent-Length: 6", R::ContentLength),
        ("Content-Length: 5, 5", R::ContentLength),
        ("Content-Length: +5", R::ContentLength),
        ("Content-Length: -1", R::ContentLength),
        ("Content-Length: 0x5", R::ContentLength),
        ("Content-Length: 5 5", R::ContentLength),
        ("Content-Length:", R::ContentLength),
        ("Content-Length: 99999999999999999999", R::ContentLength),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", R::BothLengths),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", R::BothLengths),
        ("Transfer-Encoding: gzip", R::TransferEncoding),
        ("Transfer-Encoding: gzip, chunked", R::TransferEncoding),
        ("Transfer-Encoding: chunked, chunked", R::TransferEncoding),
        ("Transfer-Encoding: chunked, identity", R::TransferEncoding),
        ("Transfer-Encoding: identity", R::TransferEncoding),
        ("Transfer-Encoding: xchunked", R::TransferEncoding),
        ("Transfer-Encoding: \"chunked\"", R::TransferEncoding),
        ("Transfer-Encoding:", R::TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", R::TransferEncoding),
        ("Transfer-Encoding: chunked\r\ntransfer-encoding: identity", R::TransferEncoding),
        ("Transfer-Encoding : chunked", R::HeaderField),
        ("Transfer-Encoding\t: chunked", R::HeaderField),
        (" Transfer-Encoding: chunked", R::Folded),
        ("X: a\r\n b", R::Folded),
        ("X: a\r\n\tTransfer-Encoding: chunked", R::Folded),
        ("Transfer-Encoding: \x0bchunked", R::HeaderField),
        ("X: a\0b", R::HeaderField),
        ("X: a\nTransfer-Encoding: chunked", R::LineEnd),
        ("X: a\rTransfer-Encoding: chunked", R::LineEnd),
        (": empty", R::HeaderField),
        ("no colon", R::HeaderField),
        ("X Y: space", R::HeaderField),
        ("Host: other", R::Host),
        ("Expect: 200-ok", R::Expectation),
        ("Expect: 100-continue, x", R::Expectation),
    ];
    for (field, want) in table {
        assert_eq!(refused(&with(field)), Some(want), "{field:?}");
    }
    let old = "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(old), Some(R::OldTransferEncoding));
}

#[test]
fn odd_request_lines_and_hosts_are_refused() {
    use Refusal as R;
    let table = [
        ("GET / HTTP/1.1\r\n\r\n", R::Host),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", R::Host),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", R::Host),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", R::Host),
        ("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", R::Host),
        ("GET / HTTP/1.1\r\nHost: h/p\r\n\r\n", R::Host),
        ("GET / HTTP/1.1\r\nHost: h:99999\r\n\r\n", R::Host),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", R::Host),
        ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", R::RequestLine),
        ("GET /\tHTTP/1.1\r\nHost: h\r\n\r\n", R::RequestLine),
        ("GET / HTTP/1.1 \r\nHost: h\r\n\r\n", R::RequestLine),
        ("GET /\r\nHost: h\r\n\r\n", R::RequestLine),
        ("GET / FTP/1.1\r\nHost: h\r\n\r\n", R::RequestLine),
        ("G@T / HTTP/1.1\r\nHost: h\r\n\r\n", R::RequestLine),
        (" GET / HTTP/1.1\r\nHost: h\r\n\r\n", R::RequestLine),
        ("\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", R::RequestLine),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", R::RequestLine),
        ("\x16\x03\x01", R::RequestLine),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", R::Version),
        ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", R::Version),
        ("GET / HTTP/0.9\r\nHost: h\r\n\r\n", R::Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", R::Version),
        ("GET / http/1.1\r\nHost: h\r\n\r\n", R::RequestLine),
        ("CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", R::Method),
        ("TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", R::Method),
        ("GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", R::Target),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", R::Target),
        ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", R::Target),
        ("GET /é HTTP/1.1\r\nHost: h\r\n\r\n", R::Target),
        ("GET / HTTP/1.1\nHost: h\n\n", R::LineEnd),
    ];
    for (text, want) in table {
        assert_eq!(refused(text), Some(want), "{text:?}");
        assert!(feed(text.as_bytes(), 1).2.is_some(), "byte by byte: {text:?}");
    }
}

#[test]
fn odd_chunks_and_trailers_are_refused() {
    use Refusal as R;
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(129));
    let long_trailer = format!("0\r\nx: {}\r\n\r\n", "x".repeat(5000));
    let table = [
        ("\r\n", R::Chunk),
        ("x\r\n", R::Chunk),
        ("-1\r\n", R::Chunk),
        ("0x5\r\nhello\r\n", R::Chunk),
        (" 5\r\nhello\r\n", R::Chunk),
        ("5 \r\nhello\r\n", R::Chunk),
        ("5\nhello\r\n", R::Chunk),
        ("5\r\nhello\n", R::Chunk),
        ("5\r\nhelloX\r\n", R::Chunk),
        ("5\r\nhello0\r\n\r\n", R::Chunk),
        ("1000000000000000\r\n", R::Chunk),
        ("FFFFFFFFFFFFFFFFF\r\n", R::Chunk),
        ("5;a\nb\r\nhello\r\n", R::Chunk),
        (&*long_extension, R::Chunk),
        ("0\r\nTransfer-Encoding: chunked\r\n\r\n", R::Trailer),
        ("0\r\nContent-Length: 5\r\n\r\n", R::Trailer),
        ("0\r\nAuthorization: x\r\n\r\n", R::Trailer),
        ("0\r\nX-Tradewind-User: x\r\n\r\n", R::Trailer),
        ("0\r\nno colon\r\n\r\n", R::Trailer),
        ("0\r\nx: a\nhost: b\r\n\r\n", R::Trailer),
        (&*long_trailer, R::Trailer),
    ];
    for (body, want) in table {
        let text = format!("{}{body}", with("Transfer-Encoding: chunked"));
        assert_eq!(refused(&text), Some(want), "{body:?}");
        assert!(feed(text.as_bytes(), 1).2.is_some(), "byte by byte: {body:?}");
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_ends() {
    let limits = Limits { head_bytes: 200, target_bytes: 50, headers: 3, trailer_bytes: 10 };
    let step = |text: String| Tracker::new(limits).step(text.as_bytes());
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(200));
    assert_eq!(step(endless), Step::Refuse(Refusal::HeadTooLarge));
    let target = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(50));
    assert_eq!(step(target), Step::Refuse(Refusal::TargetTooLong));
    let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(3));
    assert_eq!(step(many), Step::Refuse(Refusal::TooManyHeaders));
}

#[test]
fn nothing_after_a_handshake_is_read_before_its_answer() {
    let text = "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let smuggled = b"GET /admin HTTP/1.1\r\nHost: h\r\n\r\n";
    for switched in [true, false] {
        let mut tracker = Tracker::new(Limits::default());
        let Step::Head { facts, .. } = tracker.step(text.as_bytes()) else { panic!("a head") };
        assert!(facts.upgrade);
        assert_eq!(tracker.step(smuggled), Step::Hold);
        tracker.answered(switched);
        match tracker.step(smuggled) {
            Step::Pass(bytes) => assert!(switched && bytes == smuggled.len()),
            Step::Head { facts, .. } => {
                assert!(!switched && facts.fingerprint == fingerprint("GET", "/admin"));
            }
            other => panic!("{other:?}"),
        }
    }
    let body = text.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(refused(&body), Some(Refusal::UpgradeWithBody));
    let h2c = text.replace("websocket", "h2c");
    assert!(!feed(h2c.as_bytes(), usize::MAX).0[0].upgrade, "any other upgrade is plain HTTP");
}

#[test]
fn after_a_refusal_nothing_passes_any_more() {
    let mut tracker = Tracker::new(Limits::default());
    assert!(matches!(tracker.step(b"nonsense\r\n\r\n"), Step::Refuse(_)));
    assert!(matches!(tracker.step(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"), Step::Refuse(_)));
    tracker.end();
    assert_eq!(tracker.step(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"), Step::Hold);
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let body = proptest::collection::vec(any::<u8>(), 0..40);
    (any::<bool>(), body, "[a-z]{1,8}").prop_map(|(chunked, body, path)| {
        let mut out = format!("POST /{path} HTTP/1.1\r\nHost: h\r\n").into_bytes();
        if chunked {
            out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for part in body.chunks(7) {
                out.extend(format!("{:x}\r\n", part.len()).into_bytes());
                out.extend_from_slice(part);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\n\r\n");
        } else {
            out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
            out.extend(body);
        }
        out
    })
}

proptest! {
    /// GATE-1
    #[test]
    fn good_requests_pass_unchanged_and_are_counted(
        requests in proptest::collection::vec(request(), 1..6),
        piece in 1_usize..60,
    ) {
        let bytes = requests.concat();
        let (heads, passed, refusal) = feed(&bytes, piece);
        prop_assert_eq!(refusal, None);
        prop_assert_eq!(heads.len(), requests.len());
        prop_assert_eq!(passed, bytes);
    }

    /// The verdict must not depend on how the network cuts the bytes.
    #[test]
    fn pieces_do_not_change_the_verdict(
        mut bytes in request(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        piece in 1_usize..20,
    ) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let (whole, cut) = (feed(&bytes, usize::MAX), feed(&bytes, piece));
        prop_assert_eq!(whole.0.len(), cut.0.len());
        prop_assert_eq!(whole.2.is_some(), cut.2.is_some());
        prop_assert_eq!(whole.1, cut.1);
    }
}
