//! A WebSocket client over a plain socket, by RFC 6455. It shares no code with the server.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::tests::PATIENCE;

pub(super) const HANDSHAKE: &[(&str, &str)] = &[
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Whether a client answers pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    Good,
    Deaf,
}

pub(super) struct Socket {
    stream: TcpStream,
    raw: Vec<u8>,
    manners: Manners,
    /// The code and the reason with which the server ended it.
    pub(super) closed: Option<(u16, String)>,
    waiting: VecDeque<Value>,
}

impl Socket {
    /// Connects, and takes the greeting.
    pub(super) async fn open(address: SocketAddr) -> Self {
        let mut socket = Self::connect(address, "/v1/ws", Manners::Good).await;
        assert_eq!(socket.next().await.expect("a greeting comes")["type"], "hello");
        socket
    }

    pub(super) async fn connect(address: SocketAddr, target: &str, manners: Manners) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("the server accepts");
        let mut request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in HANDSHAKE {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let (raw, waiting) = (Vec::new(), VecDeque::new());
        let mut socket = Self { stream, raw, manners, closed: None, waiting };
        let end = loop {
            if let Some(at) = socket.raw.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(socket.fill().await, "the connection ended before the head did");
        };
        let head = String::from_utf8(socket.raw.drain(..end).collect()).expect("a head is ASCII");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // The example of RFC 6455, section 1.3.
        assert!(head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        socket
    }

    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.raw)).await;
        !matches!(read.expect("something comes, or the connection ends"), Ok(0) | Err(_))
    }

    /// Bytes as they are.
    pub(super) async fn send_raw(&mut self, bytes: &[u8]) {
        // The server may have ended the connection, which the test sees then.
        let _ = self.stream.write_all(bytes).await;
    }

    /// A whole text frame, without reading.
    ///
    /// # Errors
    /// If the server has ended the connection.
    pub(super) async fn flood(&mut self, text: &str) -> std::io::Result<()> {
        let length = u8::try_from(text.len()).expect("it is short");
        let frame = [&[0x80 | TEXT, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat();
        self.stream.write_all(&frame).await
    }

    pub(super) async fn send_frame(&mut self, opcode: u8, payload: &[u8]) {
        let mask = [0x1f, 0x00, 0xa5, 0x77];
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | u8::try_from(length).expect("it is small")),
            length @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(length).expect("it fits").to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().enumerate().map(|(nth, byte)| byte ^ mask[nth % 4]));
        self.send_raw(&frame).await;
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.send_frame(TEXT, text.as_bytes()).await;
    }

    /// A whole frame; none at the end of the connection.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((opcode, length, start)) = self.header()
                && self.raw.len() >= start + length
            {
                let payload = self.raw[start..start + length].to_vec();
                self.raw.drain(..start + length);
                return Some((opcode, payload));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    fn header(&self) -> Option<(u8, usize, usize)> {
        let [first, second, rest @ ..] = &*self.raw else { return None };
        assert_eq!(first & 0xf0, 0x80, "a frame of the server is whole and has no extension");
        let (length, start) = match second {
            126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).expect("it fits"), 10),
            length => (usize::from(*length), 2),
        };
        assert!(*second < 128, "a frame of the server is not masked");
        Some((first & 0x0f, length, start))
    }

    /// The next JSON; none when the server has ended it.
    pub(super) async fn next(&mut self) -> Option<Value> {
        if let Some(value) = self.waiting.pop_front() {
            return Some(value);
        }
        self.read().await
    }

    async fn read(&mut self) -> Option<Value> {
        loop {
            match self.frame().await? {
                (TEXT, text) => return Some(serde_json::from_slice(&text).expect("a frame is JSON")),
                (PING, payload) if self.manners == Manners::Good => self.send_frame(PONG, &payload).await,
                (PING | PONG, _) => {}
                (CLOSE, payload) => {
                    let (code, reason) = payload.split_first_chunk().expect("a close has a code");
                    let reason = String::from_utf8(reason.to_vec()).expect("a reason is UTF-8");
                    self.closed = Some((u16::from_be_bytes(*code), reason));
                    self.send_frame(CLOSE, &payload).await;
                    return None;
                }
                (opcode, _) => panic!("a frame of the kind {opcode} came"),
            }
        }
    }

    /// The next JSON that is no sign of life.
    pub(super) async fn event(&mut self) -> Value {
        loop {
            let value = self.next().await.expect("the conversation goes on");
            if value["type"] != "alive" {
                return value;
            }
        }
    }

    /// Sends a command, and waits for its answer; what comes before it waits.
    pub(super) async fn ask(&mut self, mut command: Value) -> Value {
        command["ref"] = 77.into();
        self.send(&command.to_string()).await;
        loop {
            let value = self.read().await.expect("an answer comes");
            if value["ref"] == 77 {
                return value;
            }
            self.waiting.push_back(value);
        }
    }

    /// Subscribes to channels, each with the id after which it begins, or an empty one.
    pub(super) async fn subscribe(&mut self, channels: &[(&str, &str)]) -> Value {
        let channels: Vec<Value> = channels
            .iter()
            .map(|(channel, after)| serde_json::json!({"channel": channel, "after": after}))
            .collect();
        let answer = self.ask(serde_json::json!({"type": "subscribe", "channels": channels})).await;
        assert_eq!(answer["type"], "subscribed", "{answer}");
        answer
    }

    /// How much came before an answer and was not looked at.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The texts of the next messages.
    pub(super) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let event = self.event().await;
            assert_eq!(event["type"], "message", "{event}");
            texts.push(event["text"].as_str().expect("the test's payloads are text").to_owned());
        }
        texts
    }

    /// Reads to the end, and says how the server ended it.
    pub(super) async fn ended(&mut self) -> Option<(u16, String)> {
        while self.next().await.is_some() {}
        self.closed.take()
    }
}
