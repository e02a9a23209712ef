//! The wire between the broker and a warehouse process, with the tour in the middle of it.
//!
//! The warehouse registers the address of the wire instead of its own, so all that is sent to it
//! passes here. Bytes are handed on as they come. Of deliveries it is noted what became of them,
//! and when it is told to, the wire loses one answer: the warehouse has answered, and the broker
//! sees a connection that broke.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tradewind_base::Tasks;
use tradewind_warehouse::PLACED_PATH;

use super::proof::{Held, Unmet};

/// The longest head of a request.
const HEAD_MAX: usize = 64 * 1024;
/// `HTTP/1.1 204`: as much of an answer as tells its status.
const STATUS_LEN: usize = 12;
/// How many deliveries are remembered: more than a tour has.
const NOTED_MAX: usize = 256;
/// The most connections at a time.
const CONNECTIONS_MAX: usize = 256;

/// All wires of one tour. Clones share what is noted.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire {
    noted: Arc<Mutex<Vec<Delivery>>>,
    lose: Arc<AtomicBool>,
}

/// One delivery that passed.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// The message.
    pub(super) message: String,
    /// The process that it was delivered to.
    pub(super) process: &'static str,
    /// What the process answered.
    pub(super) status: u16,
    /// Whether the answer was lost on the way back.
    pub(super) lost: bool,
    /// When it was answered.
    pub(super) at: Instant,
}

impl Wire {
    /// Lays a wire to a process and returns the address of its near end.
    pub(super) async fn lay(
        &self,
        process: &'static str,
        to: SocketAddr,
        tasks: &Tasks,
    ) -> Held<SocketAddr> {
        let failed = |it| Unmet::new("a free port on this machine", it);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let near = listener.local_addr().map_err(failed)?;
        let (wire, owner) = (self.clone(), tasks.clone());
        tasks.spawn("tour wire", |cancel| async move {
            let accept = async {
                loop {
                    let Ok((client, _)) = listener.accept().await else {
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        continue;
                    };
                    if CONNECTIONS_MAX < owner.len() {
                        continue;
                    }
                    let wire = wire.clone();
                    owner.spawn("tour wire connection", |cancel| async move {
                        tokio::select! {
                            () = cancel.cancelled() => {}
                            // An end that breaks the connection is what the other one sees, too.
                            it = wire.carry(process, client, to) => drop(it),
                        }
                    });
                }
            };
            tokio::select! {
                () = cancel.cancelled() => {}
                () = accept => {}
            }
        });
        Ok(near)
    }

    /// Loses the answer to the next delivery that succeeds.
    pub(super) fn lose_next_answer(&self) {
        self.lose.store(true, Ordering::SeqCst);
    }

    /// What became of the deliveries of a message, in their order.
    pub(super) fn deliveries(&self, message: &str) -> Vec<Delivery> {
        self.noted().iter().filter(|it| it.message == message).cloned().collect()
    }

    fn noted(&self) -> MutexGuard<'_, Vec<Delivery>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry(
        &self,
        process: &'static str,
        mut client: TcpStream,
        to: SocketAddr,
    ) -> std::io::Result<()> {
        let mut server = TcpStream::connect(to).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut from_client, mut from_server) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
        let mut requests = Requests::default();
        // The delivery that waits for its answer, and the beginning of that answer.
        let mut open: Option<(String, Vec<u8>)> = None;
        loop {
            tokio::select! {
                length = client.read(&mut from_client) => {
                    let bytes = from_client.get(..length?).unwrap_or_default();
                    if bytes.is_empty() {
                        return Ok(());
                    }
                    if let Some(message) = requests.take(bytes) {
                        open = Some((message, Vec::new()));
                    }
                    server.write_all(bytes).await?;
                }
                length = server.read(&mut from_server) => {
                    let bytes = from_server.get(..length?).unwrap_or_default();
                    if bytes.is_empty() {
                        return Ok(());
                    }
                    let Some((message, mut answer)) = open.take() else {
                        client.write_all(bytes).await?;
                        continue;
                    };
                    answer.extend_from_slice(bytes);
                    let Some(status) = status(&answer) else {
                        open = Some((message, answer));
                        continue;
                    };
                    let taken = (200..300).contains(&status);
                    let lost = taken && self.lose.swap(false, Ordering::SeqCst);
                    self.note(Delivery { message, process, status, lost, at: Instant::now() });
                    if lost {
                        return Ok(());
                    }
                    client.write_all(&answer).await?;
                }
            }
        }
    }

    fn note(&self, it: Delivery) {
        let mut noted = self.noted();
        if noted.len() < NOTED_MAX {
            noted.push(it);
        }
    }
}

