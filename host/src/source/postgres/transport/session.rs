//! A session: who we are, commands and their rows, then a copy of both ways.
//!
//! In: a [`Stream`], an [`Account`]. Out: rows of commands, then frames.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::super::error::Said;
use super::{Stream, TransportError};
use crate::limits::{SOURCE_MESSAGE_BYTES_MAX, SOURCE_READ_BYTES};

/// A tag and a length.
const HEAD_BYTES: usize = 5;

/// Who we are.
#[derive(Clone, Copy)]
pub(in super::super) struct Account<'a> {
    pub(in super::super) user: &'a str,
    pub(in super::super) password: Option<&'a [u8]>,
    pub(in super::super) binding: Binding,
}

/// Whether the password has to be bound to the encrypted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Binding {
    Never,
    IfOffered,
    Always,
}

/// A session.
pub(in super::super) struct Session {
    reader: Reader,
    writer: Option<WriteHalf<Stream>>,
    end_point: Option<Vec<u8>>,
    is_private: bool,
    /// The server's major version; 0 if it does not say.
    pub(in super::super) version: u32,
}

/// One message of the server.
pub(in super::super) struct Frame {
    pub(in super::super) tag: u8,
    pub(in super::super) body: Bytes,
}

/// Rows as text.
pub(in super::super) type Rows = Vec<Vec<Option<Bytes>>>;

struct Reader {
    half: ReadHalf<Stream>,
    buffer: BytesMut,
}

