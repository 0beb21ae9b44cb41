//! The host: it has a slot and nothing to do; started, it drains what was committed meanwhile. Or it has nothing yet, and
//! reads all rows of a table.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::load::TABLES;
use crate::services::host::Options;
use crate::services::postgres::Postgres;
use crate::services::{Folder, Host};

/// What the host makes for a source of this name, the slot likewise.
pub(super) const PUBLICATION: &str = "twohop_bench";
/// The whole of a bench; an end that never comes is a fault.
const DRAINED_WITHIN: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const END_OFFSET: &str = "twohop_log_end_offset";
const SNAPSHOT_ROWS: &str = r#"twohop_snapshot_rows_total{source="bench"}"#;
const SNAPSHOT_LEFT: &str = r#"twohop_snapshot_tables_left{source="bench"}"#;

/// The host under test.
#[derive(Debug)]
pub(super) struct Ingest {
    host: Host,
    data: PathBuf,
    /// Where its change log ended when it was stopped.
    end: u64,
}

/// How a draining went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drained {
    pub(super) elapsed: Duration,
    /// The most that was resident.
    pub(super) memory_mib: f64,
}

impl Ingest {
    /// Starts it for the first time.
    pub(super) fn start(postgres: &Postgres, folder: &Folder, binary: PathBuf) -> Result<Self> {
        let data = folder.path().join("data");
        let text = configuration(&postgres.url(), &data.to_string_lossy(), "none", &TABLES);
        let config = folder.write("twohop.toml", &text)?;
        let mut options = Options::new(config);
        options.binary = Some(binary);
        Ok(Self { host: Host::start(options)?, data, end: 0 })
    }

    /// Starts one that has nothing yet, and gives how long it takes until all rows of a table are durable.
    pub(super) fn snapshot(
        postgres: &Postgres,
        folder: &Folder,
        binary: PathBuf,
        table: &str,
        rows: u64,
    ) -> Result<Duration> {
        // Those of the one before.
        postgres.psql(&format!("SELECT pg_drop_replication_slot('{PUBLICATION}')"))?;
        postgres.psql(&format!("DROP PUBLICATION {PUBLICATION}"))?;
        let data = folder.path().join("data");
        let text = configuration(&postgres.url(), &data.to_string_lossy(), "initial", &[table]);
        let mut options = Options::new(folder.write("twohop.toml", &text)?);
        options.binary = Some(binary);
        let begun = Instant::now();
        let mut ingest = Self { host: Host::start(options)?, data, end: 0 };
        while ingest.figure(SNAPSHOT_ROWS)? < rows || ingest.figure(SNAPSHOT_LEFT)? > 0 {
            ensure!(begun.elapsed() < DRAINED_WITHIN, "{rows} rows did not come");
            thread::sleep(LOOK_EVERY);
        }
        let elapsed = begun.elapsed();
        let got = ingest.figure(SNAPSHOT_ROWS)?;
        ensure!(got == rows, "this run is not valid: {got} rows came of {rows}");
        ingest.stop()?;
        println!("  the host        {:>8.3} s", elapsed.as_secs_f64());
        Ok(elapsed)
    }

    /// Ends it.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.end = self.end_offset()?;
        self.host.terminate().context("the host had to be killed")?;
        Ok(())
    }

    /// Starts it again, waits until so many changes are durable, and ends it.
    pub(super) fn drain(&mut self, changes: u64) -> Result<Drained> {
        let wanted = self.end + changes;
        let begun = Instant::now();
        self.host.restart()?;
        while self.end_offset()? < wanted {
            ensure!(self.host.ended().is_none(), "the host ended:\n{}", self.host.stderr());
            ensure!(begun.elapsed() < DRAINED_WITHIN, "{} changes did not come", wanted - self.end_offset()?);
            thread::sleep(LOOK_EVERY);
        }
        let elapsed = begun.elapsed();
        let memory_mib = self.memory_mib()?;
        self.stop()?;
        ensure!(self.end == wanted, "this run is not valid: {} changes too many", self.end - wanted);
        println!("  the host        {:>8.3} s, {memory_mib:.1} MiB", elapsed.as_secs_f64());
        Ok(Drained { elapsed, memory_mib })
    }

    fn end_offset(&self) -> Result<u64> {
        self.figure(END_OFFSET)
    }

    fn figure(&self, name: &str) -> Result<u64> {
        let token =
            fs::read_to_string(self.data.join("admin-token")).context("the host has made no token")?;
        let mut socket = TcpStream::connect(self.host.admin()).context("nobody answers")?;
        write!(
            socket,
            "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
            token.trim()
        )?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).context("the answer broke")?;
        figure(&answer, name).with_context(|| format!("no {name} in: {answer}"))
    }

    /// The kernel's own mark of the most that was resident.
    fn memory_mib(&self) -> Result<f64> {
        let pid = self.host.pid().context("the host runs")?;
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).context("could not look at the host")?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        let kib: f64 = kib.context("the kernel says nothing of its memory")?.trim().parse()?;
        Ok(kib / 1024.0)
    }
}

fn figure(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn configuration(url: &str, data: &str, snapshot: &str, tables: &[&str]) -> String {
    let [url, data] = [url, data].map(|text| toml::Value::from(text).to_string());
    format!(
        "data = {data}\n[gateway]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [source.bench]\nurl = {url}\nsnapshot = {snapshot:?}\ntables = {tables:?}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_that_of_the_whole_name() {
        let metrics =
            "# TYPE twohop_log_end_offset gauge\ntwohop_log_end_offset_x 1\ntwohop_log_end_offset 27\n";
        assert_eq!(figure(metrics, END_OFFSET), Some(27));
        assert_eq!(figure("", END_OFFSET), None);
    }

    #[test]
    fn the_configuration_is_toml() {
        let config: toml::Table =
            configuration("postgres://x", "/a \"b\"\\c", "none", &TABLES).parse().unwrap();
        assert_eq!(config["source"]["bench"]["tables"].as_array().unwrap().len(), TABLES.len());
        assert_eq!(config["data"].as_str(), Some("/a \"b\"\\c"));
    }
}
