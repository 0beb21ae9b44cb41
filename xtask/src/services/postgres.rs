//! A private PostgreSQL: initdb into a temporary folder, a server on a free port of 127.0.0.1.
//!
//! In: [`Options`]. Out: a running server, its URL, and the ways to end it that a fault test needs.
//! Always: the port stays the same from start to start; the server is ready when a call returns; the superuser is
//! `postgres`; there is no Unix socket. Dropped, server and folder are gone.
//! The server's readiness is read from its own log: no polling.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::{Folder, port, spoken};
use crate::process::{self, Service};
use crate::setup;

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// A port that we found free may be taken before the server listens on it.
const PORTS_TRIED_MAX: u32 = 5;
/// With `lc_messages=C`, these are the server's words.
const READY: &str = "database system is ready to accept connections";
const PORT_TAKEN: &str = "could not create any TCP/IP sockets";

/// How much the write-ahead log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalLevel {
    /// Enough for crash recovery alone; no replication at all.
    Minimal,
    /// Enough for a physical standby, PostgreSQL's default.
    Replica,
    /// Enough to be decoded into rows.
    Logical,
}

impl WalLevel {
    fn word(self) -> &'static str {
        match self {
            WalLevel::Minimal => "minimal",
            WalLevel::Replica => "replica",
            WalLevel::Logical => "logical",
        }
    }
}

/// How clients show who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    Trust,
    /// By password, SCRAM-SHA-256; the superuser's is [`PASSWORD`].
    Scram,
}

/// The superuser's password under [`Auth::Scram`].
pub const PASSWORD: &str = "twohop";

/// What kind of server is wanted.
#[derive(Clone, Debug)]
pub struct Options {
    /// The major version, of those that `cargo xtask test` installs; without one, the system's server.
    pub major: Option<u32>,
    /// `wal_level`.
    pub wal_level: WalLevel,
    /// How clients show who they are.
    pub auth: Auth,
    /// Further lines of `postgresql.conf`, name and value; they override ours.
    pub settings: Vec<(String, String)>,
    /// Further files of its data folder, name and contents, which its account alone can read.
    pub files: Vec<(String, String)>,
}

impl Default for Options {
    /// A server that can be captured from, without passwords, that syncs as a real one does.
    fn default() -> Self {
        Options {
            major: None,
            wal_level: WalLevel::Logical,
            auth: Auth::Trust,
            settings: Vec::new(),
            files: Vec::new(),
        }
    }
}

/// A private PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    // Before the folder: fields are dropped in this order.
    server: Option<Service>,
    bin: PathBuf,
    /// The system's, whatever the server's version.
    psql: PathBuf,
    port: u16,
    auth: Auth,
    folder: Folder,
}

