//! What it costs to deliver: messages a second of the server's processor time, beside nchan and beside a bare `send`;
//! how late they come; and what an idle connection weighs.
//!
//! In: nothing, or `--small` for a look at whether it runs; `--nchan ADDRESS PID`, a private nginx with nchan. Out:
//! tables, and last one line of JSON.
//!
//! Each server is a process of its own, pinned to the first core, and this one, which makes the load, to the second.
//! All get the same: so many connections to one channel, messages of 150 bytes at a steady rate, each with the time of
//! its sending. A round goes through all of them in turn, and the figure is the median of the rounds. `serve` is the
//! gateway as the server runs it, on a bus in a folder; `floor` writes the same frame to each socket in turn and does
//! nothing else.

mod crowd;
mod floor;
mod idle;
#[path = "../support/report.rs"]
mod report;
mod rounds;
mod serve;
mod server;

use std::net::SocketAddr;

use anyhow::{Context, bail};
use report::print_report;

use server::Nchan;

/// Figures with the most that each may be.
const AIMS_AT_MOST: [(&str, f64); 2] = [("sse_kib_per_idle", 12.0), ("ws_kib_per_idle", 8.0)];
/// Figures with the least that each may be.
const AIMS_AT_LEAST: [(&str, f64); 6] = [
    ("sse_ratio_to_nchan", 1.2),
    ("ws_ratio_to_nchan", 1.5),
    ("sse_ratio_to_nchan_10000", 1.2),
    ("ws_ratio_to_nchan_10000", 1.5),
    ("idle_held", 18_000.0),
    ("accepts_per_s", 2_000.0),
];

/// What is measured, by name.
type Figures = Vec<(String, f64)>;

/// How much there is of everything.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    rounds: usize,
    seconds: f64,
    /// Connections, messages a second, and what the figures' names end with.
    loads: &'static [(usize, f64, &'static str)],
    idle: usize,
}

const FULL: Sizes =
    Sizes { rounds: 3, seconds: 6.0, loads: &[(1_000, 60.0, ""), (10_000, 6.0, "_10000")], idle: 18_000 };
const SMALL: Sizes = Sizes { rounds: 1, seconds: 1.0, loads: &[(50, 20.0, "")], idle: 300 };

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve"] => serve::run(),
        ["floor"] => floor::run(),
        ["bare"] => floor::run_bare(),
        [] => measure(FULL, None),
        ["--small"] => measure(SMALL, None),
        ["--nchan", address, pid] => measure(FULL, Some(nchan(address, pid)?)),
        ["--small", "--nchan", address, pid] => measure(SMALL, Some(nchan(address, pid)?)),
        _ => bail!("unknown arguments: {arguments:?}"),
    }
}

fn nchan(address: &str, pid: &str) -> anyhow::Result<Nchan> {
    let address: SocketAddr = address.parse().context("nchan's address")?;
    Ok(Nchan { address, pid: pid.parse().context("the number of nchan's process")? })
}

fn measure(sizes: Sizes, nchan: Option<Nchan>) -> anyhow::Result<()> {
    server::prepare()?;
    let mut figures = idle::measure(sizes)?;
    for (connections, rate, suffix) in sizes.loads {
        figures.extend(rounds::measure(sizes, *connections, *rate, suffix, nchan.as_ref())?);
    }
    print_report("gateway", &figures, &AIMS_AT_MOST, &AIMS_AT_LEAST);
    Ok(())
}
