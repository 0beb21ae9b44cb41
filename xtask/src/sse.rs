//! A client of server-sent events, for the demo, the tests and the benches: HTTP/1.1 over a plain TCP stream.
//!
//! In: an address, a path, perhaps the id to resume from. Out: [`Event`]s, each with the instant its bytes came.
//! Always: [`SseClient::next`] may be dropped between events without losing any (it awaits only one read).
//! Absent on purpose: TLS, redirects, reconnection: whoever tests resuming wants to do that by hand.
//! Parsing follows the HTML standard, section 9.2.6, but for one thing: an event's `id` is what *it* carried, not
//! what an earlier one did.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
const REFUSAL_WITHIN: Duration = Duration::from_secs(5);

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its kind; `message` where none is named.
    pub event: String,
    /// The id that it carried.
    pub id: Option<String>,
    /// Its data, lines joined by a line feed.
    pub data: String,
    /// When the bytes that complete it were read.
    pub received: Instant,
}

/// An answer other than 200.
#[derive(Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body, as it came.
    pub body: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}: {}", self.status, self.body.trim_end())
    }
}

impl std::error::Error for Refused {}

/// An open stream of events.
#[derive(Debug)]
pub struct SseClient {
    stream: TcpStream,
    head: String,
    body: Body,
    parser: Parser,
}

impl SseClient {
    /// Asks for `path` (with its query), resuming after `last_event_id` if there is one; waits for the head of the
    /// answer.
    ///
    /// # Errors
    /// The server cannot be reached, does not speak HTTP/1.1, or refuses: then a [`Refused`].
    pub async fn connect(address: SocketAddr, path: &str, last_event_id: Option<&str>) -> Result<SseClient> {
        let mut stream =
            TcpStream::connect(address).await.with_context(|| format!("could not reach {address}"))?;
        stream.set_nodelay(true)?;
        let resume = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n{resume}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut read = Vec::new();
        let head = loop {
            if let Some(head) = parse_head(&read)? {
                break head;
            }
            ensure!(
                read.len() < HEAD_BYTES_MAX,
                "the head of the answer is larger than {HEAD_BYTES_MAX} bytes"
            );
            ensure!(
                stream.read_buf(&mut read).await? > 0,
                "the server closed the connection without an answer"
            );
        };
        let mut client = SseClient { stream, head: head.text, body: head.body, parser: Parser::default() };
        let rest = &read[head.length..];
        if head.status != 200 {
            let body = client.body_text(rest).await;
            return Err(Refused { status: head.status, head: client.head, body }.into());
        }
        client.take(rest)?;
        Ok(client)
    }

    /// The next event; nothing once the server has ended the stream.
    ///
    /// # Errors
    /// The connection breaks, or what comes is no HTTP.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        let mut read = Vec::with_capacity(16 * 1024);
        loop {
            if let Some(event) = self.parser.events.pop_front() {
                return Ok(Some(event));
            }
            if self.body.is_over() {
                return Ok(None);
            }
            read.clear();
            if self.stream.read_buf(&mut read).await? == 0 {
                return match self.body {
                    Body::UntilClose => Ok(None),
                    _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                };
            }
            self.take(&read)?;
        }
    }

    /// The head of the answer, as it came.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// The last id that any event carried: what to resume from.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.parser.last_event_id.as_deref()
    }

    /// How long the server asks to wait before a reconnection, if it said so.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.parser.retry
    }

    /// How many comments came (heartbeats are comments).
    #[must_use]
    pub fn comments_count(&self) -> u64 {
        self.parser.comments_count
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let mut payload = Vec::with_capacity(bytes.len());
        self.body.decode(bytes, &mut payload)?;
        self.parser.push(&payload, Instant::now())
    }

    /// What a refusal says; as much of it as comes within a bounded time.
    async fn body_text(&mut self, rest: &[u8]) -> String {
        let mut payload = Vec::new();
        let mut read = rest.to_vec();
        let all = async {
            while self.body.decode(&read, &mut payload).is_ok()
                && !self.body.is_over()
                && payload.len() < REFUSAL_BYTES_MAX
            {
                read.clear();
                if !matches!(self.stream.read_buf(&mut read).await, Ok(length) if length > 0) {
                    return;
                }
            }
        };
        // What has come by then is what there is to show.
        let _ = tokio::time::timeout(REFUSAL_WITHIN, all).await;
        String::from_utf8_lossy(&payload).into_owned()
    }
}

struct Head {
    status: u16,
    text: String,
    body: Body,
    /// Bytes that it took, the empty line included.
    length: usize,
}

/// The head at the start of `read`, if all of it is there.
fn parse_head(read: &[u8]) -> Result<Option<Head>> {
    let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&read[..end]).into_owned();
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.with_context(|| format!("not an answer in HTTP/1.1: {:?}", text.lines().next()))?;
    let header = |name: &str| {
        // The first of its name is the one that counts here; servers send one.
        let fields = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(its, _)| its.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    };
    let body = if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        Body::Chunked(Chunk::Size(Vec::new()))
    } else if let Some(length) = header("content-length") {
        Body::Length(length.parse().context("the answer's content-length is no number")?)
    } else {
        Body::UntilClose
    };
    Ok(Some(Head { status, body, length: end + 4, text }))
}

