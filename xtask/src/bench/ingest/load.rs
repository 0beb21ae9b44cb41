//! The load: tables, and transactions made by pgbench.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::services::postgres::Postgres;

/// Captured, in the words of the configuration.
pub(super) const TABLES: [&str; 5] =
    ["rows", "pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"];

/// The one that is not pgbench's.
pub(super) const ROWS: &str = TABLES[0];

/// pgbench's own tables lack a key in one place.
const SCHEMA: &str = "CREATE TABLE rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL); \
                      ALTER TABLE pgbench_history REPLICA IDENTITY FULL";
/// Ten rows of 200 bytes a transaction.
const INSERT: &str = "INSERT INTO rows (body) SELECT repeat('x', 200) FROM generate_series(1, 10);\n";
const ROWS_A_TRANSACTION: u64 = 10;
/// Three updates and an insert.
const CHANGES_A_TPC_B: u64 = 4;
const CLIENTS: u64 = 4;

/// How much there is to drain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Half of it rows, half of it TPC-B.
    pub(super) changes: u64,
}

impl Load {
    /// Makes the tables.
    pub(super) fn prepare(&self, postgres: &Postgres, bin: &Path) -> Result<()> {
        pgbench(postgres, bin, &["--initialize", "--quiet", "--scale=10"])?;
        postgres.psql(SCHEMA).map(drop)
    }

    /// Commits all of it, and gives how many changes that were.
    pub(super) fn write(&self, postgres: &Postgres, bin: &Path) -> Result<u64> {
        let script = tempfile::NamedTempFile::new().context("could not make pgbench's script")?;
        std::fs::write(&script, INSERT).context("could not write pgbench's script")?;
        let inserts = self.changes / 2 / ROWS_A_TRANSACTION / CLIENTS;
        let transfers = self.changes / 2 / CHANGES_A_TPC_B / CLIENTS;
        let file = format!("--file={}", script.path().display());
        pgbench(postgres, bin, &[&file, &format!("--transactions={inserts}")])?;
        pgbench(postgres, bin, &["--builtin=tpcb-like", &format!("--transactions={transfers}")])?;
        let rows = count(postgres, ROWS)?;
        let transfers = count(postgres, "pgbench_history")?;
        ensure!(rows > 0 && transfers > 0, "pgbench wrote nothing");
        Ok(rows + transfers * CHANGES_A_TPC_B)
    }

    /// Commits as many rows in one transaction.
    pub(super) fn write_at_once(&self, postgres: &Postgres) -> Result<()> {
        let sql = format!(
            "INSERT INTO rows (body) SELECT repeat('x', 200) FROM generate_series(1, {})",
            self.changes
        );
        postgres.psql(&sql).map(drop)
    }
}

/// The rows of a table.
pub(super) fn count(postgres: &Postgres, table: &str) -> Result<u64> {
    Ok(postgres.psql(&format!("SELECT count(*) FROM {table}"))?.trim().parse()?)
}

fn pgbench(postgres: &Postgres, bin: &Path, arguments: &[&str]) -> Result<()> {
    let clients = format!("--client={CLIENTS}");
    let mut command = Command::new(bin.join("pgbench"));
    command.args(arguments);
    if !arguments.contains(&"--initialize") {
        command.args(["--no-vacuum", &clients]);
    }
    // What is drained is on disk all the same once it is decoded.
    command.arg(postgres.url()).env("PGOPTIONS", "-c synchronous_commit=off");
    process::capture(&mut command).context("pgbench").map(drop)
}
