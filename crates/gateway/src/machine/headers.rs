//! Which header fields pass, which are dropped and which the gateway writes itself.
//!
//! Towards a service ([`RequestRules`]):
//!
//! | field | what happens |
//! |---|---|
//! | `Connection` and what it names, `Keep-Alive`, `Proxy-*`, `TE`, `Trailer`, `Transfer-Encoding`, `Upgrade` | dropped: they belong to one connection; a WebSocket handshake writes its own |
//! | `x-tradewind-*` | dropped: only servers of the estate may say these |
//! | `Forwarded`, `X-Forwarded-*`, `X-Real-IP` and kin | dropped and written fresh; a trusted proxy's chain is continued |
//! | names with an underscore | dropped: many frameworks read `x_tradewind_user` as `x-tradewind-user` |
//! | `Host` | the upstream's authority; the client's is in `X-Forwarded-Host` |
//! | `Expect` | dropped: the gateway answers it itself once the upstream is connected |
//! | `Authorization` | dropped unless the route is `passthrough` |
//! | `Via`, `x-request-id`, `traceparent` | written |
//! | everything else | passes |
//!
//! A `Connection` field that names a field the gateway or a service relies on is an attack (the
//! next hop would drop what the gateway wrote): the request is refused.

use core::net::IpAddr;

use super::head::{Head, list};

/// Fields of one connection, in both directions (RFC 9110 §7.6.1).
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields that say where a request came from; believed from trusted proxies only.
const FORWARDING: [&str; 11] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-original-forwarded-for",
    "x-forwarded",
    "client-ip",
    "fastly-client-ip",
    "x-envoy-external-address",
];
const FORWARDING_PREFIX: &str = "x-forwarded-";

/// Path overrides some frameworks obey: a client could reach another path than was routed.
const OVERRIDES: [&str; 5] = [
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// Fields a client must not have removed on the way.
const PROTECTED: [&str; 10] = [
    "host",
    "authorization",
    "cookie",
    "content-length",
    "content-type",
    "via",
    "x-request-id",
    "traceparent",
    "tracestate",
    "date",
];

/// The name the gateway goes by in `Via`.
pub const VIA: &str = "1.1 tradewind";
/// How often our own name may stand in `Via`: gateways in a row are fine, circles are not.
pub const VIA_MAX: usize = 3;

/// Why a head was refused for its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderRefusal {
    /// `Connection` names a field that must arrive.
    #[error("Connection must not name a field that the request needs")]
    Nomination,
    /// The request has passed this gateway too often.
    #[error("the request runs in a circle")]
    Loop,
}

fn starts_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix))
}

fn is_any(name: &str, of: &[&str]) -> bool {
    of.iter().any(|it| name.eq_ignore_ascii_case(it))
}

fn is_internal(name: &str) -> bool {
    starts_with(name, tradewind_base::identity::INTERNAL_PREFIX)
}

fn is_forwarding(name: &str) -> bool {
    starts_with(name, FORWARDING_PREFIX) || is_any(name, &FORWARDING)
}

/// Which fields of one request pass.
#[derive(Clone, Debug)]
pub struct RequestRules {
    nominated: Vec<Box<str>>,
    keep_authorization: bool,
    keep_trace_state: bool,
}

impl RequestRules {
    /// Reads what the head's `Connection` fields name and checks them.
    ///
    /// # Errors
    /// When the head must not be forwarded at all.
    pub fn new(head: &impl Head, keep_authorization: bool) -> Result<Self, HeaderRefusal> {
        let mut nominated = Vec::new();
        for name in head.values("connection").flat_map(list) {
            let name = String::from_utf8_lossy(name);
            if is_any(&name, &PROTECTED) || is_internal(&name) || is_forwarding(&name) {
                return Err(HeaderRefusal::Nomination);
            }
            nominated.push(name.into());
        }
        let ours = |it: &&[u8]| it.windows(VIA.len()).any(|part| part == VIA.as_bytes());
        if VIA_MAX < head.values("via").flat_map(list).filter(ours).count() {
            return Err(HeaderRefusal::Loop);
        }
        let traced = head.text("traceparent").and_then(tradewind_base::TraceContext::parse);
        Ok(Self { nominated, keep_authorization, keep_trace_state: traced.is_some() })
    }