/// How the body is framed (RFC 9112, section 6), and how far it has been read.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    UntilClose,
    Length(usize),
    Chunked(Chunk),
}

#[derive(Debug, PartialEq, Eq)]
enum Chunk {
    /// In the line with the size, so far these bytes.
    Size(Vec<u8>),
    /// In the data, so many bytes to go.
    Data(usize),
    /// In the line break after the data, so many bytes to go.
    Break(usize),
    /// After the chunk of size 0; trailers do not matter here.
    Over,
}

impl Body {
    fn is_over(&self) -> bool {
        matches!(self, Body::Length(0) | Body::Chunked(Chunk::Over))
    }

    /// Appends to `payload` what of `bytes` is payload.
    fn decode(&mut self, bytes: &[u8], payload: &mut Vec<u8>) -> Result<()> {
        match self {
            Body::UntilClose => payload.extend(bytes),
            Body::Length(left) => {
                let taken = bytes.len().min(*left);
                payload.extend(&bytes[..taken]);
                *left -= taken;
            }
            Body::Chunked(chunk) => {
                let mut rest = bytes;
                while !rest.is_empty() && *chunk != Chunk::Over {
                    rest = chunk.step(rest, payload)?;
                }
            }
        }
        Ok(())
    }
}

impl Chunk {
    /// Takes some of `bytes` and gives the rest.
    fn step<'a>(&mut self, bytes: &'a [u8], payload: &mut Vec<u8>) -> Result<&'a [u8]> {
        match self {
            // Size → Size, Data, Over
            Chunk::Size(line) => {
                let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                    line.extend(bytes);
                    ensure!(line.len() < 1024, "a chunk's size is longer than 1024 bytes");
                    return Ok(&[]);
                };
                line.extend(&bytes[..end]);
                let text = String::from_utf8_lossy(line);
                // After `;` come extensions.
                let digits = text.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16)
                    .with_context(|| format!("not a chunk's size: {text:?}"))?;
                *self = if size == 0 { Chunk::Over } else { Chunk::Data(size) };
                Ok(&bytes[end + 1..])
            }
            // Data → Data, Break
            Chunk::Data(left) => {
                let (taken, rest) = bytes.split_at(bytes.len().min(*left));
                payload.extend(taken);
                *left -= taken.len();
                if *left == 0 {
                    *self = Chunk::Break(2);
                }
                Ok(rest)
            }
            // Break → Break, Size
            Chunk::Break(left) => {
                *left -= 1;
                if *left == 0 {
                    *self = Chunk::Size(Vec::new());
                }
                Ok(&bytes[1..])
            }
            Chunk::Over => Ok(&[]),
        }
    }
}

/// From the bytes of the stream to events.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    /// A carriage return ended the last line: a line feed right after it belongs to it.
    after_return: bool,
    begun: bool,
    event: String,
    data: Option<String>,
    id: Option<String>,
    last_event_id: Option<String>,
    retry: Option<Duration>,
    comments_count: u64,
    events: VecDeque<Event>,
}

