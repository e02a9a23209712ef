//! A server of a test: it accepts, reads and writes when told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tradewind_base::Tasks;

use crate::{Body, Client, Limits, PoolConfig, SendError, Target, TcpConnect};

/// Nothing on this machine takes as long as this unless something is wrong.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

pub(super) const LIMITS: Limits = Limits { connect: LIMIT, head: LIMIT, body_idle: LIMIT };

pub(super) struct Server {
    listener: TcpListener,
    pub(super) target: Target,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::from(listener.local_addr().unwrap());
        Self { listener, target }
    }

    pub(super) async fn accept(&self) -> Peer {
        let accepted = timeout(LIMIT, self.listener.accept()).await;
        Peer(accepted.expect("a connection comes").unwrap().0)
    }

    /// Whether somebody has connected and was not accepted yet.
    pub(super) async fn has_more(&self) -> bool {
        // What connected before is in the backlog already: the look needs no time.
        timeout(Duration::from_millis(1), self.listener.accept()).await.is_ok()
    }
}

/// The server's end of one connection.
pub(super) struct Peer(TcpStream);

impl Peer {
    /// The next request, head and body.
    pub(super) async fn request(&mut self) -> String {
        let read = async {
            let mut text = String::new();
            loop {
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let head = head.to_ascii_lowercase();
                    let length = head.split("content-length: ").nth(1);
                    let length = length.map_or(0, |it| it.lines().next().unwrap().parse().unwrap());
                    if length <= body.len() {
                        return text;
                    }
                }
                let mut piece = [0; 4096];
                let count = self.0.read(&mut piece).await.unwrap();
                assert_ne!(count, 0, "closed within a request: {text:?}");
                text.push_str(std::str::from_utf8(&piece[..count]).unwrap());
            }
        };
        timeout(LIMIT, read).await.expect("a request comes")
    }

    /// Waits for the beginning of a request.
    pub(super) async fn begins(&mut self) {
        let mut byte = [0; 1];
        assert_eq!(timeout(LIMIT, self.0.read(&mut byte)).await.unwrap().unwrap(), 1);
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads a request and answers it.
    pub(super) async fn answer(&mut self, text: &str) -> String {
        let request = self.request().await;
        self.send(text).await;
        request
    }

    /// Waits until the client has closed the connection.
    pub(super) async fn closed(&mut self) {
        let mut rest = [0; 4096];
        let read = async { while !matches!(self.0.read(&mut rest).await, Ok(0) | Err(_)) {} };
        timeout(LIMIT, read).await.expect("the client closes the connection");
    }

    /// Closes with a reset instead of a proper end.
    pub(super) fn reset(self) {
        self.0.set_zero_linger().unwrap();
    }
}

/// A client and the owner of its tasks.
pub(super) fn client(config: PoolConfig) -> (Client, Tasks) {
    let tasks = Tasks::new();
    (Client::new(config, Arc::new(TcpConnect::new()), &tasks), tasks)
}

pub(super) fn standard() -> (Client, Tasks) {
    client(PoolConfig::default())
}

pub(super) fn request(method: Method, body: &'static str) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from_static(body.as_bytes()));
    *request.method_mut() = method;
    *request.uri_mut() = "/path?query=1".parse().unwrap();
    request
}

pub(super) fn get() -> Request<Bytes> {
    request(Method::GET, "")
}

pub(super) async fn text(response: Response<Body>) -> Result<String, SendError> {
    let bytes = crate::collect(response.into_body(), 1 << 20, &LIMITS).await?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}