/// The status of an answer, once enough of it is there.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.get(..STATUS_LEN)?;
    let text = std::str::from_utf8(line).ok()?;
    Some(text.rsplit(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0))
}

/// Finds the requests in what a client of HTTP/1.1 sends: heads, and bodies of a known length.
#[derive(Debug, Default)]
struct Requests {
    head: Vec<u8>,
    body_left: usize,
}

impl Requests {
    /// Takes in what came; the id of the message when a delivery's head is complete with it.
    fn take(&mut self, mut bytes: &[u8]) -> Option<String> {
        let mut found = None;
        while !bytes.is_empty() {
            if 0 < self.body_left {
                let (_, rest) = bytes.split_at(self.body_left.min(bytes.len()));
                self.body_left -= bytes.len() - rest.len();
                bytes = rest;
                continue;
            }
            let (first, rest) = bytes.split_at(1);
            self.head.extend_from_slice(first);
            bytes = rest;
            if self.head.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.head).into_owned();
                self.head.clear();
                self.body_left = field(&head, "content-length")
                    .and_then(|it| it.parse().ok())
                    .unwrap_or_default();
                found = delivery(&head).or(found);
            } else if HEAD_MAX < self.head.len() {
                // Nothing that the broker sends; the warehouse will say so.
                self.head.clear();
            }
        }
        found
    }
}

/// The message that a request delivers, if it does.
fn delivery(head: &str) -> Option<String> {
    let line = head.lines().next()?;
    let path = line.strip_prefix("POST ")?.split(' ').next()?;
    if path == PLACED_PATH { field(head, "webhook-id").map(str::to_owned) } else { None }
}

/// A header of a head.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|it| it.split_once(':'));
    fields.find(|it| it.0.eq_ignore_ascii_case(name)).map(|it| it.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELIVERY: &str = "POST /messages/order-placed HTTP/1.1\r\nWebhook-Id: msg_1\r\n\
                            content-length: 4\r\n\r\n{\r\n}";
    const OTHER: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";

    #[test]
    fn deliveries_are_found_however_the_bytes_are_cut() {
        let stream = format!("{OTHER}{DELIVERY}{OTHER}");
        for size in 1..stream.len() {
            let mut requests = Requests::default();
            let found: Vec<_> =
                stream.as_bytes().chunks(size).filter_map(|it| requests.take(it)).collect();
            assert_eq!(found, ["msg_1"], "in pieces of {size}");
            assert!(requests.head.is_empty() && requests.body_left == 0);
        }
    }

    #[test]
    fn a_status_is_read_once_it_is_there() {
        assert_eq!(status(b"HTTP/1.1 20"), None);
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"not HTTP at all"), Some(0));
    }

    #[tokio::test]
    async fn one_answer_is_lost_and_the_next_one_is_not() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = server.local_addr().unwrap();
        let (wire, tasks) = (Wire::default(), Tasks::new());
        tasks.spawn("server", |_| async move {
            for _ in 0..2 {
                let (mut stream, _) = server.accept().await.unwrap();
                let mut request = vec![0; DELIVERY.len()];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            }
        });
        let near = wire.lay("warehouse-a", to, &tasks).await.unwrap();
        wire.lose_next_answer();
        let mut answers = Vec::new();
        for _ in 0..2 {
            let mut client = TcpStream::connect(near).await.unwrap();
            client.write_all(DELIVERY.as_bytes()).await.unwrap();
            let mut answer = vec![0; STATUS_LEN];
            answers.push(client.read_exact(&mut answer).await.is_ok());
        }
        assert_eq!(answers, [false, true]);
        let noted = wire.deliveries("msg_1");
        assert_eq!(
            noted.iter().map(|it| (it.status, it.lost)).collect::<Vec<_>>(),
            [(204, true), (204, false)]
        );
        assert!(wire.deliveries("msg_2").is_empty());
        tasks.shutdown(std::time::Duration::from_secs(5)).await.unwrap();
    }
}
