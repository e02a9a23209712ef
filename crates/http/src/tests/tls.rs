//! TLS. `tls/certificate.der` and `tls/key.der` are a certificate for `localhost`, signed by
//! itself, and its key; they are of use in these tests alone.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tradewind_base::Tasks;

use super::server::*;
use crate::{Client, Phase, PoolConfig, Target, TcpConnect};

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from(include_bytes!("tls/certificate.der").as_slice())
}

fn acceptor() -> TlsAcceptor {
    let key = PrivatePkcs8KeyDer::from(include_bytes!("tls/key.der").as_slice());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], PrivateKeyDer::from(key));
    let mut config = config.unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn trusting() -> (Client, Tasks) {
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).unwrap();
    let tasks = Tasks::new();
    let connect = Arc::new(TcpConnect::with_roots(roots));
    (Client::new(PoolConfig::default(), connect, &tasks), tasks)
}

async fn listen(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn requests_go_over_tls_and_connections_are_reused() {
    let ((listener, port), (client, _tasks)) = (listen("127.0.0.1").await, trusting());
    let target = Target::parse(&format!("https://localhost:{port}")).unwrap();
    let serve = async {
        let stream = listener.accept().await.unwrap().0;
        let mut stream = acceptor().accept(stream).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.alpn_protocol(), Some(b"http/1.1".as_slice()));
        assert_eq!(session.server_name(), Some("localhost"));
        let mut buffer = [0; 1024];
        for _ in 0..2 {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(buffer[..read].starts_with(b"GET /path?query=1 HTTP/1.1\r\n"));
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
        stream
    };
    let send = async {
        for _ in 0..2 {
            let answer = client.send(&target, get(), &LIMITS).await.unwrap();
            assert_eq!(text(answer).await.unwrap(), "ok");
        }
    };
    let _ = tokio::join!(serve, send);
    assert_eq!(client.idle(&target), 1);
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_is_not_spoken_to() {
    let (trusting, _trusting_tasks) = trusting();
    let (standard, _standard_tasks) = standard();
    // Mozilla's roots do not know the certificate; the certificate does not know the name.
    for (client, host) in [(standard, "127.0.0.1"), (trusting, "127.0.0.2")] {
        let (listener, port) = listen(host).await;
        let target = Target::parse(&format!("https://{host}:{port}")).unwrap();
        let serve = async {
            let stream = listener.accept().await.unwrap().0;
            assert!(acceptor().accept(stream).await.is_err());
        };
        let send = client.send(&target, get(), &LIMITS);
        let error = tokio::select! {
            (answer, ()) = async { tokio::join!(send, serve) } => answer.unwrap_err(),
            () = tokio::time::sleep(LIMIT) => panic!("the handshake ends"),
        };
        assert_eq!(error.phase(), Phase::Connect, "{error:?}");
        assert!(error.nothing_sent() && !error.refused() && !error.timed_out());
    }
}
