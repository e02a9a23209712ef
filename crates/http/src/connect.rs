//! How a connection is made: a parameter, so that tests and simulations bring their own network.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Target;
use crate::target::Scheme;

/// A byte stream to a server.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// A way to ask, without waiting, whether the server has closed the stream, for as long as
    /// the stream is in use elsewhere. `None` where there is no such way.
    fn watch(&self) -> Option<Box<dyn Watch>> {
        None
    }
}

/// Asks whether a stream is still open.
pub trait Watch: Send + Sync + 'static {
    /// Whether the server has closed its side or the connection has failed, as far as this
    /// machine knows.
    fn ended(&self) -> bool;
}

impl Io for tokio::io::DuplexStream {}

/// Makes connections.
pub trait Connect: Send + Sync + 'static {
    /// Connects to the target, TLS included where its scheme asks for it. The caller bounds the
    /// time; dropping the future gives the attempt up.
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<Box<dyn Io>>>;
}

/// Connections of this machine: TCP without delay, TLS by rustls with the roots of Mozilla.
#[derive(Clone)]
pub struct TcpConnect {
    tls: TlsConnector,
}

impl TcpConnect {
    /// With Mozilla's roots, TLS 1.2 and 1.3.
    #[must_use]
    pub fn new() -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        Self::with_roots(roots)
    }

    /// With other roots: the private ones of an estate.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "cannot happen with the provider named here")]
    pub fn with_roots(roots: rustls::RootCertStore) -> Self {
        // The provider is named, not taken from the process: which one a process has by default
        // depends on which features its other crates switched on.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions();
        #[expect(clippy::expect_used, reason = "fails only for a provider without TLS 1.2 and 1.3")]
        let versions = versions.expect("aws-lc-rs has cipher suites for TLS 1.2 and 1.3");
        let mut config = versions.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { tls: TlsConnector::from(Arc::new(config)) }
    }
}

impl Default for TcpConnect {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TcpConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpConnect").finish_non_exhaustive()
    }
}

impl Connect for TcpConnect {
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            let stream = TcpStream::connect((target.host(), target.port())).await?;
            stream.set_nodelay(true)?;
            let stream = TcpIo(Arc::new(stream));
            match target.scheme() {
                Scheme::Http => Ok(Box::new(stream) as Box<dyn Io>),
                Scheme::Https => {
                    let name = ServerName::try_from(target.host().to_owned())
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                    let stream = self.tls.connect(name, stream).await?;
                    Ok(Box::new(TlsIo(stream)) as Box<dyn Io>)
                }
            }
        })
    }
}

/// A TCP stream that can also be asked from elsewhere whether it has ended: the connection's
/// driver owns the stream, the pool keeps a [`Watch`] of it.
struct TcpIo(Arc<TcpStream>);

impl TcpIo {
    /// Repeats a non-blocking operation until it is done or the socket is not ready.
    fn poll<T>(
        cx: &mut Context<'_>,
        ready: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            std::task::ready!(ready(cx))?;
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl AsyncRead for TcpIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &self.0;
        Self::poll(
            cx,
            |cx| stream.poll_read_ready(cx),
            || {
                let read = stream.try_read(buf.initialize_unfilled())?;
                buf.advance(read);
                Ok(())
            },
        )
    }
}

impl AsyncWrite for TcpIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = &self.0;
        Self::poll(cx, |cx| stream.poll_write_ready(cx), || stream.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = &self.0;
        Self::poll(cx, |cx| stream.poll_write_ready(cx), || stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            rustix::net::shutdown(&*self.0, rustix::net::Shutdown::Write).map_err(Into::into),
        )
    }
}

impl Io for TcpIo {
    fn watch(&self) -> Option<Box<dyn Watch>> {
        Some(Box::new(TcpWatch(Arc::downgrade(&self.0))))
    }
}

/// Weak, so that a dropped stream closes its socket at once.
struct TcpWatch(std::sync::Weak<TcpStream>);

impl Watch for TcpWatch {
    fn ended(&self) -> bool {
        use rustix::net::{RecvFlags, recv};
        let Some(stream) = self.0.upgrade() else { return true };
        // Not `TcpStream::poll_peek`: that trusts the reactor's last look, which is what a server
        // that closed a moment ago slips past.
        let peeked = recv(&*stream, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        match peeked {
            Ok((_, read)) => read == 0,
            Err(error) => error != rustix::io::Errno::AGAIN && error != rustix::io::Errno::INTR,
        }
    }
}

struct TlsIo(tokio_rustls::client::TlsStream<TcpIo>);

impl AsyncRead for TlsIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Io for TlsIo {
    fn watch(&self) -> Option<Box<dyn Watch>> {
        self.0.get_ref().0.watch()
    }
}
