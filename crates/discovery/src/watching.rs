//! A watch of a registry: its opening and its lines.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use tradewind_http::{Body, Limits, SendError};

use crate::machine::lists::Broken;
use crate::peers::{Peers, encoded};
use crate::wire::{INSTANCE_HEADER, LINE_BYTES_MAX, Line, NDJSON, PING_INTERVAL, WATCH_PATH};
use crate::{InstanceId, ServiceName};

/// A stream without a line for three pings is dead.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(1),
    head: Duration::from_secs(3),
    body_idle: Duration::from_secs(3 * PING_INTERVAL.as_secs()),
};

/// Why a watch ended or did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    #[error("no registry is configured")]
    NoPeer,
    #[error("the request cannot be written")]
    Request(#[source] http::Error),
    #[error("the stream failed")]
    Stream(#[source] SendError),
    #[error("the registry answered with status {0}")]
    Status(StatusCode),
    #[error("a line is not of the protocol")]
    Line(#[source] serde_json::Error),
    #[error("a line has more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the registry closed the stream")]
    Ended,
    #[error("the registry contradicts the protocol")]
    Broken(#[source] Broken),
}

/// What a watch asks for.
#[derive(Debug, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) services: Vec<&'a ServiceName>,
    pub(crate) point: Option<(&'a str, u64)>,
    pub(crate) instance: Option<(&'a ServiceName, &'a InstanceId)>,
}

impl Ask<'_> {
    fn request(&self) -> Result<Request<Bytes>, http::Error> {
        let mut path = format!("{WATCH_PATH}?services=");
        for (at, service) in self.services.iter().enumerate() {
            path.push_str(if at == 0 { "" } else { "," });
            path.push_str(service.as_str());
        }
        if let Some((epoch, revision)) = self.point {
            path.push_str(&format!("&epoch={}&revision={revision}", encoded(epoch)));
        }
        let mut request = Request::get(path).header(http::header::ACCEPT, NDJSON);
        if let Some((service, id)) = self.instance {
            let value = format!("{service}/{}", encoded(id.as_str()));
            request = request.header(INSTANCE_HEADER, value);
        }
        request.body(Bytes::new())
    }
}

/// An open watch.
#[derive(Debug)]
pub(crate) struct Watch {
    body: Body,
    buffer: BytesMut,
    /// How far the buffer has been searched for the end of a line.
    searched: usize,
}

impl Watch {
    pub(crate) async fn open(
        peers: &Peers,
        peer: usize,
        ask: &Ask<'_>,
    ) -> Result<Self, WatchError> {
        let request = ask.request().map_err(WatchError::Request)?;
        let sent = peers.send(peer, request, &LIMITS).await.ok_or(WatchError::NoPeer)?;
        let response = sent.map_err(WatchError::Stream)?;
        if response.status() != StatusCode::OK {
            return Err(WatchError::Status(response.status()));
        }
        Ok(Self { body: response.into_body(), buffer: BytesMut::new(), searched: 0 })
    }

    /// The next line. Cancel safe: what has arrived stays.
    pub(crate) async fn next(&mut self) -> Result<Line, WatchError> {
        loop {
            while let Some(line) = self.cut() {
                if !line.trim_ascii().is_empty() {
                    return serde_json::from_slice(&line).map_err(WatchError::Line);
                }
            }
            if LINE_BYTES_MAX < self.buffer.len() {
                return Err(WatchError::TooLong);
            }
            let piece = self.body.chunk().await.map_err(WatchError::Stream)?;
            self.buffer.extend_from_slice(&piece.ok_or(WatchError::Ended)?);
        }
    }

    fn cut(&mut self) -> Option<BytesMut> {
        let unsearched = self.buffer.get(self.searched..)?;
        let Some(end) = unsearched.iter().position(|it| *it == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + end + 1);
        self.searched = 0;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_is_written_with_everything_encoded() {
        let (a, b) = (ServiceName::parse("a").unwrap(), ServiceName::parse("B").unwrap());
        let id = InstanceId::parse("h:b:1/é").unwrap();
        let ask =
            Ask { services: vec![&a, &b], point: Some(("e&1", 7)), instance: Some((&b, &id)) };
        let request = ask.request().unwrap();
        let path = "/tradewind/v1/watch?services=a,b&epoch=e%261&revision=7";
        assert_eq!(request.uri(), path);
        assert_eq!(request.headers()[INSTANCE_HEADER], "b/h%3Ab%3A1%2F%C3%A9");
        let request = Ask::default().request().unwrap();
        assert_eq!(request.uri(), "/tradewind/v1/watch?services=");
        assert!(!request.headers().contains_key(INSTANCE_HEADER));
    }
}