impl Parser {
    fn push(&mut self, mut bytes: &[u8], received: Instant) -> Result<()> {
        if self.after_return && bytes.first() == Some(&b'\n') {
            bytes = &bytes[1..];
        }
        self.after_return &= bytes.is_empty();
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.line.extend(&bytes[..end]);
            let line = std::mem::take(&mut self.line);
            self.end_line(&String::from_utf8_lossy(&line), received);
            let is_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if is_return {
                match bytes.first() {
                    Some(b'\n') => bytes = &bytes[1..],
                    Some(_) => {}
                    None => self.after_return = true,
                }
            }
        }
        self.line.extend(bytes);
        if self.line.len() > LINE_BYTES_MAX {
            bail!("a line of the stream is longer than {LINE_BYTES_MAX} bytes");
        }
        Ok(())
    }

    fn end_line(&mut self, line: &str, received: Instant) {
        let line = if self.begun { line } else { line.strip_prefix('\u{feff}').unwrap_or(line) };
        self.begun = true;
        if line.is_empty() {
            return self.dispatch(received);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comments_count += 1,
            "event" => value.clone_into(&mut self.event),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" => {
                if let Ok(milliseconds) = value.parse() {
                    self.retry = Some(Duration::from_millis(milliseconds));
                }
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, received: Instant) {
        let id = self.id.take();
        if id.is_some() {
            self.last_event_id.clone_from(&id);
        }
        let named = std::mem::take(&mut self.event);
        if let Some(data) = self.data.take() {
            let event = if named.is_empty() { "message".to_owned() } else { named };
            self.events.push_back(Event { event, id, data, received });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the parser makes of a stream, however it is cut into two.
    fn parse(stream: &str) -> Vec<(String, Option<String>, String)> {
        let parse = |cut: usize| {
            let mut parser = Parser::default();
            for part in [&stream.as_bytes()[..cut], &stream.as_bytes()[cut..]] {
                parser.push(part, Instant::now()).unwrap();
            }
            parser.events.into_iter().map(|e| (e.event, e.id, e.data)).collect::<Vec<_>>()
        };
        let whole = parse(0);
        for cut in 1..=stream.len() {
            assert_eq!(parse(cut), whole, "cut at {cut}");
        }
        whole
    }

    fn event(event: &str, id: Option<&str>, data: &str) -> (String, Option<String>, String) {
        (event.into(), id.map(Into::into), data.into())
    }

    #[test]
    fn an_event_has_a_name_an_id_and_data() {
        let stream = "event: insert\nid: 1-7\ndata: {\"id\":1}\n\n";
        assert_eq!(parse(stream), [event("insert", Some("1-7"), "{\"id\":1}")]);
    }

    #[test]
    fn lines_end_with_any_of_the_three_breaks() {
        let expected = [event("message", None, "a\nb"), event("x", None, "c")];
        assert_eq!(parse("data: a\ndata: b\n\nevent:x\ndata:c\n\n"), expected);
        assert_eq!(parse("data: a\r\ndata: b\r\n\r\nevent:x\r\ndata:c\r\n\r\n"), expected);
        assert_eq!(parse("data: a\rdata: b\r\revent:x\rdata:c\r\r"), expected);
    }

    #[test]
    fn one_space_after_the_colon_is_no_data_and_a_field_may_have_none() {
        assert_eq!(parse("data:  a\n\ndata\n\n"), [event("message", None, " a"), event("message", None, "")]);
    }

    #[test]
    fn what_is_not_finished_is_not_told() {
        assert_eq!(parse("data: a\n"), []);
        assert_eq!(parse("event: x\nid: 3\n\n"), []);
    }

    #[test]
    fn comments_are_counted_and_retry_and_the_last_id_are_kept() {
        let mut parser = Parser::default();
        let stream = "\u{feff}retry: 1500\n: beat\n\nid: 5\ndata: a\n\n:\nretry: soon\nid: b\0d\ndata: b\n\nnothing: x\n\n";
        parser.push(stream.as_bytes(), Instant::now()).unwrap();
        assert_eq!(parser.retry, Some(Duration::from_millis(1500)));
        assert_eq!(parser.comments_count, 2);
        assert_eq!(parser.last_event_id.as_deref(), Some("5"));
        assert_eq!(parser.events.len(), 2);
    }

    #[test]
    fn chunks_are_joined_wherever_the_reads_cut_them() {
        let stream = b"3\r\nabc\r\n0b;x=y\r\ndefghijklmn\r\n0\r\n\r\n";
        for cut in 0..=stream.len() {
            let mut body = Body::Chunked(Chunk::Size(Vec::new()));
            let mut payload = Vec::new();
            body.decode(&stream[..cut], &mut payload).unwrap();
            body.decode(&stream[cut..], &mut payload).unwrap();
            assert_eq!(payload, b"abcdefghijklmn", "cut at {cut}");
            assert!(body.is_over());
        }
        let mut body = Body::Chunked(Chunk::Size(Vec::new()));
        assert!(body.decode(b"zz\r\n", &mut Vec::new()).is_err());
    }

    #[test]
    fn a_head_says_how_the_body_is_framed() {
        let head = |text: &str| parse_head(text.as_bytes()).unwrap().unwrap();
        let chunked = head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n");
        assert_eq!((chunked.status, chunked.length), (200, 47));
        assert_eq!(chunked.body, Body::Chunked(Chunk::Size(Vec::new())));
        assert_eq!(head("HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\n").body, Body::Length(5));
        assert_eq!(head("HTTP/1.1 200 OK\r\n\r\n").body, Body::UntilClose);
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n").unwrap().is_none());
        assert!(parse_head(b"SSH-2.0\r\n\r\n").is_err());
    }

    async fn serve(answer: &'static str) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            assert!(request.starts_with("GET /v1/events?channel=a HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("\r\nLast-Event-ID: 9\r\n"), "{request}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn events_come_until_the_server_ends_the_stream() {
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ne\r\ndata: a\n\ndata:\r\n4\r\n b\n\n\r\n0\r\n\r\n";
        let address = serve(answer).await;
        let mut client = SseClient::connect(address, "/v1/events?channel=a", Some("9")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap().data, "a");
        assert_eq!(client.next().await.unwrap().unwrap().data, "b");
        assert!(client.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_an_error() {
        let address = serve("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ne\r\ndata").await;
        let mut client = SseClient::connect(address, "/v1/events?channel=a", Some("9")).await.unwrap();
        assert!(client.next().await.is_err());
    }

    #[tokio::test]
    async fn a_refusal_has_its_status_and_its_body() {
        let address = serve("HTTP/1.1 400 Bad Request\r\ncontent-length: 10\r\n\r\nno channel").await;
        let error = SseClient::connect(address, "/v1/events?channel=a", Some("9")).await.unwrap_err();
        let refused = error.downcast_ref::<Refused>().unwrap();
        assert_eq!((refused.status, refused.body.as_str()), (400, "no channel"));
    }
}
