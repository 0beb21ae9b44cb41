//! `cargo xtask bench latency`: from the request to commit until a client has the row, beside the least that a
//! durable way can take.
//!
//! In: 1,000 transactions a second on a fixed schedule, each an insert and a `NOTIFY` with the same payload. Two ways
//! carry it, in the same run, on the same clock:
//! - the host: WAL → change log → `row-router` → history → SSE;
//! - the floor: `LISTEN` → append + fdatasync → plain TCP.
//!
//! Out: p50 and p99 of both, and their ratios.
//! Always: a run is valid only if the writer kept its schedule, the floor kept up, and each way delivered every
//! transaction once. Nothing is measured in the first seconds, but all of it must arrive.
//!
//! PostgreSQL itself does not sync (`fsync = off`). `NOTIFY` takes a lock that a transaction holds until its commit is
//! on disk, so with syncs of a millisecond a server takes fewer than 1,000 such transactions a second whatever the
//! number of connections, and the floor would fall behind in every run. The database's sync is the same in both ways;
//! without it, both are shorter by the same, which only raises the ratios.

mod floor;
mod host;
mod ledger;
mod load;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::Runtime;

use super::percentile::{milliseconds, percentile};
use super::report::Report;
use crate::plugins::{self, Retry};
use crate::services::Folder;
use crate::services::postgres::{Options as PostgresOptions, Postgres};
use crate::{interrupt, place, process, setup};
use floor::Floor;
use host::HostUnderTest;
use ledger::{Ledger, Way};
use load::{Load, Written};

const LOAD: Load = Load {
    per_second: 1_000,
    warm_up: Duration::from_secs(3),
    measured: Duration::from_secs(30),
    connections_count: 16,
};
/// How long the last transactions may take to arrive before they count as lost.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);
/// What the writer may be behind its schedule at the end: more is no longer 1,000 a second.
const WRITER_BEHIND_MAX: Duration = Duration::from_millis(250);
/// What may still be on the floor when the last commit returns: a tenth of a second's transactions.
const FLOOR_QUEUE_MAX: u64 = 100;
/// A floor slower than this has waited for something else than its disk.
const FLOOR_P99_MAX: Duration = Duration::from_millis(100);
const P50_RATIO_MAX: f64 = 2.0;
const P99_RATIO_MAX: f64 = 5.0;

pub(super) fn run() -> Result<Report> {
    println!("[1/4] PostgreSQL, the host with optimizations (minutes, the first time), plugins");
    setup::postgres()?;
    process::run(place::cargo().args(["build", "--release", "--package", "twohop"]))?;
    plugins::build_all(Retry::WhatMayHelp)?;
    println!("[2/4] starting PostgreSQL, the floor and the host");
    let runtime = Runtime::new().context("could not start the runtime")?;
    // Before anything is started, so that a signal at any moment from here on ends in order.
    let end = runtime.spawn(interrupt::asked_to_end());
    let settings = vec![("fsync".to_owned(), "off".to_owned())];
    let postgres = Postgres::start(PostgresOptions { settings, ..PostgresOptions::default() })?;
    let folder = Folder::new("bench")?;
    let (url, ledger) = (postgres.url(), Arc::new(Ledger::new(LOAD.transactions_count())));
    runtime.block_on(load::prepare(&url))?;
    let floor = runtime.block_on(Floor::start(&url, folder.path(), &ledger))?;
    let host = runtime.block_on(HostUnderTest::start(&url, &folder, &ledger))?;
    let seconds = (LOAD.warm_up + LOAD.measured).as_secs();
    println!("[3/4] {} transactions a second for {seconds} s", LOAD.per_second);
    let measured = runtime.block_on(async {
        tokio::select! {
            measured = measure(&url, &ledger) => measured,
            ended = end => {
                ended?.context("could not wait for signals")?;
                bail!("interrupted");
            }
        }
    });
    println!("[4/4] stopping");
    let measured = measured.with_context(|| format!("the host said:\n{}", host.stderr()));
    host.stop();
    floor.stop();
    drop(folder);
    postgres.stop()?;
    report(&measured?, &ledger)
}

/// What the run was like, beside the delays.
struct Run {
    written: Written,
    /// What was still on its way on the floor when the last commit returned.
    floor_queue: u64,
}

async fn measure(url: &str, ledger: &Arc<Ledger>) -> Result<Run> {
    let written = LOAD.write(url, ledger).await?;
    let floor_queue = ledger.missing(Way::Floor);
    let drained = ledger.settled();
    if tokio::time::timeout(DRAIN_WITHIN, drained).await.is_err() {
        println!("  not all arrived within {} s", DRAIN_WITHIN.as_secs());
    }
    Ok(Run { written, floor_queue })
}

fn report(run: &Run, ledger: &Ledger) -> Result<Report> {
    let measured = LOAD.first_measured()..LOAD.transactions_count();
    let of = |way| {
        let delays = ledger.delays(way, measured.clone());
        Some(Delays { p50: percentile(&delays, 50)?, p99: percentile(&delays, 99)? })
    };
    let (host, floor) =
        of(Way::Host).zip(of(Way::Floor)).context("this run is not valid: nothing arrived")?;
    for (name, delays) in [("floor", &floor), ("host", &host)] {
        println!(
            "  {name:<6} p50 {:>8.3} ms   p99 {:>8.3} ms",
            milliseconds(delays.p50),
            milliseconds(delays.p99)
        );
    }
    is_valid(run, &floor, ledger).context("this run is not valid")?;
    Ok(figures(&host, &floor, &run.written))
}

#[derive(Clone, Copy, Debug)]
struct Delays {
    p50: Duration,
    p99: Duration,
}

fn is_valid(run: &Run, floor: &Delays, ledger: &Ledger) -> Result<()> {
    let Run { written, floor_queue } = run;
    ensure!(
        written.behind <= WRITER_BEHIND_MAX,
        "the writer was {} ms behind its schedule at the end: PostgreSQL or this machine does not take {} transactions \
         a second; leave it less other work",
        written.behind.as_millis(),
        LOAD.per_second
    );
    ensure!(
        *floor_queue <= FLOOR_QUEUE_MAX,
        "the floor fell behind: {floor_queue} transactions were still on it when the last was committed, at most \
         {FLOOR_QUEUE_MAX} are allowed; the disk takes too long for a sync"
    );
    ensure!(
        floor.p99 <= FLOOR_P99_MAX,
        "the floor fell behind: its p99 is {} ms, at most {} ms are allowed; leave the disk less other work",
        floor.p99.as_millis(),
        FLOOR_P99_MAX.as_millis()
    );
    ledger.is_whole(Way::Floor)?;
    ledger.is_whole(Way::Host)
}

fn figures(host: &Delays, floor: &Delays, written: &Written) -> Report {
    let mut report = Report::new("latency");
    let ratio = |host: Duration, floor: Duration| host.as_secs_f64() / floor.as_secs_f64();
    report.figure("p50_ms", milliseconds(host.p50));
    report.figure("p99_ms", milliseconds(host.p99));
    report.figure("floor_p50_ms", milliseconds(floor.p50));
    report.figure("floor_p99_ms", milliseconds(floor.p99));
    report.figure("p50_ratio", ratio(host.p50, floor.p50));
    report.figure("p99_ratio", ratio(host.p99, floor.p99));
    report.figure("transactions_per_second", written.per_second);
    report.aim_at_most("p50_ratio", P50_RATIO_MAX);
    report.aim_at_most("p99_ratio", P99_RATIO_MAX);
    report
}

#[cfg(test)]
mod tests;