    /// Whether a field of the client passes to the service.
    #[must_use]
    pub fn keeps(&self, name: &str) -> bool {
        let written = ["host", "expect", "x-request-id", "traceparent"];
        !(is_any(name, &HOP_BY_HOP)
            || is_internal(name)
            || is_forwarding(name)
            || is_any(name, &OVERRIDES)
            || is_any(name, &written)
            || name.contains('_')
            || (name.eq_ignore_ascii_case("authorization") && !self.keep_authorization)
            || (name.eq_ignore_ascii_case("tracestate") && !self.keep_trace_state)
            || self.nominated.iter().any(|it| name.eq_ignore_ascii_case(it)))
    }
}

/// Which fields of an answer pass to the client.
#[derive(Clone, Debug)]
pub struct ResponseRules {
    nominated: Vec<Box<str>>,
}

impl ResponseRules {
    /// Reads what the answer's `Connection` fields name.
    pub fn new<'a>(connection: impl Iterator<Item = &'a [u8]>) -> Self {
        let framing = ["content-length", "transfer-encoding", "date", "set-cookie"];
        let nominated = connection
            .flat_map(list)
            .map(String::from_utf8_lossy)
            .filter(|it| !is_any(it, &framing))
            .map(Into::into)
            .collect();
        Self { nominated }
    }

    /// Whether a field of the service passes to the client.
    #[must_use]
    pub fn keeps(&self, name: &str) -> bool {
        !(is_any(name, &HOP_BY_HOP)
            || is_internal(name)
            || name.eq_ignore_ascii_case("x-request-id")
            || self.nominated.iter().any(|it| name.eq_ignore_ascii_case(it)))
    }
}

/// A block of addresses: `10.0.0.0/8`, `::1`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Reads an address with an optional prefix length.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether an address lies in the block; IPv4 written as IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                same_bits(u32::from(a).into(), u32::from(b).into(), 32, self.bits)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => same_bits(a.into(), b.into(), 128, self.bits),
            _ => false,
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn same_bits(a: u128, b: u128, width: u32, bits: u8) -> bool {
    let shift = width - u32::from(bits);
    shift == 128 || (a >> shift) == (b >> shift)
}

/// Who sent a request, as far as it can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client: the peer, or the rightmost address of a trusted chain that is not trusted.
    pub client: IpAddr,
    /// The chain for `X-Forwarded-For`, the peer at its end.
    pub chain: String,
    /// `http` or `https`, as the client used it.
    pub proto: &'static str,
    /// The host the client asked for.
    pub host: String,
}

impl Origin {
    /// Works out where a request came from. Nothing in the head counts unless the peer is trusted.
    #[must_use]
    pub fn of(head: &impl Head, peer: IpAddr, secure: bool, trusted: &[Cidr]) -> Self {
        let peer = peer.to_canonical();
        let proto = if secure { "https" } else { "http" };
        let host = head.text("host").unwrap_or_default().to_owned();
        let believes = |it: IpAddr| trusted.iter().any(|block| block.contains(it));
        if !believes(peer) {
            return Self { client: peer, chain: peer.to_string(), proto, host };
        }
        let hops: Vec<IpAddr> = head
            .values("x-forwarded-for")
            .flat_map(list)
            .filter_map(|it| std::str::from_utf8(it).ok()?.parse().ok())
            .collect();
        // What stands left of the first untrusted hop was written by it: not to be believed.
        let from = hops.iter().rposition(|it| !believes(*it)).unwrap_or(0);
        let kept = hops.get(from..).unwrap_or_default();
        let chain: Vec<String> =
            kept.iter().chain(std::iter::once(&peer)).map(ToString::to_string).collect();
        let chain = chain.join(", ");
        let proto = match head.text("x-forwarded-proto") {
            Some(it) if it.eq_ignore_ascii_case("https") => "https",
            Some(it) if it.eq_ignore_ascii_case("http") => "http",
            _ => proto,
        };
        let host = head
            .text("x-forwarded-host")
            .filter(|it| !it.contains([',', ' ', '"', '/', '\\']))
            .map_or(host, ToOwned::to_owned);
        Self { client: kept.first().copied().unwrap_or(peer), chain, proto, host }
    }

    /// The value of `Forwarded` (RFC 7239).
    #[must_use]
    pub fn forwarded(&self) -> String {
        let client = match self.client {
            IpAddr::V4(it) => it.to_string(),
            IpAddr::V6(it) => format!("\"[{it}]\""),
        };
        format!("for={client};host=\"{}\";proto={}", self.host, self.proto)
    }
}

#[cfg(test)]
mod tests;
