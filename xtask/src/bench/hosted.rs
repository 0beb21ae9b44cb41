//! Benches that are programs of their own, in cargo's terms: a bench target of the host, or a workspace beside it.
//!
//! Such a program prints its report as its last line; here it is started, its other output passed on, and its report
//! taken.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::report::Report;
use crate::{place, process};

/// Runs the host's bench of that name, and takes its report.
pub(super) fn measured_by(bench: &str) -> Result<Report> {
    measured_with(bench, &[])
}

/// The same, with arguments for it.
pub(super) fn measured_with(bench: &str, arguments: &[&str]) -> Result<Report> {
    let mut cargo = place::cargo();
    cargo.args(["bench", "--package", "twohop", "--bench", bench, "--"]).args(arguments);
    taken(bench, &last_line(cargo)?)
}

/// Runs it, passes on what it prints, and gives the last line.
pub(super) fn last_line(mut cargo: Command) -> Result<String> {
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
    fn another_last_line_is_an_error() {
        assert!(pass_on("".as_bytes()).unwrap().is_none());
        for line in ["", "done", r#"{"bench":"latency","figures":{},"aims":[]}"#] {
            assert!(taken("policy", line).is_err(), "{line}");
        }
    }
}
