//! TLS: what is spoken by whom, and certificates that change.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::reply::{Reply, Response};

use super::PATIENCE;
use crate::http::{Config, ListenError, Proxies, Server, Tls, TlsFiles, listen, stream};

const ONE: (&str, &str) = (include_str!("certificates/one.pem"), include_str!("certificates/one.key"));
const OTHER: (&str, &str) = (include_str!("certificates/other.pem"), include_str!("certificates/other.key"));

/// A certificate in a folder, and a server that has it.
struct Fixture {
    folder: tempfile::TempDir,
    address: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Fixture {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        write(folder.path(), ONE.0, ONE.1);
        let tls = Tls::open(files(folder.path())).await.expect("the certificate is good");
        let mut config = Config {
            name: "test",
            request_head_time_max: PATIENCE,
            heartbeat_interval: PATIENCE,
            idle_time_max: PATIENCE,
            shutdown_time_max: Duration::from_millis(200),
            connections_count_max: 100,
            connections_per_address_max: None,
            requests: None,
            proxies: Proxies::default(),
            metrics: Arc::default(),
        };
        change(&mut config);
        let hello = warp::path!("hello").map(|| "hello".into_response());
        let endless = warp::path!("endless").map(|| {
            let first = futures_util::stream::iter([Ok(Bytes::from_static(b"begun"))]);
            let chunks = futures_util::StreamExt::chain(first, futures_util::stream::pending());
            stream("text/plain", chunks)
        });
        let (listener, address) = listen(([127, 0, 0, 1], 0).into(), "a test").await.expect("a port is free");
        let routes = hello.or(endless).unify().boxed();
        let refuse = Arc::new(|_, _: &_| Response::default());
        let server = Server { config, listener, tls: Some(tls), routes, refuse };
        let stop = CancellationToken::new();
        let server = tokio::spawn(server.run(stop.clone(), async {}));
        Self { folder, address, stop, server }
    }

    async fn connect(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the versions fit the provider")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Whoever))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let socket = TcpStream::connect(self.address).await.expect("the server accepts");
        let name = ServerName::try_from("localhost").expect("it is a name");
        TlsConnector::from(Arc::new(config))
            .connect(name, socket)
            .await
            .expect("both know how to shake hands")
    }

    /// Which certificate a connection of now is shown.
    async fn shown(&self) -> CertificateDer<'static> {
        certificate_of(&self.connect(&["http/1.1"]).await)
    }

    async fn shows(&self, pem: &str) {
        let shown = async {
            while self.shown().await != certificate(pem) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, shown).await.expect("the certificate is shown");
    }
}

fn files(folder: &Path) -> TlsFiles {
    TlsFiles {
        look_interval: Duration::from_millis(5),
        ..TlsFiles::new(folder.join("certificate.pem"), folder.join("key.pem"))
    }
}

fn write(folder: &Path, certificate: &str, key: &str) {
    fs::write(folder.join("certificate.pem"), certificate).expect("the folder is there");
    fs::write(folder.join("key.pem"), key).expect("the folder is there");
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).expect("it is one")
}

fn certificate_of(socket: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    socket.get_ref().1.peer_certificates().expect("the server shows one")[0].clone()
}

async fn ask_http1(socket: &mut TlsStream<TcpStream>) -> String {
    socket.write_all(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n").await.expect("the server reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        assert!(socket.read_buf(&mut answer).await.expect("the server answers") > 0);
    }
    String::from_utf8(answer).expect("it is text")
}

/// A connection of HTTP/2, and what ends with it.
async fn http2(socket: TlsStream<TcpStream>) -> (SendRequest<Empty<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await;
    let (requests, connection) = shaken.expect("the server speaks HTTP/2");
    (requests, tokio::spawn(connection))
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://localhost{path}")).body(Empty::new()).expect("it is a request")
}

#[tokio::test]
async fn each_client_gets_what_it_prefers_of_what_is_spoken() {
    let fixture = Fixture::start(|_| {}).await;
    for (offered, chosen) in
        [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)]
    {
        let mut socket = fixture.connect(offered).await;
        assert_eq!(socket.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes));
        if chosen == Some("h2") {
            let (mut requests, _connection) = http2(socket).await;
            let answer = requests.send_request(request("/hello")).await.expect("it is answered");
            assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
        } else {
            assert!(ask_http1(&mut socket).await.starts_with("HTTP/1.1 200 OK"));
        }
    }
}

