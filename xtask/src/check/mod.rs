//! `cargo xtask check`: what a person runs before a commit, and what CI runs.
//!
//! In: the working tree as git sees it. Out: each step announced, its time, the tools' own output; the first failure
//! stops, and says what to do.
//! Always: what takes a second comes before what takes minutes, and no step changes a file of the repository.
//! Absent on purpose: the tests, which are `cargo xtask test`.
//!
//! To add a step: a line in `STEPS`. To add a check of the source's shape: see `tidy/mod.rs`.

mod licenses;
mod tidy;

use std::time::Instant;

use anyhow::{Context, Result};

use crate::{place, process};

struct Step {
    name: &'static str,
    run: fn() -> Result<()>,
    /// What to do when it fails.
    remedy: &'static str,
}

const STEPS: &[Step] = &[
    Step { name: "format", run: format, remedy: "run `cargo fmt --all`" },
    Step {
        name: "tidy",
        run: tidy::run,
        remedy: "each line above says what to do; `cargo xtask tidy` tries again",
    },
    Step {
        name: "licenses",
        run: licenses::run,
        remedy: "choose another crate, or allow the license in xtask/src/check/licenses.rs with the reason",
    },
    Step { name: "clippy", run: clippy, remedy: "mend what clippy names; an `allow` needs its reason" },
    Step {
        name: "fuzz targets",
        run: fuzz_targets,
        remedy: "the targets take the host's files by their paths: mend `fuzz/src`, where what these name has stand-ins",
    },
    Step { name: "docs", run: docs, remedy: "mend the links and items that rustdoc names" },
];

/// Runs every check, until one fails.
///
/// # Errors
/// A check finds something, or cannot be run.
pub fn run() -> Result<()> {
    let begun = Instant::now();
    for (index, step) in STEPS.iter().enumerate() {
        println!("[{}/{}] {}", index + 1, STEPS.len(), step.name);
        let step_begun = Instant::now();
        (step.run)().with_context(|| format!("{} failed: {}", step.name, step.remedy))?;
        println!("  {} is fine ({:.1} s)", step.name, step_begun.elapsed().as_secs_f64());
    }
    println!("all is fine ({:.1} s)", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Runs the checks of the source's shape alone.
///
/// # Errors
/// A check finds something, or the files cannot be read.
pub fn tidy() -> Result<()> {
    tidy::run()
}

fn format() -> Result<()> {
    process::run(place::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    process::run(place::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// A workspace of its own, which no other step looks at. Nothing is linked here, so libFuzzer itself is not built, which
/// would take longer than all the rest.
fn fuzz_targets() -> Result<()> {
    let mut check = place::cargo();
    check.args(["check", "--locked", "--manifest-path"]).arg(place::root().join("fuzz/Cargo.toml"));
    check.env("CARGO_TARGET_DIR", place::target()?.join("fuzz"));
    check.env("CUSTOM_LIBFUZZER_PATH", "/not/linked/libfuzzer.a").env("RUSTFLAGS", "-D warnings");
    process::run(&mut check)
}

fn docs() -> Result<()> {
    process::run(place::cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}
