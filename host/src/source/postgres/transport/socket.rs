//! A way to the server: a socket, encrypted if the URL asks for it.
//!
//! In: where the server is, and what the URL says about encryption. Out: a [`Stream`] on which a session can begin,
//! for replication and for SQL alike.
//!
//! Invariants:
//! - a server cannot have a password in clear from us but on an encrypted connection or a local socket;
//! - nothing that came before the encryption is taken for something that came within it;
//! - a peer that is gone without a word is noticed by the kernel within [`SOURCE_SILENCE_TIME_MAX`].

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use nix::sys::socket::{setsockopt, sockopt};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::{self, SslMode, Tls};
use crate::limits::{SOURCE_PROBE_INTERVAL, SOURCE_QUIET_TIME_MAX, SOURCE_SILENCE_TIME_MAX};

/// Signs of life that may be missing: with those before, as long as the stream may be silent.
const KEEPALIVE_RETRIES: u32 = 3;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Address {
    /// A name, or the folder of a socket, which begins with `/`.
    pub(in super::super) host: String,
    /// Where to go instead of looking the name up.
    pub(in super::super) numeric: Option<std::net::IpAddr>,
    pub(in super::super) port: u16,
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum DialError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file of the URL cannot be used.
    #[error("{0}")]
    Files(String),
    /// The server has no encryption.
    #[error("the server does not offer it: SET ssl = on, or use sslmode=disable on a network that you trust")]
    NotOffered,
    /// The server is not the one that it should be, or does not take us.
    #[error("{error}{}", tls::advice(.error))]
    Handshake {
        /// What is wrong.
        error: rustls::Error,
    },
}

