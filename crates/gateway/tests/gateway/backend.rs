//! A service that records what reaches it and misbehaves on request.
//!
//! It reads HTTP by itself, plainly, so that its reading does not share a fault with the gateway.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tradewind_base::Tasks;

/// A request as the service read it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(it, _)| it.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} comes more than once: {all:?}");
        all.first().copied()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) requests: Mutex<Vec<Seen>>,
    pub(crate) connections: AtomicUsize,
    pub(crate) open: AtomicUsize,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    /// Requests whose connection ended before the answer was through.
    pub(crate) aborted: AtomicUsize,
    pub(crate) jwks: Mutex<String>,
}

impl Recorded {
    pub(crate) fn targets(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|it| it.target.clone()).collect()
    }

    pub(crate) fn last(&self) -> Seen {
        self.requests.lock().unwrap().last().cloned().expect("a request reached the service")
    }
}

/// A running service.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) recorded: Arc<Recorded>,
    dead: CancellationToken,
}

impl Backend {
    pub(crate) async fn start(tasks: &Tasks, name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let recorded = Arc::new(Recorded::default());
        let dead = CancellationToken::new();
        let (state, token, owner) = (Arc::clone(&recorded), dead.clone(), tasks.clone());
        tasks.spawn("backend", move |cancel| async move {
            loop {
                let stream = tokio::select! {
                    it = listener.accept() => it.unwrap().0,
                    () = token.cancelled() => return,
                    () = cancel.cancelled() => return,
                };
                state.connections.fetch_add(1, Ordering::SeqCst);
                let (state, token) = (Arc::clone(&state), token.clone());
                owner.spawn("backend-connection", move |cancel| async move {
                    state.open.fetch_add(1, Ordering::SeqCst);
                    tokio::select! {
                        _ = connection(stream, &state, name) => {}
                        () = token.cancelled() => {}
                        () = cancel.cancelled() => {}
                    }
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, recorded, dead }
    }

    /// As SIGKILL does: the listener and every connection are gone at once.
    pub(crate) fn kill(&self) {
        self.dead.cancel();
    }
}

async fn connection(stream: TcpStream, state: &Recorded, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(mut seen) = head(&mut stream).await? {
        let target = seen.target.clone();
        if target.starts_with("/unread") {
            state.requests.lock().unwrap().push(seen);
            return std::future::pending().await;
        }
        if target.starts_with("/sink") {
            let length: u64 = seen.one("content-length").unwrap().parse().unwrap();
            sink(&mut stream, state, length).await.inspect_err(|_| {
                state.aborted.fetch_add(1, Ordering::SeqCst);
            })?;
        } else {
            seen.body = body(&mut stream, &seen).await.inspect_err(|_| {
                state.aborted.fetch_add(1, Ordering::SeqCst);
            })?;
        }
        let answer = Answer { seen: &seen, name };
        state.requests.lock().unwrap().push(seen.clone());
        answer.send(&mut stream, state).await.inspect_err(|_| {
            state.aborted.fetch_add(1, Ordering::SeqCst);
        })?;
    }
    Ok(())
}

async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut text = Vec::new();
    if stream.read_until(b'\n', &mut text).await? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&text);
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

async fn head(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Seen>> {
    let Some(first) = line(stream).await? else { return Ok(None) };
    let mut parts = first.split(' ');
    let mut seen = Seen {
        method: parts.next().unwrap_or_default().to_owned(),
        target: parts.next().unwrap_or_default().to_owned(),
        ..Seen::default()
    };
    while let Some(text) = line(stream).await?.filter(|it| !it.is_empty()) {
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        seen.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok(Some(seen))
}

async fn body(stream: &mut BufReader<TcpStream>, seen: &Seen) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if seen.one("transfer-encoding").is_some() {
        loop {
            let text = line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = usize::from_str_radix(&text, 16).map_err(io::Error::other)?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
    let length = seen.one("content-length").map_or(0, |it| it.parse().unwrap());
    body.resize(length, 0);
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn sink(stream: &mut BufReader<TcpStream>, state: &Recorded, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = length;
    while 0 < left {
        let most = buffer.len().min(usize::try_from(left).unwrap());
        let bytes = stream.read(&mut buffer[..most]).await?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= bytes as u64;
        state.bytes_in.fetch_add(bytes as u64, Ordering::SeqCst);
    }
    Ok(())
}

struct Answer<'a> {
    seen: &'a Seen,
    name: &'a str,
}

impl Answer<'_> {
    fn queries(&self) -> BTreeMap<&str, &str> {
        let query = self.seen.target.split_once('?').map_or("", |it| it.1);
        query.split('&').filter_map(|it| it.split_once('=')).collect()
    }

    fn number(&self, key: &str) -> u64 {
        self.queries().get(key).map_or(0, |it| it.parse().unwrap())
    }

    async fn send(&self, stream: &mut BufReader<TcpStream>, state: &Recorded) -> io::Result<()> {
        let path = self.seen.target.split('?').next().unwrap_or_default();
        match path {
            "/keys" => {
                let text = state.jwks.lock().unwrap().clone();
                self.plain(stream, text.as_bytes()).await
            }
            "/echo" => self.plain(stream, &self.seen.body).await,
            "/big" => self.big(stream, state).await,
            "/hang" => self.hang(stream).await,
            "/drop" => Err(io::ErrorKind::ConnectionAborted.into()),
            "/half" => self.raw(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", true).await,
            "/garbage" => self.raw(stream, "SMTP ready\r\n\r\n", true).await,
            "/late" => {
                tokio::time::sleep(Duration::from_millis(self.number("ms"))).await;
                self.plain(stream, b"late").await
            }
            "/extra" => {
                let text = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
                self.raw(stream, text, false).await
            }
            "/nobody" => {
                let status = self.number("status");
                let fields = if status == 204 { "" } else { "content-length: 7\r\n" };
                let text = format!("HTTP/1.1 {status} X\r\n{fields}etag: \"e\"\r\n\r\n");
                self.raw(stream, &text, false).await
            }
            "/fields" => {
                let text = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: X-Secret, keep-alive\r\n\
                    X-Secret: s\r\nKeep-Alive: timeout=5\r\nX-Tradewind-User: leak\r\nProxy-Authenticate: x\r\n\
                    Upgrade: h2c\r\nX-Kept: 1\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\nok";
                self.raw(stream, text, false).await
            }
            "/both" => {
                let text = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
                self.raw(stream, text, false).await
            }
            "/lengths" => {
                let text = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok";
                self.raw(stream, text, false).await
            }
            "/early" => self.raw(stream, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false).await,
            "/switch" => {
                let text = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                self.raw(stream, text, false).await
            }
            "/ws" => self.websocket(stream, state).await,
            _ => self.plain(stream, self.name.as_bytes()).await,
        }
    }

    async fn raw(
        &self,
        stream: &mut BufReader<TcpStream>,
        text: &str,
        end: bool,
    ) -> io::Result<()> {
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await?;
        if end { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    async fn plain(&self, stream: &mut BufReader<TcpStream>, body: &[u8]) -> io::Result<()> {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        if self.seen.method != "HEAD" {
            stream.write_all(body).await?;
        }
        stream.flush().await
    }

    async fn big(&self, stream: &mut BufReader<TcpStream>, state: &Recorded) -> io::Result<()> {
        let mut left = self.number("bytes");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {left}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let block = vec![b'x'; 64 * 1024];
        while 0 < left {
            let bytes = block.len().min(usize::try_from(left).unwrap());
            stream.write_all(&block[..bytes]).await?;
            stream.flush().await?;
            left -= bytes as u64;
            state.bytes_out.fetch_add(bytes as u64, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Answers never, and ends with the connection.
    async fn hang(&self, stream: &mut BufReader<TcpStream>) -> io::Result<()> {
        drop(stream.read_u8().await);
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    /// Says yes to the handshake, then gives back what it gets.
    async fn websocket(
        &self,
        stream: &mut BufReader<TcpStream>,
        state: &Recorded,
    ) -> io::Result<()> {
        if self.queries().contains_key("refuse") {
            return self.plain(stream, b"no").await;
        }
        let text = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await?;
        let mut buffer = vec![0; 4096];
        loop {
            let bytes = stream.read(&mut buffer).await?;
            if bytes == 0 {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            state.bytes_in.fetch_add(bytes as u64, Ordering::SeqCst);
            stream.write_all(&buffer[..bytes]).await?;
            stream.flush().await?;
        }
    }
}
