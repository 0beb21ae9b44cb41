//! `cargo xtask bench ingest`: how fast the change log takes what PostgreSQL has, beside `pg_recvlogical`.
//!
//! In: a load made by pgbench while nobody reads: rows of 200 bytes, ten a transaction, and TPC-B, two million changes
//! together. Then, with nothing else to do, each drains it from a slot of its own, with the same publication:
//! - the floor: `pg_recvlogical` into /dev/null, before and after the host; the faster of both counts;
//! - the host, without plugins: into its change log, each append synced. Until the last change is durable, the start of
//!   the program included.
//!
//! Then a single transaction of two million rows, likewise. Then another host, which has nothing yet, reads all rows of
//! the table as its snapshot, beside `COPY … TO STDOUT` into /dev/null, before and after.
//! Out: changes a second of both, their ratio, and the most memory that the host had resident in either run; rows a second
//! of the snapshot, and its ratio to `COPY`.
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
const SNAPSHOT_RATIO: &str = "snapshot_ratio_to_copy";
const SNAPSHOT_RATIO_MIN: f64 = 0.5;

pub(super) fn run(size: Size) -> Result<Report> {
    println!("[1/5] PostgreSQL, and the host (with optimizations: minutes, the first time)");
    let bin = setup::postgres()?;
    let (binary, load) = match size {
        Size::Whole => (release()?, Load { changes: 2_000_000 }),
        Size::Small => (dev()?, Load { changes: 40_000 }),
    };
    let postgres = Postgres::start(Options { settings: settings(), ..Options::default() })?;
    let folder = Folder::new("bench")?;
    load.prepare(&postgres, &bin)?;
    // Its first start makes publication and slot.
    let mut ingest = Ingest::start(&postgres, &folder, binary.clone())?;
    ingest.stop()?;
    let floors = [Floor::new(&postgres, &bin, "floor_before")?, Floor::new(&postgres, &bin, "floor_after")?];
    println!("[2/5] {} changes by pgbench", load.changes);
    let committed = load.write(&postgres, &bin)?;
    println!("[3/5] draining them");
    let before = floors[0].drain()?;
    let drained = ingest.drain(committed)?;
    let floor = before.min(floors[1].drain()?);
    println!("[4/5] one transaction of {} rows", load.changes);
    load.write_at_once(&postgres)?;
    let at_once = ingest.drain(load.changes)?;
    drop(folder);
    let rows = load::count(&postgres, load::ROWS)?;
    println!("[5/5] a snapshot of {rows} rows");
    let copied = floor::copy(&postgres, &bin, load::ROWS)?;
    let folder = Folder::new("bench")?;
    let snapshot = Ingest::snapshot(&postgres, &folder, binary, load::ROWS, rows)?;
    let copied = copied.min(floor::copy(&postgres, &bin, load::ROWS)?);
    drop(folder);
    postgres.stop()?;
    report(&Measured {
        drained: Both { count: committed, floor, host: drained.elapsed },
        at_once: (load.changes, at_once.elapsed),
        snapshot: Both { count: rows, floor: copied, host: snapshot },
        memory_mib: drained.memory_mib.max(at_once.memory_mib),
    })
}

/// So many changes or rows, by the floor and by the host.
#[derive(Debug)]
struct Both {
    count: u64,
    floor: Duration,
    host: Duration,
}

impl Both {
    fn rates(&self) -> [f64; 2] {
        [self.host, self.floor].map(|elapsed| rate(self.count, elapsed))
    }
}

#[derive(Debug)]
struct Measured {
    drained: Both,
    at_once: (u64, Duration),
    snapshot: Both,
    memory_mib: f64,
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

fn report(measured: &Measured) -> Result<Report> {
    let Measured { drained, at_once: (count, elapsed), snapshot, memory_mib } = measured;
    let times = [drained.floor, drained.host, *elapsed, snapshot.floor, snapshot.host];
    ensure!(times.iter().all(|time| !time.is_zero()), "this run is not valid: it took no time");
    let mut report = Report::new("ingest");
    let [host, floor] = drained.rates();
    report.figure(RATE, host);
    report.figure("pg_recvlogical_changes_per_s", floor);
    report.figure(RATIO, host / floor);
    report.figure("one_transaction_changes_per_s", rate(*count, *elapsed));
    report.figure(RSS, *memory_mib);
    let [host, floor] = snapshot.rates();
    report.figure("snapshot_rows_per_s", host);
    report.figure("copy_rows_per_s", floor);
    report.figure(SNAPSHOT_RATIO, host / floor);
    report.aim_at_least(RATIO, RATIO_MIN);
    report.aim_at_least(RATE, RATE_MIN);
    report.aim_at_most(RSS, RSS_MAX);
    report.aim_at_least(SNAPSHOT_RATIO, SNAPSHOT_RATIO_MIN);
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
        let report = report(&Measured {
            drained: Both { count: 600_000, floor: seconds(4), host: seconds(5) },
            at_once: (100_000, seconds(2)),
            snapshot: Both { count: 300_000, floor: seconds(1), host: seconds(2) },
            memory_mib: 80.5,
        })
        .unwrap();
        assert_eq!(report.figures[RATE], 120_000.0);
        assert_eq!(report.figures["pg_recvlogical_changes_per_s"], 150_000.0);
        assert_eq!(report.figures[RATIO], 0.8);
        assert_eq!(report.figures["one_transaction_changes_per_s"], 50_000.0);
        assert_eq!(report.figures[RSS], 80.5);
        assert_eq!(report.figures["snapshot_rows_per_s"], 150_000.0);
        assert_eq!(report.figures["copy_rows_per_s"], 300_000.0);
        assert_eq!(report.figures[SNAPSHOT_RATIO], 0.5);
        assert!(report.missed().is_empty());
    }
}
