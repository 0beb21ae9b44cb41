//! `cargo xtask bench policy`: what a change costs in a plugin, beside the same code called natively; and `cargo xtask
//! bench languages`: what it costs in other languages.
//!
//! The measuring is `host/benches/NAME.rs`, which prints its report as its last line; here it is started, its other
//! output passed on, and its report taken.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::report::Report;
use crate::plugins::{self, Retry};
use crate::{place, process};

pub(super) fn run() -> Result<Report> {
    plugins::build_all(Retry::WhatMayHelp)?;
    measured_by("policy")
}

/// The bench `languages`.
pub(super) fn run_languages() -> Result<Report> {
    plugins::build_all(Retry::WhatMayHelp)?;
    plugins::build_other_languages()?;
    measured_by("languages")
}

fn measured_by(bench: &str) -> Result<Report> {
    let mut cargo = place::cargo();
    cargo.args(["bench", "--package", "twohop", "--bench", bench]).stdout(Stdio::piped());
    let shown = process::show(&cargo);
    let mut child = cargo.spawn().with_context(|| format!("could not run `{shown}`"))?;
    let stdout = child.stdout.take().context("cargo bench has no output")?;
    let last = pass_on(BufReader::new(stdout));
    let status = child.wait().context("could not wait for cargo bench")?;
    ensure!(status.success(), "`{shown}` failed: {}", process::describe(status));
    taken(bench, last?.as_deref().unwrap_or_default())
}

/// Prints every line but the last one that holds anything, and gives that.
fn pass_on(lines: impl BufRead) -> Result<Option<String>> {
    let mut last: Option<String> = None;
    for line in lines.lines() {
        let line = line.context("could not read what cargo bench printed")?;
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
    fn another_last_line_is_an_error() {
        assert!(pass_on("".as_bytes()).unwrap().is_none());
        for line in ["", "done", r#"{"bench":"latency","figures":{},"aims":[]}"#] {
            assert!(taken("policy", line).is_err(), "{line}");
        }
    }
}
