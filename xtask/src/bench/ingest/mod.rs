//! `cargo xtask bench ingest`: how fast the change log takes what PostgreSQL has, beside `pg_recvlogical`.
//!
//! In: a load made by pgbench while nobody reads: rows of 200 bytes, ten a transaction, and TPC-B, two million changes
//! together. Then, with nothing else to do, each drains it from a slot of its own, with the same publication:
//! - the floor: `pg_recvlogical` into /dev/null, before and after the host; the faster of both counts;
//! - the host, without plugins: into its change log, each append synced. Until the last change is durable, the start of
//!   the program included.
//!
//! Then a single transaction of two million rows, likewise.
//! Out: changes a second of both, their ratio, and the most memory that the host had resident in either run.
//! Always: a run is valid only if the change log got exactly as many changes as were committed.
//! Absent on purpose: what plugins cost (`policy`), and delays (`latency`).

mod floor;
mod host;
mod load;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Size;
use super::report::Report;
use crate::services::Folder;
use crate::services::postgres::{Options, Postgres};
use crate::{place, process, setup};
use floor::Floor;
use host::Ingest;
use load::Load;

/// How the figures are called, and what they should be.
const RATIO: &str = "ratio_to_pg_recvlogical";
const RATIO_MIN: f64 = 0.8;
const RATE: &str = "changes_per_s";
const RATE_MIN: f64 = 60_000.0;
const RSS: &str = "rss_mib_max";
const RSS_MAX: f64 = 100.0;

pub(super) fn run(size: Size) -> Result<Report> {
    println!("[1/4] PostgreSQL, and the host (with optimizations: minutes, the first time)");
    let bin = setup::postgres()?;
    let (binary, load) = match size {
        Size::Whole => (release()?, Load { changes: 2_000_000 }),
        Size::Small => (dev()?, Load { changes: 40_000 }),
    };
    let postgres = Postgres::start(Options { settings: settings(), ..Options::default() })?;
    let folder = Folder::new("bench")?;
    load.prepare(&postgres, &bin)?;
    // Its first start makes publication and slot.
    let mut ingest = Ingest::start(&postgres, &folder, binary)?;
    ingest.stop()?;
    let floors = [Floor::new(&postgres, &bin, "floor_before")?, Floor::new(&postgres, &bin, "floor_after")?];
    println!("[2/4] {} changes by pgbench", load.changes);
    let committed = load.write(&postgres, &bin)?;
    println!("[3/4] draining them");
    let before = floors[0].drain()?;
    let drained = ingest.drain(committed)?;
    let floor = before.min(floors[1].drain()?);
    println!("[4/4] one transaction of {} rows", load.changes);
    load.write_at_once(&postgres)?;
    let at_once = ingest.drain(load.changes)?;
    drop(folder);
    postgres.stop()?;
    let memory = drained.memory_mib.max(at_once.memory_mib);
    report(committed, floor, drained.elapsed, load.changes, at_once.elapsed, memory)
}

fn report(
    committed: u64,
    floor: Duration,
    host: Duration,
    at_once: u64,
    host_at_once: Duration,
    memory_mib: f64,
) -> Result<Report> {
    ensure!(!floor.is_zero() && !host.is_zero(), "this run is not valid: it took no time");
    let rate = |count: u64, elapsed: Duration| count as f64 / elapsed.as_secs_f64();
    let mut report = Report::new("ingest");
    report.figure(RATE, rate(committed, host));
    report.figure("pg_recvlogical_changes_per_s", rate(committed, floor));
    report.figure(RATIO, rate(committed, host) / rate(committed, floor));
    report.figure("one_transaction_changes_per_s", rate(at_once, host_at_once));
    report.figure(RSS, memory_mib);
    report.aim_at_least(RATIO, RATIO_MIN);
    report.aim_at_least(RATE, RATE_MIN);
    report.aim_at_most(RSS, RSS_MAX);
    Ok(report)
}

fn release() -> Result<PathBuf> {
    process::run(place::cargo().args(["build", "--release", "--package", "twohop"]))?;
    Ok(place::target()?.join("release/twohop"))
}

fn dev() -> Result<PathBuf> {
    process::run(place::cargo().args(["build", "--package", "twohop"]))
        .context("could not build the host")?;
    place::host_binary()
}

/// What would disturb the draining is put off.
fn settings() -> Vec<(String, String)> {
    let settings = [
        ("shared_buffers", "256MB"),
        ("max_wal_size", "16GB"),
        ("checkpoint_timeout", "1h"),
        ("autovacuum", "off"),
    ];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_rates_their_ratio_and_the_greatest_memory() {
        let seconds = Duration::from_secs;
        let report = report(600_000, seconds(4), seconds(5), 100_000, seconds(2), 80.5).unwrap();
        assert_eq!(report.figures[RATE], 120_000.0);
        assert_eq!(report.figures["pg_recvlogical_changes_per_s"], 150_000.0);
        assert_eq!(report.figures[RATIO], 0.8);
        assert_eq!(report.figures["one_transaction_changes_per_s"], 50_000.0);
        assert_eq!(report.figures[RSS], 80.5);
        assert!(report.missed().is_empty());
    }
}
