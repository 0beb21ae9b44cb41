//! `cargo xtask bench policy`: what a change costs in a plugin, beside the same code called natively and beside an
//! Extism plugin; and `cargo xtask bench languages`: what it costs in other languages.
//!
//! The measuring is the host's bench of that name, which prints its report as its last line; here it is started, its
//! other output passed on, and its report taken. Extism is measured by `benches/extism`, a workspace of its own, since
//! it brings another wasmtime; its figure is the last line of that.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::report::Report;
use crate::plugins::{self, Retry};
use crate::{place, process};

pub(super) fn run() -> Result<Report> {
    plugins::build_all(Retry::WhatMayHelp)?;
    let extism = Extism::build()?;
    let mut report = measured_by("policy")?;
    let theirs = extism.measure()?;
    let ours = *report.figures.get("component_ns_256").context("the bench has no figure of its own")?;
    report.figure("extism_ns_256", theirs);
    report.figure("extism_ratio_256", theirs / ours);
    report.aim_at_least("extism_ratio_256", 5.0);
    Ok(report)
}

/// The comparison with Extism, built.
struct Extism {
    folder: PathBuf,
    target: PathBuf,
    guest: PathBuf,
}

impl Extism {
    fn build() -> Result<Self> {
        let (folder, target) = (place::root().join("benches/extism"), place::target()?.join("extism"));
        let guest = plugins::build_stranger(&folder.join("guest"), &target)?;
        let extism = Self { folder, target, guest };
        process::run(&mut extism.cargo("build"))?;
        Ok(extism)
    }

    /// Nanoseconds a change.
    fn measure(&self) -> Result<f64> {
        let mut cargo = self.cargo("run");
        cargo.arg("--").arg(&self.guest);
        Ok(read_extism(&last_line(cargo)?)?.extism_ns_256)
    }

    fn cargo(&self, command: &str) -> Command {
        let mut cargo = twohop_build::cargo(&self.folder);
        cargo.args([command, "--release", "--locked"]).env("CARGO_TARGET_DIR", &self.target);
        cargo
    }
}

/// What the comparison prints.
#[derive(Debug, Deserialize)]
struct ExtismFigures {
    extism_ns_256: f64,
}

fn read_extism(line: &str) -> Result<ExtismFigures> {
    serde_json::from_str(line).with_context(|| format!("the comparison's last line has no figure: {line:?}"))
}

/// The bench `languages`.
pub(super) fn run_languages() -> Result<Report> {
    plugins::build_all(Retry::WhatMayHelp)?;
    plugins::build_other_languages()?;
    measured_by("languages")
}

fn measured_by(bench: &str) -> Result<Report> {
    let mut cargo = place::cargo();
    cargo.args(["bench", "--package", "twohop", "--bench", bench]);
    taken(bench, &last_line(cargo)?)
}

/// Runs it, passes on what it prints, and gives the last line.
fn last_line(mut cargo: Command) -> Result<String> {
    cargo.stdout(Stdio::piped());
    let shown = process::show(&cargo);
    let mut child = cargo.spawn().with_context(|| format!("could not run `{shown}`"))?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let last = pass_on(BufReader::new(stdout));
    let status = child.wait().context("could not wait for cargo")?;
    ensure!(status.success(), "`{shown}` failed: {}", process::describe(status));
    Ok(last?.unwrap_or_default())
}

/// Prints every line but the last one that holds anything, and gives that.
fn pass_on(lines: impl BufRead) -> Result<Option<String>> {
    let mut last: Option<String> = None;
    for line in lines.lines() {
        let line = line.context("could not read what cargo printed")?;
        if line.trim().is_empty() {
            continue;
        }
        if let Some(before) = last.replace(line) {
            println!("  {before}");
        }
    }
    Ok(last)
}

fn taken(bench: &str, line: &str) -> Result<Report> {
    let report: Report = serde_json::from_str(line)
        .with_context(|| format!("the bench's last line is no report: {line:?}"))?;
    ensure!(report.bench == bench, "the report is of bench `{}`", report.bench);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_report() {
        let line = r#"{"bench":"policy","figures":{"component_ns_256":61.5},"aims":[{"figure":"component_ns_256","at_most":100,"met":true}]}"#;
        let said = format!("running\n\n{line}\n\n");
        let last = pass_on(said.as_bytes()).unwrap().unwrap();
        assert_eq!(taken("policy", &last).unwrap().figures["component_ns_256"].to_string(), "61.5");
    }

    #[test]
    fn the_comparison_says_one_figure() {
        let said = read_extism(r#"{"extism_ns_256":912.4}"#).unwrap();
        assert_eq!(said.extism_ns_256.to_string(), "912.4");
        assert!(read_extism(r#"{"bench":"policy"}"#).is_err());
    }

    #[test]
    fn another_last_line_is_an_error() {
        assert!(pass_on("".as_bytes()).unwrap().is_none());
        for line in ["", "done", r#"{"bench":"latency","figures":{},"aims":[]}"#] {
            assert!(taken("policy", line).is_err(), "{line}");
        }
    }
}
