//! What feeds cost: memory an entry, entries pushed, merged readings, and one author whom a hundred million follow.
//!
//! In: nothing, or `--small`, for a look at whether it runs. Out: tables, and last one line of JSON. `entries` says how
//! much memory an entry takes, `reading` how long a merged page does, `crowd` what pushes and a celebrity cost.
//!
//! All of it runs the store of timelines as the server does, through what it offers to everybody. Only users and who
//! follows whom are put into its tables at once (`stage`): a hundred million follows one by one would take days.
//! `cargo xtask bench fanout` sets a private Redis beside it.

mod crowd;
mod entries;
mod reading;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/resident.rs"]
mod resident;
mod stage;

use anyhow::Context;
use report::print_report;

/// Figures with the most that each may be.
const AIMS: [(&str, f64); 5] = [
    ("read_p99_ms", 1.0),
    ("celebrity_pull_ms", 10.0),
    ("celebrity_push_ms", 150.0),
    ("celebrity_set_mib", 50.0),
    ("bytes_per_entry", 24.0),
];

/// What is measured, by name.
type Figures = Vec<(&'static str, f64)>;

/// How much there is of everything.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Timelines whose memory is measured.
    kept: u32,
    /// Users who read.
    readers: u32,
    /// Readings that are measured.
    readings: usize,
    /// Numbers of users, of whom a third follows the celebrity.
    users: u32,
    /// Of them, one in so many is connected.
    connected_every: u32,
    /// Timelines that the busy authors' posts go to.
    pushed: u32,
    /// Posts of the celebrity, each way.
    posts: usize,
}

const FULL: Sizes = Sizes {
    kept: 40_000,
    readers: 100,
    readings: 10_000,
    users: 300_000_000,
    connected_every: 300,
    pushed: 100_000,
    posts: 21,
};

const SMALL: Sizes = Sizes {
    kept: 2_000,
    readers: 20,
    readings: 500,
    users: 3_000_000,
    connected_every: 300,
    pushed: 5_000,
    posts: 5,
};

fn main() -> anyhow::Result<()> {
    let sizes = if std::env::args().any(|argument| argument == "--small") { SMALL } else { FULL };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let figures = runtime.context("could not start the runtime")?.block_on(measure(sizes))?;
    print_report("fanout", &figures, &AIMS, &[]);
    Ok(())
}

async fn measure(sizes: Sizes) -> anyhow::Result<Figures> {
    // Memory first, as long as the process has none that it keeps for later.
    let mut figures = entries::measure(sizes).await?;
    figures.extend(reading::measure(sizes).await?);
    figures.extend(crowd::measure(sizes).await?);
    Ok(figures)
}
