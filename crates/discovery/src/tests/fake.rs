//! A network in memory and registries on it that do what the test says.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tradewind_base::{SystemClock, Tasks};
use tradewind_http::{Client, Connect, Io, PoolConfig, Target};

use crate::wire::{Change, InstanceRecord, Line, Ping, Removal, Resume, Snapshot, WATCH_PATH, Why};
use crate::{Discovery, Instance, RegistryClientConfig, ServiceName};

/// No exchange takes as long as this in paused time unless something is wrong.
const LIMIT: Duration = Duration::from_secs(60);

/// The network: what listens at each port. A port without a listener refuses.
#[derive(Clone, Default)]
pub(super) struct Net(Arc<Mutex<BTreeMap<u16, mpsc::Sender<DuplexStream>>>>);

impl Connect for Net {
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            let listener = self.0.lock().unwrap().get(&target.port()).cloned();
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            listener.ok_or_else(refused)?.send(theirs).await.map_err(|_| refused())?;
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }
}

impl Net {
    pub(super) fn client(&self, tasks: &Tasks) -> Client {
        Client::new(PoolConfig::default(), Arc::new(self.clone()), tasks)
    }

    pub(super) fn discovery(&self, ports: &[u16], tasks: &Tasks) -> Discovery {
        let clock = Arc::new(SystemClock::new());
        Discovery::registry(config(ports), self.client(tasks), clock, tasks)
    }

    /// A registry at this port, in the place of the one before.
    pub(super) fn registry(&self, port: u16) -> Fake {
        let (listener, mut accepted) = mpsc::channel::<DuplexStream>(16);
        self.0.lock().unwrap().insert(port, listener);
        let (watch_tx, watches) = mpsc::channel(64);
        let (rest_tx, rest) = mpsc::channel(64);
        let tasks = Tasks::new();
        let connections = tasks.clone();
        tasks.spawn("accept", |cancel| async move {
            while let Some(Some(stream)) = cancel.run_until_cancelled(accepted.recv()).await {
                let (watch_tx, rest_tx) = (watch_tx.clone(), rest_tx.clone());
                connections.spawn("serve", |cancel| async move {
                    cancel.run_until_cancelled(serve(stream, watch_tx, rest_tx)).await;
                });
            }
        });
        Fake { watches, rest, tasks, port, net: self.clone() }
    }
}

pub(super) fn config(ports: &[u16]) -> RegistryClientConfig {
    let url = |port: &u16| Target::parse(&format!("http://registry:{port}")).unwrap();
    RegistryClientConfig::new(ports.iter().map(url).collect())
}

/// One registry.
pub(super) struct Fake {
    watches: mpsc::Receiver<Exchange>,
    rest: mpsc::Receiver<Exchange>,
    tasks: Tasks,
    port: u16,
    net: Net,
}

impl Fake {
    /// The next watch that is asked for.
    pub(super) async fn watch(&mut self) -> Exchange {
        timeout(LIMIT, self.watches.recv()).await.expect("a watch is asked for").unwrap()
    }

    /// The next other request.
    pub(super) async fn request(&mut self) -> Exchange {
        timeout(LIMIT, self.rest.recv()).await.expect("a request comes").unwrap()
    }

    /// Whether no other request comes within the span.
    pub(super) async fn is_quiet(&mut self, span: Duration) -> bool {
        timeout(span, self.rest.recv()).await.is_err()
    }

    /// Closes every connection and listens no more.
    pub(super) async fn die(self) {
        self.net.0.lock().unwrap().remove(&self.port);
        self.tasks.shutdown(LIMIT).await.unwrap();
    }
}

/// A request that waits for its answer.
pub(super) struct Exchange {
    /// Method and path with query.
    pub(super) line: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
    reply: mpsc::Sender<String>,
}

impl Exchange {
    pub(super) async fn answer(self, status: u16) {
        let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        self.reply.send(text).await.unwrap();
    }

    pub(super) async fn stream(self) -> Stream {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        self.reply.send(head.to_owned()).await.unwrap();
        Stream(self.reply)
    }
}

/// An open watch; closed when dropped.
pub(super) struct Stream(mpsc::Sender<String>);

impl Stream {
    pub(super) async fn raw(&self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.0.send(chunk).await.expect("the client still reads");
    }

    pub(super) async fn line(&self, line: &Line) {
        self.raw(&format!("{}\n", serde_json::to_string(line).unwrap())).await;
    }

    /// Waits until the client has closed the stream.
    pub(super) async fn closed(&self) {
        timeout(LIMIT, self.0.closed()).await.expect("the client closes the stream");
    }
}

async fn serve(
    mut stream: DuplexStream,
    watches: mpsc::Sender<Exchange>,
    rest: mpsc::Sender<Exchange>,
) {
    let mut buffer = BytesMut::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                break at;
            }
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(buffer.split_to(end + 4).to_vec()).unwrap();
        let mut lines = head.lines();
        let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        let pairs = lines.filter_map(|it| it.split_once(": "));
        let headers: BTreeMap<_, _> =
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let length = headers.get("content-length").map_or(0, |it| it.parse().unwrap());
        while buffer.len() < length {
            stream.read_buf(&mut buffer).await.unwrap();
        }
        let body = String::from_utf8(buffer.split_to(length).to_vec()).unwrap();
        let (reply, mut replies) = mpsc::channel(64);
        let watch = line.contains(WATCH_PATH);
        let exchange = Exchange { line, headers, body, reply };
        let to = if watch { &watches } else { &rest };
        if to.send(exchange).await.is_err() {
            return;
        }
        loop {
            // A client that goes away ends the exchange, as the test can see by `closed`.
            let mut byte = [0_u8; 1];
            tokio::select! {
                text = replies.recv() => match text {
                    Some(text) => {
                        if stream.write_all(text.as_bytes()).await.is_err() {
                            return;
                        }
                        if !watch {
                            break;
                        }
                    }
                    None => return,
                },
                read = stream.read(&mut byte), if watch => {
                    assert_eq!(read.unwrap_or(0), 0, "nothing comes on a watch");
                    return;
                }
            }
        }
    }
}

pub(super) fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

pub(super) fn instance(service: &str, port: u16) -> Instance {
    Instance::plain(&name(service), "h", port).unwrap()
}

pub(super) fn record(service: &str, port: u16) -> InstanceRecord {
    InstanceRecord::from(&instance(service, port))
}

pub(super) fn snapshot(
    epoch: &str,
    revision: u64,
    warm: bool,
    services: &[(&str, &[u16])],
) -> Line {
    let records = |it: &(&str, &[u16])| {
        (it.0.to_owned(), it.1.iter().map(|port| record(it.0, *port)).collect())
    };
    let services = services.iter().map(records).collect();
    Line::Snapshot(Snapshot { epoch: epoch.into(), revision, warm, services })
}

pub(super) fn resume(epoch: &str, revision: u64) -> Line {
    Line::Resume(Resume { epoch: epoch.into(), revision, warm: true })
}

pub(super) fn upsert(revision: u64, instance: InstanceRecord) -> Line {
    Line::Change(Change { revision, upsert: vec![instance], remove: vec![] })
}

pub(super) fn remove(revision: u64, service: &str, port: u16) -> Line {
    let id = instance(service, port).id.to_string();
    let removal = Removal { service: service.into(), id, why: Why::Refused };
    Line::Change(Change { revision, upsert: vec![], remove: vec![removal] })
}

pub(super) fn ping(revision: u64, warm: bool) -> Line {
    Line::Ping(Ping { revision, warm })
}