impl Postgres {
    /// Makes a cluster and starts its server. Blocks until the server accepts connections.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or a step fails: then with what it said.
    pub fn start(options: Options) -> Result<Postgres> {
        let missing =
            "PostgreSQL is not installed: run `cargo xtask test` or `cargo xtask services`, which install it";
        let installed = setup::postgres_binaries()?.context(missing)?;
        let psql = installed.join("psql");
        let bin = options.major.map_or(Ok(installed), setup::postgres_binaries_of)?;
        let folder = Folder::new("postgres")?;
        initdb(&bin, &folder, options.auth)?;
        for (name, contents) in &options.files {
            let file = folder.write(&format!("data/{name}"), contents)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        }
        let mut postgres = Postgres { server: None, bin, psql, port: 0, auth: options.auth, folder };
        for attempt in 1.. {
            postgres.port = port::free().context("could not find a free port")?;
            postgres.folder.write("data/postgresql.conf", &configuration(&options, postgres.port))?;
            match postgres.run() {
                Ok(()) => break,
                Err(_) if attempt < PORTS_TRIED_MAX && postgres.log_text().contains(PORT_TAKEN) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(postgres)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the superuser's database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of a database, as the superuser.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        let password = match self.auth {
            Auth::Trust => String::new(),
            Auth::Scram => format!(":{PASSWORD}"),
        };
        format!("postgres://postgres{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The server's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the server has logged.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// `psql -c`, as the superuser in the database `postgres`; gives what it printed, unaligned, tuples only.
    ///
    /// # Errors
    /// psql fails: then with what it said.
    pub fn psql(&self, sql: &str) -> Result<String> {
        let mut command = Command::new(&self.psql);
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(self.url());
        process::capture(self.folder.run_inside(&mut command))
    }

    /// Stops the server in order, cutting its clients (a *fast* shutdown); the folder stays until the drop.
    ///
    /// # Errors
    /// It does not end in time, or says that it failed.
    pub fn stop(mut self) -> Result<()> {
        self.shut_down()
    }

    /// Stops the server in order, cutting its clients, and starts it again.
    ///
    /// # Errors
    /// It does not end or not come back in time: then with its log.
    pub fn restart(&mut self) -> Result<()> {
        self.shut_down()?;
        self.run()
    }

    /// `kill -9` of the server and all its processes; [`Postgres::restart`] starts it again.
    pub fn kill9(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill_with_children();
        }
    }

    fn shut_down(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        server.signal(Signal::SIGINT);
        match server.wait_within(STOPPED_WITHIN) {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                bail!("PostgreSQL ended badly: {}\n{}", process::describe(status), self.log_tail())
            }
            None => {
                bail!("PostgreSQL did not stop within {} s\n{}", STOPPED_WITHIN.as_secs(), self.log_tail())
            }
        }
    }

    fn run(&mut self) -> Result<()> {
        // SIGQUIT is an immediate shutdown: the server takes its own children with it.
        let mut command = Service::command(&self.bin.join("postgres"), Signal::SIGQUIT);
        command.arg("-D").arg(self.folder.path().join("data")).env("LC_ALL", "C");
        self.folder.run_inside(&mut command).stdout(Stdio::null()).stderr(Stdio::piped());
        let log =
            File::options().create(true).append(true).open(self.log()).context("could not open the log")?;
        let mut server = Service::start(command).context("could not start PostgreSQL")?;
        let ready = spoken::until(READY, server.child().stderr.take(), log);
        let outcome = ready.recv_timeout(READY_WITHIN);
        if outcome.is_ok() {
            self.server = Some(server);
            return Ok(());
        }
        drop(server);
        let what = match outcome {
            Err(RecvTimeoutError::Timeout) => format!("was not ready within {} s", READY_WITHIN.as_secs()),
            _ => "ended instead of starting".to_owned(),
        };
        bail!("PostgreSQL {what}; it said:\n{}", self.log_tail())
    }

    fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

fn initdb(bin: &Path, folder: &Folder, auth: Auth) -> Result<()> {
    let mut command = Command::new(bin.join("initdb"));
    command.args([
        "-D",
        "data",
        "-U",
        "postgres",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "--no-instructions",
    ]);
    match auth {
        Auth::Trust => command.args(["-A", "trust"]),
        Auth::Scram => {
            folder.write("password", PASSWORD)?;
            command.args(["-A", "scram-sha-256", "--pwfile", "password"])
        }
    };
    process::capture(folder.run_inside(&mut command).env("LC_ALL", "C")).map(drop)
}

fn configuration(options: &Options, port: u16) -> String {
    let senders_max = match options.wal_level {
        WalLevel::Minimal => "0",
        WalLevel::Replica | WalLevel::Logical => "20",
    };
    let port = port.to_string();
    let ours = [
        ("listen_addresses", "127.0.0.1"),
        ("port", &port),
        // A socket's path is at most 107 bytes, a temporary folder's may be more.
        ("unix_socket_directories", ""),
        ("wal_level", options.wal_level.word()),
        ("max_wal_senders", senders_max),
        ("max_replication_slots", "20"),
        ("max_connections", "100"),
        ("shared_buffers", "32MB"),
        // Needs no /dev/shm, which a container may lack or keep small.
        ("dynamic_shared_memory_type", "mmap"),
        ("lc_messages", "C"),
        ("log_timezone", "UTC"),
        ("timezone", "UTC"),
        ("log_line_prefix", "%m [%p] "),
    ];
    let theirs = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let line = |(name, value): (&str, &str)| format!("{name} = '{}'\n", value.replace('\'', "''"));
    ours.into_iter().chain(theirs).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_settings_override_ours_and_quotes_are_doubled() {
        let settings =
            vec![("wal_level".to_owned(), "replica".to_owned()), ("a".to_owned(), "it's".to_owned())];
        let text = configuration(&Options { settings, ..Options::default() }, 5);
        assert!(text.contains("port = '5'\n"));
        assert!(text.find("wal_level = 'logical'").unwrap() < text.find("wal_level = 'replica'").unwrap());
        assert!(text.ends_with("a = 'it''s'\n"));
    }

    #[test]
    fn a_killed_server_comes_back_with_what_was_committed_and_leaves_nothing_when_dropped() {
        let mut postgres = Postgres::start(Options::default()).unwrap();
        postgres.psql("CREATE TABLE t (i int); INSERT INTO t VALUES (7)").unwrap();
        assert_eq!(postgres.psql("SHOW wal_level").unwrap(), "logical\n");
        postgres.kill9();
        assert!(postgres.psql("SELECT 1").is_err());
        postgres.restart().unwrap();
        assert_eq!(postgres.psql("SELECT i FROM t").unwrap(), "7\n");
        postgres.restart().unwrap();
        assert_eq!(postgres.psql("SELECT i FROM t").unwrap(), "7\n");
        let folder = postgres.folder.path().to_path_buf();
        drop(postgres);
        assert!(!folder.exists());
    }

    #[test]
    fn a_server_that_refuses_its_settings_is_an_error_with_its_words() {
        let settings = vec![("no_such_setting".to_owned(), "1".to_owned())];
        let error = Postgres::start(Options { settings, ..Options::default() }).unwrap_err().to_string();
        assert!(error.contains("ended instead of starting") && error.contains("no_such_setting"), "{error}");
    }

    #[test]
    fn a_server_with_passwords_wants_the_password() {
        let options = Options { auth: Auth::Scram, wal_level: WalLevel::Replica, ..Options::default() };
        let postgres = Postgres::start(options).unwrap();
        assert_eq!(postgres.psql("SHOW wal_level").unwrap(), "replica\n");
        let without = postgres.url().replace(PASSWORD, "wrong");
        let mut command = Command::new(&postgres.psql);
        let status =
            command.args(["-w", "-c", "SELECT 1"]).arg(without).stderr(Stdio::null()).status().unwrap();
        assert!(!status.success());
    }
}
