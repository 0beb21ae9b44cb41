//! A client over a plain socket: HTTP/1.1 with chunks or until its end, and the parser of `text/event-stream` as WHATWG HTML 9.2.6
//! writes it. It shares no code with the server.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything takes; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An event as a browser would dispatch it, with our own fields beside it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    pub(crate) event: String,
    pub(crate) channel: String,
    pub(crate) id: String,
    pub(crate) data: String,
    /// Whether it is what the channel stands at, our own field as well.
    pub(crate) value: bool,
}

/// A response whose body is read as it comes.
pub(crate) struct Client {
    socket: TcpStream,
    raw: Vec<u8>,
    /// The head of the response.
    pub(crate) head: String,
    body: Vec<u8>,
    /// So much of the body has no end of a block.
    searched: usize,
    pending: VecDeque<Event>,
    fields: Event,
    has_data: bool,
    /// As a browser would send it in `Last-Event-ID`.
    pub(crate) last_id: String,
    /// The reconnection time, if the server set it.
    pub(crate) retry: Option<u64>,
    /// Every byte of the body so far.
    pub(crate) seen: String,
}

impl Client {
    /// Sends a GET and reads the head of the answer.
    pub(crate) async fn get(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Self {
        Self::request(address, "GET", target, headers).await
    }

    pub(crate) async fn request(
        address: SocketAddr,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        Self::send(address, method, target, headers, None).await
    }

    /// As [`Client::request`], with a body and its length.
    pub(crate) async fn send(
        address: SocketAddr,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Self {
        let mut socket = TcpStream::connect(address).await.expect("the server accepts");
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let request = [request.as_bytes(), body.unwrap_or_default()].concat();
        socket.write_all(&request).await.expect("the server reads");
        let mut client = Self {
            socket,
            raw: Vec::new(),
            head: String::new(),
            body: Vec::new(),
            searched: 0,
            pending: VecDeque::new(),
            fields: Event::default(),
            has_data: false,
            last_id: String::new(),
            retry: None,
            seen: String::new(),
        };
        let end = loop {
            if let Some(at) = find(&client.raw, b"\r\n\r\n") {
                break at + 4;
            }
            assert!(client.fill().await, "the connection ended before the head did");
        };
        client.head = String::from_utf8(client.raw.drain(..end).collect()).expect("a head is ASCII");
        client
    }

    /// Resumes a stream.
    pub(crate) async fn resume(address: SocketAddr, target: &str, id: &str) -> Self {
        let mut client = Self::get(address, target, &[("Last-Event-ID", id)]).await;
        client.last_id = id.to_owned();
        client
    }

    pub(crate) fn status(&self) -> &str {
        &self.head[9..12]
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix))
    }

    /// False at the end of the connection.
    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.raw)).await;
        !matches!(read.expect("something comes, or the connection ends"), Ok(0) | Err(_))
    }

    /// The rest of the answer, by its length.
    pub(crate) async fn text(mut self) -> String {
        let length: usize = self
            .header("content-length")
            .expect("a plain answer has a length")
            .parse()
            .expect("it is a number");
        while self.raw.len() < length {
            assert!(self.fill().await, "the connection ended within the body");
        }
        String::from_utf8(self.raw).expect("the body is UTF-8")
    }

    /// The rest of the answer as JSON.
    pub(crate) async fn json(self) -> serde_json::Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("the body is JSON: {text}"))
    }

    /// One more chunk of the body, or of what comes without a frame until the end; false at its end.
    async fn chunk(&mut self) -> bool {
        if self.header("transfer-encoding").is_none() {
            let is_more = !self.raw.is_empty() || self.fill().await;
            self.body.append(&mut self.raw);
            return is_more;
        }
        loop {
            if let Some(end) = find(&self.raw, b"\r\n") {
                let size = std::str::from_utf8(&self.raw[..end]).expect("a chunk's size is ASCII");
                let size = usize::from_str_radix(size, 16).expect("a chunk has a size");
                if self.raw.len() >= end + 4 + size {
                    self.body.extend_from_slice(&self.raw[end + 2..end + 2 + size]);
                    self.raw.drain(..end + 4 + size);
                    return size > 0;
                }
            }
            if !self.fill().await {
                return false;
            }
        }
    }

    /// All chunks until the end.
    pub(crate) async fn rest(&mut self) -> String {
        while self.chunk().await {}
        String::from_utf8(std::mem::take(&mut self.body)).expect("the body is UTF-8")
    }

    /// Reads at least until the next empty line; false if the stream ended first.
    pub(crate) async fn block(&mut self) -> bool {
        loop {
            if let Some(end) = find(&self.body[self.searched..], b"\n\n").map(|end| self.searched + end) {
                self.searched = 0;
                let block: Vec<u8> = self.body.drain(..end + 2).collect();
                let block = String::from_utf8(block).expect("the stream is UTF-8");
                self.seen.push_str(&block);
                self.parse(&block);
                return true;
            }
            self.searched = self.body.len().saturating_sub(1);
            if !self.chunk().await {
                return false;
            }
        }
    }

    /// The next event that a browser would dispatch; none if the stream ended.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        while self.pending.is_empty() {
            if !self.block().await {
                return None;
            }
        }
        self.pending.pop_front()
    }

    /// The next event of what was read already.
    pub(crate) fn waiting(&mut self) -> Option<Event> {
        self.pending.pop_front()
    }

    /// The data of the next events.
    pub(crate) async fn data(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.event().await.expect("the stream goes on").data);
        }
        all
    }

    fn parse(&mut self, block: &str) {
        let block = block.replace("\r\n", "\n").replace('\r', "\n");
        for line in block.split_terminator('\n') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.fields.event),
                "data" => {
                    self.fields.data.push_str(value);
                    self.fields.data.push('\n');
                    self.has_data = true;
                }
                "id" if !value.contains('\0') => value.clone_into(&mut self.last_id),
                "retry" => self.retry = value.parse().ok(),
                "channel" => value.clone_into(&mut self.fields.channel),
                "value" => self.fields.value = value == "true",
                "" if line.is_empty() => self.dispatch(),
                _ => {}
            }
        }
    }

    fn dispatch(&mut self) {
        let mut event = std::mem::take(&mut self.fields);
        if std::mem::take(&mut self.has_data) {
            event.data.pop();
            event.id.clone_from(&self.last_id);
            self.pending.push_back(event);
        }
    }
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}
