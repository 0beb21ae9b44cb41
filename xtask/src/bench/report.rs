//! What a bench found: figures, and the aims that they are held against.
//!
//! The line of JSON is read by other programs: `{"bench": NAME, "figures": {KEY: number}, "aims": [{"figure": KEY,
//! "at_most" or "at_least": number, "met": bool}]}`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The figures of one run.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    pub(super) bench: String,
    pub(super) figures: BTreeMap<String, f64>,
    pub(super) aims: Vec<Aim>,
}

/// What a figure should be.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Aim {
    figure: String,
    #[serde(flatten)]
    bound: Bound,
    met: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    /// A report without figures.
    pub(super) fn new(bench: &str) -> Report {
        Report { bench: bench.to_owned(), figures: BTreeMap::new(), aims: Vec::new() }
    }

    /// Adds a figure, to a thousandth.
    pub(super) fn figure(&mut self, key: &str, value: f64) {
        self.figures.insert(key.to_owned(), (value * 1e3).round() / 1e3);
    }

    /// Adds an aim for a figure that is there: not more than `bound`.
    pub(super) fn aim_at_most(&mut self, key: &str, bound: f64) {
        let met = self.figures.get(key).is_some_and(|figure| *figure <= bound);
        self.aims.push(Aim { figure: key.to_owned(), bound: Bound::AtMost(bound), met });
    }

    /// Adds an aim for a figure that is there: not less than `bound`.
    pub(super) fn aim_at_least(&mut self, key: &str, bound: f64) {
        let met = self.figures.get(key).is_some_and(|figure| *figure >= bound);
        self.aims.push(Aim { figure: key.to_owned(), bound: Bound::AtLeast(bound), met });
    }

    /// The aims that are not met, in words.
    pub(super) fn missed(&self) -> Vec<String> {
        let missed = self.aims.iter().filter(|aim| !aim.met);
        let figure =
            |key: &String| self.figures.get(key).map_or_else(|| "not measured".to_owned(), f64::to_string);
        missed
            .map(|Aim { figure: key, bound, .. }| match bound {
                Bound::AtMost(bound) => format!("{key} is {}, the aim is at most {bound}", figure(key)),
                Bound::AtLeast(bound) => format!("{key} is {}, the aim is at least {bound}", figure(key)),
            })
            .collect()
    }

    /// Keeps the report in a file, and gives its line.
    pub(super) fn keep(&self, file: &Path) -> Result<String> {
        let line = serde_json::to_string(self).context("could not write the report as JSON")?;
        let folder = file.parent().context("the report's file has no folder")?;
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        fs::write(file, format!("{line}\n"))
            .with_context(|| format!("could not write {}", file.display()))?;
        Ok(line)
    }
}

/// Removes the report of an earlier run, so that a run that fails does not leave it as its own.
pub(super) fn forget(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("latency");
        report.figure("p50_ratio", 1.234_56);
        report.figure("p99_ratio", 7.0);
        report.aim_at_most("p50_ratio", 2.0);
        report.aim_at_most("p99_ratio", 5.0);
        report
    }

    #[test]
    fn the_line_is_the_one_that_other_programs_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bench/latency.json");
        let line = report().keep(&file).unwrap();
        assert_eq!(
            line,
            r#"{"bench":"latency","figures":{"p50_ratio":1.235,"p99_ratio":7.0},"aims":[{"figure":"p50_ratio","at_most":2.0,"met":true},{"figure":"p99_ratio","at_most":5.0,"met":false}]}"#
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), line.clone() + "\n");
        assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report());
        forget(&file).unwrap();
        forget(&file).unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn aims_that_are_not_met_are_named() {
        assert_eq!(report().missed(), ["p99_ratio is 7, the aim is at most 5"]);
        let mut report = Report::new("x");
        report.figure("ratio", 4.5);
        report.aim_at_most("speed", 1.0);
        report.aim_at_least("ratio", 4.5);
        report.aim_at_least("ratio", 5.0);
        assert_eq!(
            report.missed(),
            ["speed is not measured, the aim is at most 1", "ratio is 4.5, the aim is at least 5"]
        );
    }

    #[test]
    fn a_lower_bound_is_read_too() {
        let line = r#"{"bench":"x","figures":{"a":1},"aims":[{"figure":"a","at_least":2,"met":false}]}"#;
        let report: Report = serde_json::from_str(line).unwrap();
        assert_eq!(report.missed(), ["a is 1, the aim is at least 2"]);
    }
}
