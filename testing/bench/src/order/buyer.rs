//! Buyers: the cheapest client that there is, since it runs on the cores that it measures.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tradewind_load::{Outcome, Work};

/// No order is waited for longer.
const LIMIT: Duration = Duration::from_secs(10);
/// Products that are ordered, by turns.
const PRODUCTS: u64 = 80;
/// The longest answer.
const ANSWER_MAX: usize = 64 * 1024;

/// Places orders at one address.
pub(crate) struct Buyer {
    address: SocketAddr,
    path: &'static str,
    /// One header line for each user, by turns.
    users: Vec<String>,
    idle: Mutex<Vec<Line>>,
    sequence: AtomicU64,
    /// The first part of each idempotency key.
    run: u64,
}

/// A connection and the room for answers.
struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Buyer {
    /// `users` are whole header lines that say who asks; none for services that do not care.
    pub(crate) fn new(address: SocketAddr, path: &'static str, users: Vec<String>) -> Self {
        let run = tradewind_base::Rng::from_entropy().u64();
        let (idle, sequence) = (Mutex::default(), AtomicU64::new(0));
        Self { address, path, users, idle, sequence, run }
    }

    fn request(&self) -> String {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let (product, run) = (number * 7919 % PRODUCTS + 1, self.run);
        let user = usize::try_from(number)
            .ok()
            .and_then(|it| self.users.get(it.checked_rem(self.users.len())?));
        let user = user.map_or("", String::as_str);
        let body = format!(
            r#"{{"items":[{{"product_id":{product},"quantity":1}}],"address":"1 Harbour Road"}}"#
        );
        format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\n{user}content-type: application/json\r\n\
             idempotency-key: bench-{run:x}-{number}\r\ncontent-length: {}\r\n\r\n{body}",
            self.path,
            self.address,
            body.len(),
        )
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places one order; its status.
    pub(crate) async fn place(&self) -> anyhow::Result<u16> {
        let kept = self.idle().pop();
        let mut line = match kept {
            Some(line) => line,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                Line { stream, buffer: Vec::with_capacity(4096) }
            }
        };
        line.stream.write_all(self.request().as_bytes()).await?;
        line.buffer.clear();
        let status = loop {
            let read = line.stream.read_buf(&mut line.buffer).await?;
            anyhow::ensure!(0 < read, "the connection was closed");
            if let Some(status) = whole(&line.buffer)? {
                break status;
            }
            anyhow::ensure!(line.buffer.len() < ANSWER_MAX, "an answer is too long");
        };
        self.idle().push(line);
        Ok(status)
    }
}

impl Work for Buyer {
    async fn once(&self, _sequence: u64) -> Outcome {
        match tokio::time::timeout(LIMIT, self.place()).await {
            Ok(Ok(201)) => Outcome::Ok,
            Ok(Ok(status)) => Outcome::Failed(Cow::Owned(status.to_string())),
            Ok(Err(_)) => Outcome::Failed(Cow::Borrowed("connection")),
            Err(_) => Outcome::Failed(Cow::Borrowed("timeout")),
        }
    }
}

/// The status of an answer, once all of it is there.
fn whole(bytes: &[u8]) -> anyhow::Result<Option<u16>> {
    let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else { return Ok(None) };
    let (head, rest) = bytes.split_at(end + 4);
    let head = std::str::from_utf8(head)?;
    let status = head.get(9..12).and_then(|it| it.parse().ok()).context("no status line")?;
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (left, right) = line.split_once(':')?;
            left.eq_ignore_ascii_case(name).then(|| right.trim())
        })
    };
    let there = match field("content-length") {
        Some(length) => length.parse::<usize>()? <= rest.len(),
        None if field("transfer-encoding").is_some() => rest.ends_with(b"0\r\n\r\n"),
        None => true,
    };
    Ok(there.then_some(status))
}

/// Asks one server again and again for as little as there is, over one connection.
pub(crate) struct Caller {
    line: Line,
    request: String,
}

impl Caller {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!("GET /health/live HTTP/1.1\r\nhost: {address}\r\n\r\n");
        Ok(Self { line: Line { stream, buffer: Vec::new() }, request })
    }

    pub(crate) async fn call(&mut self) -> anyhow::Result<()> {
        self.line.stream.write_all(self.request.as_bytes()).await?;
        self.line.buffer.clear();
        while whole(&self.line.buffer)?.is_none() {
            let read = self.line.stream.read_buf(&mut self.line.buffer).await?;
            anyhow::ensure!(0 < read, "the connection was closed");
        }
        Ok(())
    }
}

/// One small request, for what is asked between the measurements.
pub(crate) async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> anyhow::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len(),
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let status = whole(&answer)?.context("a part of an answer")?;
        let text = String::from_utf8_lossy(&answer);
        let body = text.split_once("\r\n\r\n").map_or("", |it| it.1);
        Ok((status, body.to_owned()))
    };
    tokio::time::timeout(LIMIT, exchange).await.context("no answer in time")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let head = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(whole(b"HTTP/1.1 201 Created\r\n").unwrap(), None);
        assert_eq!(whole(head).unwrap(), None);
        assert_eq!(whole(&[&head[..], b"{}"].concat()).unwrap(), Some(201));
        let chunked = b"HTTP/1.1 409 Conflict\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
        assert_eq!(whole(chunked).unwrap(), None);
        assert_eq!(whole(&[&chunked[..], b"0\r\n\r\n"].concat()).unwrap(), Some(409));
    }
}
