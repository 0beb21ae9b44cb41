//! The clients: as many sockets as asked for, in one thread, that count what they get and when.
//!
//! Invariant: a message is counted by the one `@` that its payload has; nothing else that a server says has one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::server::{Face, Server, Step};

/// What a payload is filled up to, in bytes.
const PAYLOAD_BYTES: usize = 150;
/// Digits of a time in microseconds.
const TIME_DIGITS: usize = 12;
/// Connections that are being made at the same time.
const CONNECTING_COUNT_MAX: usize = 128;
/// Addresses of this machine that clients come to, so that ports suffice.
const ADDRESSES_COUNT: usize = 8;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(60);
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(20);

/// What was seen of a load.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) delivered: usize,
    /// Of the server's processor.
    pub(crate) processor_seconds: f64,
    /// From sending to receiving, in microseconds, sorted.
    pub(crate) delays: Vec<u32>,
}

impl Seen {
    pub(crate) fn per_processor_second(&self) -> f64 {
        self.delivered as f64 / self.processor_seconds
    }

    /// By the nearest rank, in milliseconds.
    pub(crate) fn delay_ms(&self, percent: usize) -> f64 {
        f64::from(self.delays[(self.delays.len() * percent).div_ceil(100) - 1]) / 1e3
    }
}

/// See the head of this file.
pub(crate) struct Crowd {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    steps: Vec<Step>,
    /// Those that have taken all steps.
    greeted: usize,
    began: Instant,
    delivered: usize,
    delays: Vec<u32>,
    buffer: Vec<u8>,
}

struct Client {
    socket: TcpStream,
    step: usize,
    heard: Vec<u8>,
}

impl Crowd {
    pub(crate) fn new(server: &Server, face: Face) -> anyhow::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(4_096),
            clients: Vec::new(),
            steps: server.greeting(face),
            greeted: 0,
            began: Instant::now(),
            delivered: 0,
            delays: Vec::new(),
            buffer: vec![0; 64 * 1_024],
        })
    }

    /// Connects until there are so many; gives how long it took.
    pub(crate) fn grow(&mut self, server: &Server, count: usize) -> anyhow::Result<Duration> {
        let began = Instant::now();
        while self.greeted < count {
            while self.clients.len() < count && self.clients.len() - self.greeted < CONNECTING_COUNT_MAX {
                self.connect(server.address.port())?;
            }
            self.turn(Duration::from_millis(100))?;
            ensure!(
                began.elapsed() < CONNECT_TIME_MAX,
                "{} of {count} connections were greeted",
                self.greeted
            );
        }
        Ok(began.elapsed())
    }

    fn connect(&mut self, port: u16) -> anyhow::Result<()> {
        let number = self.clients.len();
        let host = Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(number % ADDRESSES_COUNT)?);
        let mut socket = TcpStream::connect(SocketAddr::from((host, port)))?;
        self.poll.registry().register(&mut socket, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        self.clients.push(Client { socket, step: 0, heard: Vec::new() });
        Ok(())
    }

    /// Sends messages at that rate for so long, and waits until everybody has all of them.
    pub(crate) fn load(&mut self, server: &mut Server, rate: f64, seconds: f64) -> anyhow::Result<Seen> {
        // The first messages warm everything up.
        self.send(server, rate, rate.max(2.0) / rate)?;
        self.delays.clear();
        let before = server.processor_seconds()?;
        let delivered = self.send(server, rate, seconds)?;
        let processor_seconds = server.processor_seconds()? - before;
        let mut delays = std::mem::take(&mut self.delays);
        delays.sort_unstable();
        Ok(Seen { delivered, processor_seconds, delays })
    }

    fn send(&mut self, server: &mut Server, rate: f64, seconds: f64) -> anyhow::Result<usize> {
        let (start, already) = (Instant::now(), self.delivered);
        let messages = (rate * seconds).round() as usize;
        for number in 0..messages {
            let due = start + Duration::from_secs_f64(number as f64 / rate);
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                self.turn(left)?;
            }
            server.publish(&payload(self.began.elapsed()))?;
        }
        let (sent, expected) = (Instant::now(), messages * self.clients.len());
        while self.delivered - already < expected {
            self.turn(Duration::from_millis(100))?;
            ensure!(
                sent.elapsed() < CATCH_UP_TIME_MAX,
                "{} of {expected} were delivered",
                self.delivered - already
            );
        }
        ensure!(self.delivered - already == expected, "more was delivered than was sent");
        Ok(expected)
    }

    /// Lets what the sockets have to say be heard, for at most so long.
    pub(crate) fn turn(&mut self, time: Duration) -> anyhow::Result<()> {
        match self.poll.poll(&mut self.events, Some(time)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let ready: Vec<(usize, bool, bool)> = self
            .events
            .iter()
            .map(|event| (event.token().0, event.is_readable(), event.is_writable()))
            .collect();
        for (number, readable, writable) in ready {
            if writable && self.clients[number].step == 0 {
                self.step(number)?;
            }
            if readable {
                self.hear(number)?;
            }
        }
        Ok(())
    }

    /// Says what comes next.
    fn step(&mut self, number: usize) -> anyhow::Result<()> {
        let client = &mut self.clients[number];
        client.socket.write_all(&self.steps[client.step].say).context("could not connect")?;
        client.step += 1;
        Ok(())
    }

    fn hear(&mut self, number: usize) -> anyhow::Result<()> {
        loop {
            let length = match self.clients[number].socket.read(&mut self.buffer) {
                Ok(0) => bail!("the server has ended a connection"),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("a connection broke"),
            };
            if self.clients[number].step <= self.steps.len() {
                self.hear_greeting(number, length)?;
            } else {
                self.count(length);
            }
            // What is less than asked for is all there was.
            if length < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn hear_greeting(&mut self, number: usize, length: usize) -> anyhow::Result<()> {
        let client = &mut self.clients[number];
        client.heard.extend(&self.buffer[..length]);
        let until = &self.steps[client.step - 1].until;
        if !client.heard.windows(until.len()).any(|part| part == until) {
            return Ok(());
        }
        ensure!(
            client.heard.starts_with(b"HTTP/1.1 200") || client.heard.starts_with(b"HTTP/1.1 101"),
            "the server says {:?}",
            String::from_utf8_lossy(&client.heard)
        );
        if client.step < self.steps.len() {
            return self.step(number);
        }
        client.step += 1;
        client.heard = Vec::new();
        self.greeted += 1;
        Ok(())
    }

    fn count(&mut self, length: usize) {
        let now = self.began.elapsed().as_micros();
        let bytes = &self.buffer[..length];
        for place in memchr::memchr_iter(b'@', bytes) {
            self.delivered += 1;
            let digits = bytes.get(place + 1..place + 1 + TIME_DIGITS);
            // The rest of a message may come later: its delay is then not counted, the message is.
            if let Some(sent) =
                digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u128>().ok())
            {
                self.delays.push(u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX));
            }
        }
    }
}

fn payload(at: Duration) -> String {
    let start = format!(r#"{{"at":"@{:0TIME_DIGITS$}","pad":""#, at.as_micros());
    let pad = PAYLOAD_BYTES - start.len() - 2;
    format!(r#"{start}{}"}}"#, "x".repeat(pad))
}
