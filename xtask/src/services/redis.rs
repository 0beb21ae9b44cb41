//! A private Redis: on a free port of 127.0.0.1, in a temporary folder, with nothing kept on disk.
//!
//! Always: ready when [`Redis::start`] returns. Dropped, server and folder are gone.

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

/// A private Redis server.
#[derive(Debug)]
pub struct Redis {
    // Before the folder: fields are dropped in this order.
    _server: Service,
    _folder: Folder,
    port: u16,
}

impl Redis {
    /// Starts a server. Blocks until it accepts connections.
    ///
    /// # Errors
    /// Redis is not installed, or does not start: then with what it said.
    pub fn start() -> Result<Redis> {
        let program = setup::find_redis()?.context(MISSING)?;
        let folder = Folder::new("redis")?;
        for attempt in 1.. {
            let port = port::free().context("could not find a free port")?;
            let mut command = Service::command(&program, Signal::SIGKILL);
            command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
            folder.run_inside(command.arg(port.to_string())).stdout(Stdio::piped()).stderr(Stdio::null());
            let log = folder.path().join("log");
            let mut server = Service::start(command).context("could not start Redis")?;
            let file = File::create(&log).context("could not make the log")?;
            let ready = spoken::until(READY, server.child().stdout.take(), file);
            if ready.recv_timeout(READY_WITHIN).is_ok() {
                return Ok(Redis { _server: server, _folder: folder, port });
            }
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if attempt >= PORTS_TRIED_MAX || !said.contains(PORT_TAKEN) {
                bail!("Redis did not start; it said:\n{said}");
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
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
        let folder = redis._folder.path().to_path_buf();
        drop(redis);
        assert!(!folder.exists());
        assert_eq!(client.read(&mut answer).unwrap(), 0);
    }
}
