//! The built host as a program: `twohop serve --config FILE`.
//!
//! In: a configuration file. Out: a running host, its address, what it said on stderr, and the ways to end it that a
//! fault test needs.
//! Always: the host is ready when a call returns; a restart uses the same configuration, so the same data. Dropped,
//! it has ended; its data folder belongs to whoever named it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::place;
use crate::process::{self, Service};

/// A cold start compiles every plugin to machine code.
const READY_WITHIN: Duration = Duration::from_secs(60);
const TERMINATED_WITHIN: Duration = Duration::from_secs(30);
/// What the host prints once, on stdout, when it is ready: the one or the other.
const READY: [&str; 2] = ["listening on http://", "listening on https://"];
/// What it prints before.
const ADMIN: &str = "admin on http://";

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// The binary, where it is not the one that `cargo build` leaves.
    pub binary: Option<PathBuf>,
    /// The file that stderr is appended to.
    pub stderr: PathBuf,
    /// Further variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl Options {
    /// The configuration file, with `stderr` beside it in `host.log`.
    #[must_use]
    pub fn new(config: impl Into<PathBuf>) -> Options {
        let config = config.into();
        Options { stderr: config.with_file_name("host.log"), config, binary: None, environment: Vec::new() }
    }
}

/// A running host.
#[derive(Debug)]
pub struct Host {
    service: Option<Service>,
    options: Options,
    addresses: Addresses,
}

/// Where the host's listeners are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Addresses {
    clients: SocketAddr,
    admin: SocketAddr,
}

impl Host {
    /// Starts the host that cargo built. Blocks until it is ready.
    ///
    /// # Errors
    /// It is not built, ends instead of becoming ready (then with what it said), or takes too long.
    pub fn start(options: Options) -> Result<Host> {
        let (service, addresses) = run(&options)?;
        Ok(Host { service: Some(service), options, addresses })
    }

    /// Where its public listener is; with port 0 in the configuration, another one after each restart.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses.clients
    }

    /// Where its admin listener is, likewise.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<nix::unistd::Pid> {
        self.service.as_ref().map(Service::pid)
    }

    /// What it has said on stderr, over all its starts.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.options.stderr).unwrap_or_default()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill9(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.kill_with_children();
        }
    }

    /// Asks it to end (SIGTERM) and gives how it ended; nothing if it did not run, or had to be killed.
    pub fn terminate(&mut self) -> Option<ExitStatus> {
        let mut service = self.service.take()?;
        service.signal(Signal::SIGTERM);
        service.wait_within(TERMINATED_WITHIN)
    }

    /// Ends it if it runs, and starts it again.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.terminate();
        let (service, addresses) = run(&self.options)?;
        self.service = Some(service);
        self.addresses = addresses;
        Ok(())
    }

    /// Whether it has ended by itself, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.service.as_mut()?.wait_within(Duration::ZERO)
    }
}

/// How a host that was expected to refuse its start ended.
#[derive(Debug)]
pub struct Refusal {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said on stderr.
    pub stderr: String,
}

/// Starts a host that is expected to end by itself, and waits for that.
///
/// # Errors
/// It does not end within this time.
pub fn refusal_within(options: &Options, within: Duration) -> Result<Refusal> {
    let before = fs::read_to_string(&options.stderr).unwrap_or_default().len();
    let mut service = spawn(options)?;
    // Its pipe must be read, or it may block on writing there.
    let _ready = watch(service.child().stdout.take());
    let status = service.wait_within(within);
    let status = status.with_context(|| format!("the host still ran after {} s", within.as_secs()))?;
    let said = fs::read_to_string(&options.stderr).unwrap_or_default();
    Ok(Refusal { status, stderr: said.get(before..).unwrap_or_default().to_owned() })
}

fn spawn(options: &Options) -> Result<Service> {
    let stderr = File::options().create(true).append(true).open(&options.stderr);
    let stderr = stderr.with_context(|| format!("could not open {}", options.stderr.display()))?;
    let binary = options.binary.clone().map_or_else(place::host_binary, Ok)?;
    let mut command: Command = Service::command(&binary, Signal::SIGKILL);
    command.arg("serve").arg("--config").arg(&options.config);
    // What the person who starts us has set for a host of theirs is not for this one.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"TWOHOP_")) {
        command.env_remove(name);
    }
    command.envs(options.environment.iter().map(|(name, value)| (name, value)));
    command.stdout(Stdio::piped()).stderr(stderr);
    Service::start(command).context("could not start the host")
}

fn run(options: &Options) -> Result<(Service, Addresses)> {
    let mut service = spawn(options)?;
    let ready = watch(service.child().stdout.take());
    if let Ok(addresses) = ready.recv_timeout(READY_WITHIN) {
        return Ok((service, addresses));
    }
    let what = match service.wait_within(Duration::from_secs(1)) {
        Some(status) => format!("ended instead of starting: {}", process::describe(status)),
        None => format!("was not ready within {} s", READY_WITHIN.as_secs()),
    };
    bail!("the host {what}; it said:\n{}", tail(&options.stderr))
}

fn tail(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Reads stdout until it ends; gives the addresses once the ready line is there. The channel closes if there is none.
fn watch(stdout: Option<impl Read + Send + 'static>) -> Receiver<Addresses> {
    let (ready, told) = mpsc::channel();
    if let Some(stdout) = stdout {
        thread::spawn(move || {
            let mut admin = None;
            let address = |line: &str, said: &str| line.strip_prefix(said)?.trim().parse().ok();
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                admin = address(&line, ADMIN).or(admin);
                let clients = READY.iter().find_map(|ready| address(&line, ready));
                if let (Some(clients), Some(admin)) = (clients, admin) {
                    // Whoever waited may have given up; the pipe is read on all the same.
                    let _ = ready.send(Addresses { clients, admin });
                }
            }
        });
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_those_of_the_lines_up_to_the_ready_line() {
        let said = "a warning\nadmin on http://127.0.0.1:8081\nlistening on http://127.0.0.1:8080\n";
        let [clients, admin] = ["127.0.0.1:8080", "127.0.0.1:8081"].map(|address| address.parse().unwrap());
        assert_eq!(watch(Some(said.as_bytes())).recv().unwrap(), Addresses { clients, admin });
    }

    #[test]
    fn a_host_that_ends_without_the_ready_line_closes_the_channel() {
        assert!(watch(Some("listening on nothing\n".as_bytes())).recv().is_err());
    }
}