impl Reader {
    /// A frame that has come already.
    fn buffered(&mut self, bytes_max: usize) -> Result<Option<Frame>, TransportError> {
        let Some((head, _)) = self.buffer.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [tag, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        let Some(body) = length.checked_sub(4) else {
            return Err(TransportError::Protocol("a message shorter than its length".to_owned()));
        };
        if body > bytes_max {
            return Err(TransportError::TooLarge(body));
        }
        if self.buffer.len() < HEAD_BYTES + body {
            self.buffer.reserve((HEAD_BYTES + body - self.buffer.len()).max(SOURCE_READ_BYTES));
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        Ok(Some(Frame { tag, body: self.buffer.split_to(body).freeze() }))
    }

    /// The next frame. Cancelling loses nothing.
    async fn frame(&mut self, bytes_max: usize) -> Result<Frame, TransportError> {
        loop {
            if let Some(frame) = self.buffered(bytes_max)? {
                return Ok(frame);
            }
            if self.buffer.capacity() == self.buffer.len() {
                self.buffer.reserve(SOURCE_READ_BYTES);
            }
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

impl Session {
    /// Begins a session and shows who we are.
    ///
    /// # Errors
    /// If the server does not let us in, or wants to know us in a way that gives the password away.
    pub(in super::super) async fn begin(
        stream: Stream,
        account: Account<'_>,
        parameters: &[(&str, &str)],
    ) -> Result<Self, TransportError> {
        let (end_point, is_private) = (stream.end_point(), stream.is_private());
        let (half, writer) = tokio::io::split(stream);
        let reader = Reader { half, buffer: BytesMut::with_capacity(SOURCE_READ_BYTES) };
        let mut session = Self { reader, writer: Some(writer), end_point, is_private, version: 0 };
        let parameters = [("user", account.user)].into_iter().chain(parameters.iter().copied());
        session.send(|out| frontend::startup_message(parameters, out)).await?;
        session.authenticate(account).await?;
        loop {
            let Frame { tag, body } = session.answer().await?;
            match tag {
                b'Z' => return Ok(session),
                b'S' => {
                    if let Some(version) = body.strip_prefix(b"server_version\0") {
                        session.version = major(version);
                    }
                }
                _ => {}
            }
        }
    }

    async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<(), TransportError> {
        let mut out = BytesMut::new();
        write(&mut out)?;
        let writer = self.writer.as_mut().ok_or_else(|| unexpected("a command within a stream"))?;
        writer.write_all(&out).await?;
        writer.flush().await?;
        Ok(())
    }

    /// The next message that is no notice and no error.
    async fn answer(&mut self) -> Result<Frame, TransportError> {
        loop {
            let frame = self.reader.frame(SOURCE_MESSAGE_BYTES_MAX).await?;
            match frame.tag {
                b'E' => return Err(TransportError::Said(said(&frame.body))),
                b'N' => {}
                _ => return Ok(frame),
            }
        }
    }

    /// The next request to show who we are, and what comes with it.
    async fn request(&mut self) -> Result<(u32, Bytes), TransportError> {
        let Frame { tag, mut body } = self.answer().await?;
        if tag != b'R' || body.len() < 4 {
            return Err(unexpected("no request to show who we are"));
        }
        Ok((body.get_u32(), body))
    }

    async fn authenticate(&mut self, account: Account<'_>) -> Result<(), TransportError> {
        let (kind, detail) = self.request().await?;
        let password =
            || account.password.ok_or_else(|| TransportError::Identity("the URL has no password".to_owned()));
        if kind != 10 && account.binding == Binding::Always {
            return Err(not_bound());
        }
        match kind {
            0 => return Ok(()),
            3 if !self.is_private => {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, super::Cleartext).into());
            }
            3 => {
                let password = password()?;
                self.send(|out| frontend::password_message(password, out)).await?;
            }
            5 => {
                let salt = detail.first_chunk::<4>().ok_or_else(|| unexpected("no salt"))?;
                let hash = md5_hash(account.user.as_bytes(), password()?, *salt);
                self.send(|out| frontend::password_message(hash.as_bytes(), out)).await?;
            }
            10 => self.scram(&detail, account.binding, password()?).await?,
            _ => {
                let what = "it asks for GSSAPI, SSPI or Kerberos, which this program does not have: give the role \
                            a line with scram-sha-256 in pg_hba.conf";
                return Err(TransportError::Identity(what.to_owned()));
            }
        }
        match self.request().await? {
            (0, _) => Ok(()),
            _ => Err(unexpected("a second request to show who we are")),
        }
    }

    /// SCRAM-SHA-256 (RFC 5802, 7677): the password stays here, and the server proves that it knows us as well.
    async fn scram(
        &mut self,
        mechanisms: &[u8],
        binding: Binding,
        password: &[u8],
    ) -> Result<(), TransportError> {
        let offers = |name: &str| mechanisms.split(|byte| *byte == 0).any(|word| word == name.as_bytes());
        let end_point = self.end_point.clone().filter(|_| binding != Binding::Never);
        let (mechanism, bound) = match end_point {
            Some(end_point) if offers(SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(end_point))
            }
            _ if binding == Binding::Always => return Err(not_bound()),
            Some(_) if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            None if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
            _ => return Err(TransportError::Identity("it offers no SCRAM-SHA-256".to_owned())),
        };
        let mut scram = ScramSha256::new(password, bound);
        let first = scram.message().to_vec();
        self.send(|out| frontend::sasl_initial_response(mechanism, &first, out)).await?;
        let refused = |error: io::Error| TransportError::Identity(error.to_string());
        let (11, challenge) = self.request().await? else { return Err(unexpected("no challenge")) };
        scram.update(&challenge).map_err(refused)?;
        let proof = scram.message().to_vec();
        self.send(|out| frontend::sasl_response(&proof, out)).await?;
        // Without the server's own proof it might be anybody.
        let (12, proof) = self.request().await? else { return Err(unexpected("no proof of the server")) };
        scram.finish(&proof).map_err(refused)
    }

    /// Runs a command and gives its rows.
    ///
    /// # Errors
    /// If the server refuses, or the connection broke.
    pub(in super::super) async fn command(&mut self, command: &str) -> Result<Rows, TransportError> {
        self.send(|out| frontend::query(command, out)).await?;
        let mut rows = Rows::new();
        loop {
            let Frame { tag, body } = self.answer().await?;
            match tag {
                b'D' => rows.push(row(body).ok_or_else(|| unexpected("a row that ends too early"))?),
                b'Z' => return Ok(rows),
                _ => {}
            }
        }
    }

    /// Starts a copy of both ways; gives the way to the server.
    ///
    /// # Errors
    /// If the server refuses, or the connection broke.
    pub(in super::super) async fn copy(
        &mut self,
        command: &str,
    ) -> Result<WriteHalf<Stream>, TransportError> {
        self.send(|out| frontend::query(command, out)).await?;
        loop {
            match self.answer().await?.tag {
                b'W' => return self.writer.take().ok_or_else(|| unexpected("a second stream")),
                b'S' => {}
                _ => return Err(unexpected("no start of a stream")),
            }
        }
    }

    /// The next frame of a stream. Cancelling loses nothing.
    ///
    /// # Errors
    /// If the connection broke, or the frame is too large.
    pub(in super::super) async fn frame(&mut self, bytes_max: usize) -> Result<Frame, TransportError> {
        self.reader.frame(bytes_max).await
    }

    /// A frame of a stream that has come already.
    ///
    /// # Errors
    /// If it is too large.
    pub(in super::super) fn buffered(&mut self, bytes_max: usize) -> Result<Option<Frame>, TransportError> {
        self.reader.buffered(bytes_max)
    }
}

fn unexpected(what: &str) -> TransportError {
    TransportError::Protocol(format!("there is {what}"))
}

fn not_bound() -> TransportError {
    let what = "the URL has channel_binding=require, and the server or its certificate does not offer it";
    TransportError::Identity(what.to_owned())
}

fn major(version: &[u8]) -> u32 {
    let digits = version.iter().take_while(|byte| byte.is_ascii_digit()).take(4);
    digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

/// The code and the words of an error.
pub(super) fn said(body: &[u8]) -> Said {
    let mut said = Said { code: String::new(), message: String::new() };
    for field in body.split(|byte| *byte == 0) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match field.split_first() {
            Some((b'C', code)) => said.code = text(code),
            Some((b'M', message)) => said.message = text(message),
            _ => {}
        }
    }
    said
}

fn row(mut body: Bytes) -> Option<Vec<Option<Bytes>>> {
    let count = body.try_get_u16().ok()?;
    let mut values = Vec::new();
    for _ in 0..count {
        let length = body.try_get_i32().ok()?;
        values.push(match usize::try_from(length) {
            // Less than nothing is a null.
            Err(_) => None,
            Ok(length) if length <= body.len() => Some(body.split_to(length)),
            Ok(_) => return None,
        });
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::{Address, SslMode, Tls, dial};
    use super::*;

    const PASSWORD: &[u8] = b"s3cret";

    /// A server that says this, however it is answered, and what was said to it.
    async fn against(says: Vec<u8>) -> (Result<Session, TransportError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("somebody comes");
            stream.write_all(&says).await.expect("it is taken");
            let mut heard = Vec::new();
            // A client that gives up cuts the connection.
            let _ = stream.read_to_end(&mut heard).await;
            heard
        });
        let address = Address { host: "127.0.0.1".to_owned(), numeric: None, port };
        let tls = Tls { mode: SslMode::Disable, ..Tls::default() };
        let stream = dial(&address, &tls).await.expect("somebody listens");
        let account = Account { user: "ann", password: Some(PASSWORD), binding: Binding::IfOffered };
        let mut begun = Session::begin(stream, account, &[("database", "shop")]).await;
        if let Ok(session) = &mut begun {
            let mut writer = session.writer.take().expect("no stream was started");
            writer.shutdown().await.expect("the server listens");
        }
        (begun, server.await.expect("the server does not panic"))
    }

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("it is small").to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    fn request(kind: u32, detail: &[u8]) -> Vec<u8> {
        frame(b'R', &[&kind.to_be_bytes(), detail].concat())
    }

    fn holds(heard: &[u8], part: &[u8]) -> bool {
        heard.windows(part.len()).any(|window| window == part)
    }

    #[tokio::test]
    async fn a_password_is_not_given_in_clear_and_is_in_no_error() {
        // Whether the request comes first, or after something else that a client passes over.
        for before in [Vec::new(), frame(b'N', b"SNOTICE\0\0")] {
            let (refused, heard) = against([before, request(3, b"")].concat()).await;
            let error = refused.err().expect("others could read it");
            assert!(!holds(&heard, PASSWORD));
            let TransportError::Io(error) = &error else { panic!("{error}") };
            assert!(error.get_ref().is_some_and(|cause| cause.is::<super::super::Cleartext>()), "{error}");
        }
    }

    #[tokio::test]
    async fn an_md5_password_is_sent_as_its_hash() {
        let says = [
            request(5, b"salt"),
            request(0, b""),
            frame(b'S', &[&b"server_version\0"[..], b"15.6 (Debian 15.6-1)\0"].concat()),
            frame(b'Z', b"I"),
        ];
        let (session, heard) = against(says.concat()).await;
        assert_eq!(session.expect("it lets us in").version, 15);
        assert!(holds(&heard, md5_hash(b"ann", PASSWORD, *b"salt").as_bytes()));
        assert!(!holds(&heard, PASSWORD));
        assert!(holds(&heard, b"database\0shop\0"));
    }

    #[tokio::test]
    async fn a_server_that_lets_us_in_without_its_own_proof_is_refused() {
        let (refused, heard) = against([request(10, b"SCRAM-SHA-256\0\0"), request(0, b"")].concat()).await;
        let error = refused.err().expect("it may be anybody").to_string();
        assert!(error.contains("no challenge"), "{error}");
        assert!(!holds(&heard, PASSWORD));
    }

    #[tokio::test]
    async fn what_the_server_says_is_told_with_its_code() {
        let (refused, _) = against(frame(b'E', b"SFATAL\0C28P01\0Mno such password\0\0")).await;
        let Err(TransportError::Said(said)) = refused else { panic!("it said no") };
        assert_eq!((said.code.as_str(), said.message.as_str()), ("28P01", "no such password"));
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_or_too_short_is_refused_before_it_is_read() {
        let (refused, _) = against(vec![b'R', 0x7F, 0xFF, 0xFF, 0xFF]).await;
        assert!(matches!(refused.err(), Some(TransportError::TooLarge(_))));
        let (refused, _) = against(vec![b'R', 0, 0, 0, 3]).await;
        assert!(matches!(refused.err(), Some(TransportError::Protocol(_))));
    }

    #[test]
    fn rows_are_read_with_their_nulls_and_cut_ones_are_refused() {
        let body = Bytes::from_static(&[0, 2, 0, 0, 0, 1, b'7', 0xFF, 0xFF, 0xFF, 0xFF]);
        assert_eq!(row(body.clone()), Some(vec![Some(Bytes::from_static(b"7")), None]));
        for cut in 0..body.len() {
            assert_eq!(row(body.slice(..cut)), None);
        }
    }
}