/// Goes there.
pub(in super::super) async fn dial(address: &Address, tls: &Tls) -> Result<Stream, DialError> {
    if address.host.starts_with('/') {
        let path = Path::new(&address.host).join(format!(".s.PGSQL.{}", address.port));
        return Ok(Stream::new(Socket::Local(UnixStream::connect(path).await?)));
    }
    let mut tcp = match address.numeric {
        Some(numeric) => TcpStream::connect((numeric, address.port)).await?,
        None => TcpStream::connect((address.host.as_str(), address.port)).await?,
    };
    watch_over(&tcp)?;
    if tls.mode == SslMode::Disable {
        return Ok(Stream::new(Socket::Clear(tcp)));
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await?;
    // One byte and no further one: what an attacker sends after it must not count.
    match tcp.read_u8().await? {
        b'S' => encrypt(address, tls, tcp).await,
        _ if tls.mode == SslMode::Prefer => {
            if tls.root.is_some() {
                return Err(DialError::NotOffered);
            }
            Ok(Stream::new(Socket::Clear(tcp)))
        }
        _ => Err(DialError::NotOffered),
    }
}

async fn encrypt(address: &Address, tls: &Tls, tcp: TcpStream) -> Result<Stream, DialError> {
    let client = tls.client().map_err(DialError::Files)?;
    let name = ServerName::try_from(address.host.clone())
        .map_err(|_| DialError::Files("the host is no name that a certificate can have".to_owned()))?;
    let connector = TlsConnector::from(Arc::new(client));
    let encrypted = connector.connect(name, tcp).await.map_err(|error| {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        cause.cloned().map_or(DialError::Io(error), |error| DialError::Handshake { error })
    })?;
    Ok(Stream::new(Socket::Encrypted(Box::new(encrypted))))
}

/// A peer may be gone without a word while an answer is awaited, or while there is nothing to ask for.
fn watch_over(tcp: &TcpStream) -> io::Result<()> {
    let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let silence = u32::try_from(SOURCE_SILENCE_TIME_MAX.as_millis()).unwrap_or(u32::MAX);
    tcp.set_nodelay(true)?;
    setsockopt(tcp, sockopt::KeepAlive, &true)?;
    setsockopt(tcp, sockopt::TcpKeepIdle, &seconds(SOURCE_QUIET_TIME_MAX))?;
    setsockopt(tcp, sockopt::TcpKeepInterval, &seconds(SOURCE_PROBE_INTERVAL))?;
    setsockopt(tcp, sockopt::TcpKeepCount, &KEEPALIVE_RETRIES)?;
    setsockopt(tcp, sockopt::TcpUserTimeout, &silence)?;
    Ok(())
}

/// A way to the server.
#[derive(Debug)]
pub(in super::super) struct Stream {
    socket: Socket,
    first: First,
}

#[derive(Debug)]
enum Socket {
    Local(UnixStream),
    Clear(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn new(socket: Socket) -> Self {
        let first = match &socket {
            Socket::Clear(_) => First::Awaited { bytes: [0; FIRST_BYTES], count: 0 },
            Socket::Local(_) | Socket::Encrypted(_) => First::Harmless,
        };
        Self { socket, first }
    }

    /// Whether nobody between us and the server can read what is sent.
    pub(super) fn is_private(&self) -> bool {
        !matches!(self.socket, Socket::Clear(_))
    }

    /// What binds a password to this connection.
    pub(in super::super) fn end_point(&self) -> Option<Vec<u8>> {
        let Socket::Encrypted(stream) = &self.socket else { return None };
        stream.get_ref().1.peer_certificates()?.first().and_then(|certificate| tls::end_point(certificate))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(match &mut this.socket {
            Socket::Local(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Encrypted(stream) => Pin::new(stream).poll_read(context, buffer),
        })?;
        Poll::Ready(this.first.look(&buffer.filled()[before..]))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            Socket::Local(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Clear(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Local(stream) => Pin::new(stream).poll_flush(context),
            Socket::Clear(stream) => Pin::new(stream).poll_flush(context),
            Socket::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Local(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// The server asked for the password in clear, where others could read it.
#[derive(Debug, thiserror::Error)]
#[error("it asks for the password in clear on a connection that is not encrypted")]
pub(in super::super) struct Cleartext;

/// A request for the password in clear: its kind, its length, its number.
const CLEARTEXT: [u8; FIRST_BYTES] = [b'R', 0, 0, 0, 8, 0, 0, 0, 3];
const FIRST_BYTES: usize = 9;

/// The server's first message, on a connection that others can read. Who speaks SQL there would answer such a
/// request, so it must not see it.
#[derive(Debug)]
enum First {
    Awaited { bytes: [u8; FIRST_BYTES], count: usize },
    Harmless,
}

impl First {
    fn look(&mut self, read: &[u8]) -> io::Result<()> {
        let Self::Awaited { bytes, count } = self else { return Ok(()) };
        let more = read.len().min(FIRST_BYTES - *count);
        bytes[*count..*count + more].copy_from_slice(&read[..more]);
        *count += more;
        if bytes[..*count] != CLEARTEXT[..*count] {
            *self = Self::Harmless;
        } else if *count == FIRST_BYTES {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, Cleartext));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_the_password_in_clear_is_seen_however_it_is_cut() {
        for cut in 0..=FIRST_BYTES {
            let mut first = First::Awaited { bytes: [0; FIRST_BYTES], count: 0 };
            let seen = first.look(&CLEARTEXT[..cut]).and_then(|()| first.look(&CLEARTEXT[cut..]));
            assert!(seen.is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn other_requests_pass_and_so_does_all_that_follows() {
        let scram = [b'R', 0, 0, 0, 23, 0, 0, 0, 10];
        let mut first = First::Awaited { bytes: [0; FIRST_BYTES], count: 0 };
        first.look(&scram).expect("it asks for a proof");
        first.look(&CLEARTEXT).expect("it is not the first message");
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_noticed_as_soon_as_on_the_stream() {
        use nix::sys::socket::getsockopt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let address = Address { host: "127.0.0.1".to_owned(), numeric: None, port };
        let tls = Tls { mode: SslMode::Disable, ..Tls::default() };
        let stream = dial(&address, &tls).await.expect("somebody listens");
        let Socket::Clear(tcp) = &stream.socket else { panic!("it is not encrypted") };
        assert!(getsockopt(tcp, sockopt::KeepAlive).expect("it is a socket"));
        let idle = getsockopt(tcp, sockopt::TcpKeepIdle).expect("it is a socket");
        let probes = u64::from(KEEPALIVE_RETRIES) * SOURCE_PROBE_INTERVAL.as_secs();
        assert_eq!(u64::from(idle) + probes, SOURCE_SILENCE_TIME_MAX.as_secs());
        assert!(!stream.is_private());
    }
}
