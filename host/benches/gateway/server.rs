//! The servers under load: processes of their own, on a core of their own.
//!
//! Each of ours prints two addresses as its first line, of its listener and of its publisher, which takes a payload a
//! line; it ends with its standard input.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
/// A channel that everybody listens to.
pub(crate) const CHANNEL: &str = "bench";

/// Pins this process to its core, and lets it have as many sockets as it may.
pub(crate) fn prepare() -> anyhow::Result<()> {
    let own = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-cp", LOAD_CORE, &own]).stdout(Stdio::null()).status();
    ensure!(pinned.context("`taskset` of util-linux is needed")?.success(), "there is no second core");
    raise_descriptors()
}

/// Lets this process have as many sockets as it may.
pub(crate) fn raise_descriptors() -> anyhow::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// Ends this process with its standard input. Clients are still there then, and nobody waits for a good-bye.
pub(crate) fn exit_with_input() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

/// nginx with nchan, which somebody else has started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nchan {
    pub(crate) address: SocketAddr,
    /// Of its one worker.
    pub(crate) pid: u32,
}

/// Whom clients talk to, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    EventStream,
    WebSocket,
}

/// A server that runs.
pub(crate) struct Server {
    kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    publisher: TcpStream,
}

enum Kind {
    Ours(Child),
    /// A child as ours, which greets whoever connects.
    Floor(Child),
    Nchan,
}

impl Server {
    /// The gateway, or one of the programs that it is compared with.
    pub(crate) fn start(program: &str) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CORE]).arg(own).arg(program);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("it has an output")?).read_line(&mut line)?;
        let (address, publisher) = line.trim().split_once(' ').context("the server said where it is")?;
        let publisher = TcpStream::connect(publisher)?;
        publisher.set_nodelay(true)?;
        let (address, pid) = (address.parse()?, child.id());
        let kind = if program == "serve" { Kind::Ours(child) } else { Kind::Floor(child) };
        Ok(Self { kind, address, pid, publisher })
    }

    pub(crate) fn nchan(nchan: &Nchan) -> anyhow::Result<Self> {
        let publisher = TcpStream::connect(nchan.address)?;
        publisher.set_nodelay(true)?;
        Ok(Self { kind: Kind::Nchan, address: nchan.address, pid: nchan.pid, publisher })
    }

    /// What a client sends, step by step, each with what the server has to have said to it.
    pub(crate) fn greeting(&self, face: Face) -> Vec<Step> {
        let path = match (&self.kind, face) {
            (Kind::Floor(_), _) => {
                return vec![Step::new("GET / HTTP/1.1\r\nHost: bench\r\n\r\n", "\r\n\r\n")];
            }
            (Kind::Nchan, _) => "/sub".to_owned(),
            (Kind::Ours(_), Face::EventStream) => format!("/v1/events?channel={CHANNEL}"),
            (Kind::Ours(_), Face::WebSocket) => "/v1/ws".to_owned(),
        };
        if face == Face::EventStream {
            let head = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n");
            // Ours follows the channel once it has said when to come back.
            let until = if matches!(self.kind, Kind::Ours(_)) { "retry" } else { "\r\n\r\n" };
            return vec![Step::new(&head, until)];
        }
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut steps = vec![Step::new(&head, "\r\n\r\n")];
        if matches!(self.kind, Kind::Ours(_)) {
            let command = format!(r#"{{"type":"subscribe","channels":[{{"channel":"{CHANNEL}"}}]}}"#);
            steps.push(Step { say: masked(command.as_bytes()), until: b"subscribed".to_vec() });
        }
        steps
    }

    /// Sends a message, and does not wait.
    pub(crate) fn publish(&mut self, payload: &str) -> anyhow::Result<()> {
        let bytes = match self.kind {
            Kind::Ours(_) | Kind::Floor(_) => format!("{payload}\n"),
            Kind::Nchan => {
                format!(
                    "POST /pub HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n{payload}",
                    payload.len()
                )
            }
        };
        self.publisher.write_all(bytes.as_bytes())?;
        if matches!(self.kind, Kind::Nchan) {
            // Its answers would fill the line.
            self.publisher.set_nonblocking(true)?;
            let _ = self.publisher.read(&mut [0; 4_096]);
            self.publisher.set_nonblocking(false)?;
        }
        Ok(())
    }

    /// Processor time that it has used, in seconds.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<f64> {
        // Fields 14 and 15 of proc_pid_stat(5), in hundredths of a second; the name before them may have spaces.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let fields = stat.rsplit_once(')').context("a line of proc_pid_stat(5)")?.1;
        let ticks: Vec<f64> =
            fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / 100.0)
    }

    /// Memory of its own, in KiB.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        Ok(line.and_then(|line| line.split_whitespace().next()).context("it has RssAnon")?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Kind::Ours(child) | Kind::Floor(child) = &mut self.kind {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// A part of a greeting.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) say: Vec<u8>,
    pub(crate) until: Vec<u8>,
}

impl Step {
    fn new(say: &str, until: &str) -> Self {
        Self { say: say.as_bytes().to_vec(), until: until.as_bytes().to_vec() }
    }
}

/// A short text frame of a client, its mask nothing but zeros.
fn masked(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("the command is short");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text].concat()
}
