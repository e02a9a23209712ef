//! Reading one whole request head, strictly (RFC 9112 §3, §5, §6).

use super::super::head::list;
use super::{Facts, Limits, Refusal, fingerprint};

/// `tchar` of RFC 9110 §5.6.2.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&'
        | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|it| is_token_byte(*it))
}

#[derive(Default)]
struct Seen<'a> {
    headers: usize,
    hosts: usize,
    content_length: Option<u64>,
    transfer_encoding: Option<&'a [u8]>,
    websocket: bool,
    connection_upgrade: bool,
}

/// Reads a head that ends with its empty line.
pub(super) fn head(bytes: &[u8], limits: &Limits) -> Result<Facts, Refusal> {
    let mut lines = lines(bytes);
    let line = lines.next().ok_or(Refusal::RequestLine)?;
    let (method, target, old) = request_line(line, limits)?;
    let mut seen = Seen::default();
    for line in lines.take_while(|it| !it.is_empty()) {
        seen.headers += 1;
        if limits.headers < seen.headers {
            return Err(Refusal::TooManyHeaders);
        }
        let (name, value) = field(line)?;
        note(&mut seen, name, value)?;
    }
    if seen.hosts == 0 && !old {
        return Err(Refusal::Host);
    }
    let chunked = match (seen.transfer_encoding, seen.content_length) {
        (None, _) => false,
        (Some(_), _) if old => return Err(Refusal::OldTransferEncoding),
        (Some(_), Some(_)) => return Err(Refusal::BothLengths),
        (Some(it), None) if it.eq_ignore_ascii_case(b"chunked") => true,
        (Some(_), None) => return Err(Refusal::TransferEncoding),
    };
    let mut facts = Facts {
        fingerprint: fingerprint(method, target),
        headers: seen.headers,
        head_bytes: bytes.len(),
        content_length: seen.content_length,
        chunked,
        upgrade: false,
    };
    facts.upgrade = seen.websocket && seen.connection_upgrade && !old && method == "GET";
    if facts.upgrade && (facts.chunked || facts.content_length.is_some()) {
        return Err(Refusal::UpgradeWithBody);
    }
    Ok(facts)
}

/// The lines of a head whose line ends were checked before.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|it| *it == b'\n').map(|it| it.strip_suffix(b"\r").unwrap_or(it))
}

fn request_line<'a>(line: &'a [u8], limits: &Limits) -> Result<(&'a str, &'a str, bool), Refusal> {
    let line = std::str::from_utf8(line).map_err(|_| Refusal::RequestLine)?;
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::RequestLine);
    };
    if !is_token(method.as_bytes()) {
        return Err(Refusal::RequestLine);
    }
    let old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        it if it.starts_with("HTTP/") => return Err(Refusal::Version),
        _ => return Err(Refusal::RequestLine),
    };
    if matches!(method, "CONNECT" | "TRACE") {
        return Err(Refusal::Method);
    }
    if limits.target_bytes < target.len() {
        return Err(Refusal::TargetTooLong);
    }
    let fine = |it: u8| it.is_ascii_graphic() && !matches!(it, b'#' | b'<' | b'>' | b'`');
    if !target.starts_with('/') || !target.bytes().all(fine) {
        return Err(Refusal::Target);
    }
    Ok((method, target, old))
}

/// One `name: value` line, trimmed.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if line.first().is_some_and(|it| matches!(it, b' ' | b'\t')) {
        return Err(Refusal::Folded);
    }
    let colon = line.iter().position(|it| *it == b':').ok_or(Refusal::HeaderField)?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    let clean = |it: &u8| matches!(*it, b'\t' | 0x20..=0x7e | 0x80..);
    if !is_token(name) || !value.iter().all(clean) {
        return Err(Refusal::HeaderField);
    }
    Ok((name, value.trim_ascii()))
}

fn note<'a>(seen: &mut Seen<'a>, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
    let is = |it: &str| name.eq_ignore_ascii_case(it.as_bytes());
    if is("host") {
        seen.hosts += 1;
        if 1 < seen.hosts || !is_host(value) {
            return Err(Refusal::Host);
        }
    } else if is("content-length") {
        let length = length(value).ok_or(Refusal::ContentLength)?;
        if seen.content_length.replace(length).is_some() {
            return Err(Refusal::ContentLength);
        }
    } else if is("transfer-encoding") {
        if seen.transfer_encoding.replace(value).is_some() {
            return Err(Refusal::TransferEncoding);
        }
    } else if is("expect") {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::Expectation);
        }
    } else if is("upgrade") {
        seen.websocket |= list(value).any(|it| it.eq_ignore_ascii_case(b"websocket"));
    } else if is("connection") {
        seen.connection_upgrade |= list(value).any(|it| it.eq_ignore_ascii_case(b"upgrade"));
    }
    Ok(())
}

fn length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if !digits || 19 < value.len() {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// `uri-host [ ":" port ]`, without user information, lists or paths.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let (host, port) = match text.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((inner, rest)) => {
            if inner.parse::<core::net::Ipv6Addr>().is_err() {
                return false;
            }
            match rest.strip_prefix(':') {
                Some(port) => ("v6", Some(port)),
                None if rest.is_empty() => ("v6", None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let name = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-' | b'_');
    !host.is_empty()
        && host.len() <= 255
        && host.bytes().all(name)
        && port.is_none_or(|it| !it.is_empty() && it.len() <= 5 && it.parse::<u16>().is_ok())
}
