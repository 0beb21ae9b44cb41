//! `cargo xtask bench policy`: what a change costs in a plugin, beside the same code called natively and beside an
//! Extism plugin; and `cargo xtask bench languages`: what it costs in other languages.
//!
//! The measuring is the host's bench of that name (`hosted`). Extism is measured by `benches/extism`, a workspace of its own, since
//! it brings another wasmtime; its figure is the last line of that.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::hosted::{last_line, measured_by};
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comparison_says_one_figure() {
        let said = read_extism(r#"{"extism_ns_256":912.4}"#).unwrap();
        assert_eq!(said.extism_ns_256.to_string(), "912.4");
        assert!(read_extism(r#"{"bench":"policy"}"#).is_err());
    }
}
