//! `cargo xtask bench`: measurements, each beside the floor that it is judged by.
//!
//! In: a bench's name, or none for all. Out: what the bench says, and last one line of JSON with its figures and
//! aims, which is also kept in the target folder's `bench/NAME.json`.
//! Always: a run that measured something else than it should (a floor that fell behind, a message lost) is an error
//! and leaves no figures. An aim that is missed is no error: it is a figure.
//!
//! To add a bench: a file with a `run` that gives a `Report`, a line in `BENCHES`.

mod latency;
pub(crate) mod percentile;
mod policy;
mod report;

use anyhow::{Context, Result};

use crate::place;
use report::Report;

type Bench = fn() -> Result<Report>;

const BENCHES: &[(&str, Bench)] =
    &[("policy", policy::run), ("languages", policy::run_languages), ("latency", latency::run)];

/// Runs the bench called `name`.
///
/// # Errors
/// There is none of that name, or its run is not valid.
pub fn run(name: &str) -> Result<()> {
    let bench = BENCHES.iter().find(|(its, _)| *its == name).with_context(|| {
        let names: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
        format!("there is no bench `{name}`; there are {}", names.join(", "))
    })?;
    run_one(bench)
}

/// Runs every bench, in turn.
///
/// # Errors
/// As [`run`], at the first that is not valid.
pub fn run_all() -> Result<()> {
    BENCHES.iter().try_for_each(run_one)
}

fn run_one((name, bench): &(&str, Bench)) -> Result<()> {
    println!("bench {name}");
    let kept = place::target()?.join("bench").join(name).with_extension("json");
    report::forget(&kept)?;
    let report = bench().with_context(|| format!("bench {name}"))?;
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
        let error = run("speed").unwrap_err().to_string();
        assert_eq!(error, "there is no bench `speed`; there are policy, languages, latency");
    }
}
