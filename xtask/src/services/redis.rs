//! A private Redis: on a free port of 127.0.0.1, in a temporary folder, with nothing kept on disk unless it is told so.
//!
//! In: further arguments. Out: a running server, and the ways to end it that a fault test needs.
//! Always: ready when a call returns; the port stays the same from start to start. Dropped, server and folder are gone.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::{Folder, port, spoken};
use crate::process::Service;
use crate::setup;

const READY_WITHIN: Duration = Duration::from_secs(30);
/// A port that we found free may be taken before the server listens on it.
const PORTS_TRIED_MAX: u32 = 5;
const READY: &str = "Ready to accept connections";
const PORT_TAKEN: &str = "Failed listening on port";

const MISSING: &str =
    "Redis is not installed: run `cargo xtask test` or `cargo xtask bench fanout`, which install it";

/// Arguments by which everything that was acknowledged is there after `kill -9`.
pub const KEPT: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// A private Redis server.
#[derive(Debug)]
pub struct Redis {
    // Before the folder: fields are dropped in this order.
    server: Option<Service>,
    folder: Folder,
    port: u16,
    arguments: Vec<String>,
}

impl Redis {
    /// Starts a server. Blocks until it accepts connections.
    ///
    /// # Errors
    /// Redis is not installed, or does not start: then with what it said.
    pub fn start() -> Result<Redis> {
        Redis::start_with(&[])
    }

    /// As [`Redis::start`], with further arguments; with a certificate among them, clients need TLS.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn start_with(arguments: &[&str]) -> Result<Redis> {
        let folder = Folder::new("redis")?;
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut redis = Redis { server: None, folder, port: 0, arguments };
        for attempt in 1.. {
            redis.port = port::free().context("could not find a free port")?;
            match redis.run() {
                Ok(()) => break,
                Err(said) if attempt >= PORTS_TRIED_MAX || !said.to_string().contains(PORT_TAKEN) => {
                    return Err(said);
                }
                Err(_) => {}
            }
        }
        Ok(redis)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Stands still from now on, or goes on: its connections stay open meanwhile.
    pub fn pause(&mut self, is_paused: bool) {
        if let Some(server) = &mut self.server {
            server.signal(if is_paused { Signal::SIGSTOP } else { Signal::SIGCONT });
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill9(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill_with_children();
        }
    }

    /// Ends it if it runs, and starts it again, in the same place. Blocks until it accepts connections.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill9();
        self.run()
    }

    fn run(&mut self) -> Result<()> {
        let program = setup::find_redis()?.context(MISSING)?;
        let mut command = Service::command(&program, Signal::SIGKILL);
        let port = self.port.to_string();
        let is_encrypted = self.arguments.iter().any(|argument| argument == "--tls-cert-file");
        let listen: &[&str] =
            if is_encrypted { &["--port", "0", "--tls-port", &port] } else { &["--port", &port] };
        command.args(["--bind", "127.0.0.1", "--save", ""]).args(listen).args(&self.arguments);
        self.folder.run_inside(&mut command).stdout(Stdio::piped()).stderr(Stdio::null());
        let log = self.folder.path().join("log");
        let mut server = Service::start(command).context("could not start Redis")?;
        let file = File::create(&log).context("could not make the log")?;
        let ready = spoken::until(READY, server.child().stdout.take(), file);
        if ready.recv_timeout(READY_WITHIN).is_err() {
            bail!("Redis did not start; it said:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
        }
        self.server = Some(server);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_private_redis_answers_and_leaves_nothing_when_dropped() {
        let redis = Redis::start().unwrap();
        let mut client = TcpStream::connect(redis.address()).unwrap();
        client.write_all(b"PING\r\n").unwrap();
        let mut answer = [0; 7];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+PONG\r\n");
        let folder = redis.folder.path().to_path_buf();
        drop(redis);
        assert!(!folder.exists());
        assert_eq!(client.read(&mut answer).unwrap(), 0);
    }

    #[test]
    fn what_is_kept_is_there_after_kill_9_and_else_it_is_not() {
        for (arguments, expected) in [(KEPT, "$1\r\n1\r\n"), (&[], "$-1\r\n")] {
            let mut redis = Redis::start_with(arguments).unwrap();
            let ask = |redis: &Redis, command: &str| {
                let mut client = TcpStream::connect(redis.address()).unwrap();
                client.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).unwrap();
                answer
            };
            assert_eq!(ask(&redis, "SET a 1"), "+OK\r\n+OK\r\n");
            redis.restart().unwrap();
            assert_eq!(ask(&redis, "GET a"), format!("{expected}+OK\r\n"));
        }
    }
}
