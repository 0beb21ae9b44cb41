//! `cargo xtask bench`: measurements, each beside the floor that it is judged by.
//!
//! In: a bench's name, or none for all. Out: what the bench says, and last one line of JSON with its figures and
//! aims, which is also kept in the target folder's `bench/NAME.json`.
//! Always: a run that measured something else than it should (a floor that fell behind, a message lost) is an error
//! and leaves no figures. An aim that is missed is no error: it is a figure.
//!
//! A small run shows that a bench works: fewer of everything, the host as `cargo build` leaves it. Its figures say
//! nothing, and are not kept.
//!
//! To add a bench: a file with a `run` that gives a `Report`, a line in `BENCHES`.

mod fanout;
mod gateway;
mod hosted;
mod ingest;
mod latency;
pub(crate) mod percentile;
mod policy;
mod report;

use anyhow::{Context, Result, bail};

use crate::place;
use report::Report;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// All of it.
    Whole,
    /// Enough to see that it works.
    Small,
}

enum Bench {
    /// Has one size alone.
    Whole(fn() -> Result<Report>),
    Sized(fn(Size) -> Result<Report>),
}

const BENCHES: &[(&str, Bench)] = &[
    ("policy", Bench::Whole(policy::run)),
    ("languages", Bench::Whole(policy::run_languages)),
    ("fanout", Bench::Whole(fanout::run)),
    ("gateway", Bench::Sized(gateway::run)),
    ("latency", Bench::Whole(latency::run)),
    ("ingest", Bench::Sized(ingest::run)),
];

/// Runs the bench called `name`.
///
/// # Errors
/// There is none of that name or size, or its run is not valid.
pub fn run(name: &str, size: Size) -> Result<()> {
    let bench = BENCHES.iter().find(|(its, _)| *its == name).with_context(|| {
        let names: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        format!("there is no bench `{name}`; there are {}", names.join(", "))
    })?;
    run_one(bench, size)
}

/// Runs every bench, in turn.
///
/// # Errors
/// As [`run`], at the first that is not valid.
pub fn run_all() -> Result<()> {
    BENCHES.iter().try_for_each(|bench| run_one(bench, Size::Whole))
}

fn run_one((name, bench): &(&str, Bench), size: Size) -> Result<()> {
    println!("bench {name}");
    let kept = place::target()?.join("bench").join(name).with_extension("json");
    let report = match (bench, size) {
        (Bench::Whole(_), Size::Small) => bail!("the bench {name} has no small size"),
        (Bench::Sized(run), Size::Small) => {
            let report = run(size).with_context(|| format!("bench {name}"))?;
            println!("{:?}", report.figures);
            return Ok(());
        }
        (Bench::Whole(run), Size::Whole) => {
            report::forget(&kept)?;
            run()
        }
        (Bench::Sized(run), Size::Whole) => {
            report::forget(&kept)?;
            run(size)
        }
    };
    let report = report.with_context(|| format!("bench {name}"))?;
    for missed in report.missed() {
        println!("  missed: {missed}");
    }
    println!("{}", report.keep(&kept)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_bench_is_an_error_that_names_the_known_ones() {
        let error = run("speed", Size::Whole).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no bench `speed`; there are policy, languages, fanout, gateway, latency, ingest"
        );
    }
}
