//! The floor: PostgreSQL's own client, which does nothing with what it gets.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::host::PUBLICATION;
use crate::process;
use crate::services::postgres::Postgres;

/// How long the server takes to give all rows of a table away.
pub(super) fn copy(postgres: &Postgres, bin: &Path, table: &str) -> Result<Duration> {
    let mut command = Command::new(bin.join("psql"));
    command.args(["-X", "-q", "-c", &format!("COPY {table} TO STDOUT"), &postgres.url()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    process::run(&mut command).context("COPY")?;
    let elapsed = begun.elapsed();
    println!("  COPY            {:>8.3} s", elapsed.as_secs_f64());
    Ok(elapsed)
}

/// A slot that one run drains.
#[derive(Debug)]
pub(super) struct Floor<'a> {
    postgres: &'a Postgres,
    program: PathBuf,
    slot: &'static str,
}

impl<'a> Floor<'a> {
    /// Makes the slot.
    pub(super) fn new(postgres: &'a Postgres, bin: &Path, slot: &'static str) -> Result<Self> {
        postgres.psql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"))?;
        Ok(Self { postgres, program: bin.join("pg_recvlogical"), slot })
    }

    /// Drains everything that is committed now, drops the slot, and gives how long the draining took.
    pub(super) fn drain(&self) -> Result<Duration> {
        let end = self.postgres.psql("SELECT pg_current_wal_lsn()")?;
        let mut command = Command::new(&self.program);
        command.args(["--start", "--no-loop", "--file=/dev/null", "--option=proto_version=1"]);
        command.arg(format!("--option=publication_names={PUBLICATION}"));
        command.arg(format!("--slot={}", self.slot)).arg(format!("--endpos={}", end.trim()));
        command.arg(format!("--dbname={}", self.postgres.url()));
        let begun = Instant::now();
        process::capture(&mut command).context("pg_recvlogical")?;
        let elapsed = begun.elapsed();
        self.postgres.psql(&format!("SELECT pg_drop_replication_slot('{}')", self.slot))?;
        println!("  pg_recvlogical  {:>8.3} s", elapsed.as_secs_f64());
        Ok(elapsed)
    }
}
