//! WebSocket: after 101, bytes go both ways until one side ends, is silent too long, or the
//! gateway stops. The connection to the service was opened for this alone and is never reused.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, UPGRADE, VIA};
use http::{Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tradewind_base::context::REQUEST_ID_HEADER;

use super::body::DownBody;
use super::forward::Switched;
use super::handle::Worker;
use super::record::Record;
use crate::machine::headers::{self, ResponseRules};

/// Bytes on their way in one direction.
const BUFFER: usize = 8 * 1024;
/// How long both ends may take to switch.
const SWITCH_TIME: Duration = Duration::from_secs(5);

/// Answers 101 and starts the tunnel.
pub(crate) fn start(worker: &Worker, switched: Switched, record: Record) -> Response<DownBody> {
    let Switched { mut response, client, lease } = switched;
    let connection = response.headers().get_all(CONNECTION);
    let rules = ResponseRules::new(connection.iter().map(HeaderValue::as_bytes));
    let service = hyper::upgrade::on(&mut response);
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in response.headers() {
        if rules.keeps(name.as_str()) {
            answer.headers_mut().append(name.clone(), value.clone());
        }
    }
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.headers_mut().append(VIA, HeaderValue::from_static(headers::VIA));
    if let Ok(id) = HeaderValue::from_str(&record.request_id) {
        answer.headers_mut().insert(REQUEST_ID_HEADER, id);
    }
    let (cut, silence) = (worker.gate.cut.clone(), worker.gate.client.tunnel_timeout);
    worker.tasks.spawn("tunnel", move |_| async move {
        let mut record = record;
        let (guard, _place) = lease.into_tunnel();
        let both = async { tokio::try_join!(client, service) };
        match timeout(SWITCH_TIME, both).await {
            Ok(Ok((client, service))) => {
                let moved = carry(client, service, silence, &cut).await;
                record.tunnel(moved);
                record.complete();
            }
            Ok(Err(error)) => {
                record.error_reason = Some(format!("the upgrade failed: {error}"));
            }
            Err(_) => record.error_reason = Some("the upgrade took too long".to_owned()),
        }
        drop(guard);
    });
    answer.map(|()| DownBody::none())
}

/// Carries bytes until it is over. Answers how many went to the client.
async fn carry(
    client: Upgraded,
    service: Upgraded,
    silence: Duration,
    cut: &CancellationToken,
) -> u64 {
    let (client_read, client_write) = tokio::io::split(TokioIo::new(client));
    let (service_read, service_write) = tokio::io::split(TokioIo::new(service));
    let pulse = Arc::new(Pulse { start: Instant::now(), last_ms: AtomicU64::new(0) });
    let down = AtomicU64::new(0);
    let up = AtomicU64::new(0);
    let both = async {
        // The end of one direction is passed on; an error ends both.
        tokio::try_join!(
            pump(client_read, service_write, &pulse, &up),
            pump(service_read, client_write, &pulse, &down),
        )
    };
    tokio::select! {
        Ok(_) | Err(_) = both => {}
        () = pulse.silent(silence) => {}
        () = cut.cancelled() => {}
    }
    down.load(Ordering::Relaxed)
}

struct Pulse {
    start: Instant,
    last_ms: AtomicU64,
}

impl Pulse {
    fn beat(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    async fn silent(&self, span: Duration) {
        loop {
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let due = self.start + last + span;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// Reads only when what was read before is written.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    pulse: &Pulse,
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0_u8; BUFFER];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            return to.shutdown().await;
        }
        pulse.beat();
        to.write_all(buffer.get(..bytes).unwrap_or_default()).await?;
        to.flush().await?;
        moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