#[tokio::test]
async fn another_certificate_counts_for_who_comes_and_ends_nobody() {
    let fixture = Fixture::start(|_| {}).await;
    let mut before = fixture.connect(&["http/1.1"]).await;
    assert_eq!(certificate_of(&before), certificate(ONE.0));
    write(fixture.folder.path(), OTHER.0, OTHER.1);
    fixture.shows(OTHER.0).await;
    ask_http1(&mut before).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_certificate_until_others_can() {
    let fixture = Fixture::start(|_| {}).await;
    for (certificate_text, key) in [("", OTHER.1), (OTHER.0, "nonsense"), (OTHER.0, ONE.1)] {
        write(fixture.folder.path(), certificate_text, key);
        for _ in 0..4 {
            assert_eq!(fixture.shown().await, certificate(ONE.0), "{certificate_text} {key}");
        }
    }
    fs::remove_file(fixture.folder.path().join("key.pem")).expect("it is there");
    assert_eq!(fixture.shown().await, certificate(ONE.0));
    write(fixture.folder.path(), OTHER.0, OTHER.1);
    fixture.shows(OTHER.0).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut said = Vec::new();
    for (certificate, key) in [("", ONE.1), (ONE.0, ""), (OTHER.0, ONE.1), (ONE.1, ONE.1)] {
        write(folder.path(), certificate, key);
        match Tls::open(files(folder.path())).await {
            Err(error @ ListenError::Tls { .. }) => said.push(error.to_string()),
            _ => panic!("{certificate} with {key} cannot be used"),
        }
    }
    fs::remove_file(folder.path().join("certificate.pem")).expect("it is there");
    said.extend(Tls::open(files(folder.path())).await.err().map(|error| error.to_string()));
    let said = said.join("\n").replace(&folder.path().display().to_string(), "FOLDER");
    insta::assert_snapshot!(said);
}

#[tokio::test]
async fn who_does_not_shake_hands_in_time_is_sent_away() {
    let fixture = Fixture::start(|config| config.request_head_time_max = Duration::from_millis(30)).await;
    // Nothing, half of a handshake's first record, and what is none.
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"GET /hello HTTP/1.1\r\n\r\n"] {
        let mut socket = TcpStream::connect(fixture.address).await.expect("the server accepts");
        socket.write_all(begun).await.expect("the server reads");
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "after {begun:?} it is still there");
    }
    let mut socket = fixture.connect(&["h2"]).await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "after the handshake it says nothing and is still there");
}

#[tokio::test]
async fn a_connection_of_http2_ends_when_nothing_goes_on_and_no_sooner() {
    let fixture = Fixture::start(|config| {
        config.request_head_time_max = Duration::from_millis(500);
        config.idle_time_max = Duration::from_millis(40);
    })
    .await;
    let (mut busy, busy_connection) = http2(fixture.connect(&["h2"]).await).await;
    let mut endless = busy.send_request(request("/endless")).await.expect("it is answered").into_body();
    endless.frame().await.expect("it goes on").expect("nothing is wrong");
    let (mut idle, idle_connection) = http2(fixture.connect(&["h2"]).await).await;
    let answer = idle.send_request(request("/hello")).await.expect("it is answered");
    assert_eq!(answer.into_body().collect().await.expect("it ends").to_bytes(), "hello");
    let ended = tokio::time::timeout(PATIENCE, idle_connection).await.expect("it ends");
    ended.expect("nothing panics").expect("it ends well");
    assert!(!busy_connection.is_finished());
    drop(endless);
    tokio::time::timeout(PATIENCE, busy_connection)
        .await
        .expect("it ends as well")
        .expect("nothing panics")
        .ok();
}

#[tokio::test]
async fn a_stop_waits_for_no_handshake() {
    let fixture = Fixture::start(|_| {}).await;
    let _silent = TcpStream::connect(fixture.address).await.expect("the server accepts");
    let shaken = fixture.connect(&["http/1.1"]).await;
    fixture.stop.cancel();
    tokio::time::timeout(PATIENCE, fixture.server).await.expect("it ends").expect("nothing panics");
    drop(shaken);
}

/// Takes every server: a test looks at its certificate itself.
#[derive(Debug)]
struct Whoever;

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
