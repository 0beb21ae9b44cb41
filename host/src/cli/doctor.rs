//! `twohop doctor`: what is wrong with a database, and the SQL that mends it.
//!
//! It asks the database itself and changes nothing there; no server of ours has to run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use twohop::limits::SOURCE_SPILL_BYTES_MAX;
use twohop::source::postgres::{
    Config, Examination, Gap, NotifyConfig, PollingConfig, SnapshotMode, SourceError, examine,
    examine_notify, examine_polling,
};
use twohop::{app, config};

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The database; without it, all sources of the configuration.
    #[arg(value_name = "postgres://USER@HOST/DATABASE", conflicts_with = "url_file")]
    url: Option<String>,
    /// A file that holds the URL, so that no password stands on the command line.
    #[arg(long, value_name = "FILE")]
    url_file: Option<PathBuf>,
    /// A table to capture; without one, all that there are. May be given again.
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// The source's name, which slot and publication are called by.
    #[arg(long, value_name = "NAME", default_value = "main")]
    name: String,
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "twohop.toml", conflicts_with_all = ["url", "url_file"])]
    config: PathBuf,
}

/// Looks, and prints what was found. An error if something stops a source.
pub(crate) fn examine_database(arguments: &Doctor) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut problems_count = 0;
    let Sources { postgres, polling, notify } = sources(arguments)?;
    for source in postgres {
        let found = runtime.block_on(examine(&source)).with_context(|| format!("source {}", source.name))?;
        problems_count += found.problems.len();
        print!("{}", shown(&source.name, &found));
    }
    for source in polling {
        let found = runtime.block_on(examine_polling(&source));
        problems_count += usize::from(found.is_err());
        print!("{}", shown_other(&source.name, &format!("polls the outbox {}", source.table), found));
    }
    for source in notify {
        let found = runtime.block_on(examine_notify(&source));
        problems_count += usize::from(found.is_err());
        print!("{}", shown_other(&source.name, &format!("listens to {}", source.channels.join(", ")), found));
    }
    ensure!(problems_count == 0, "{problems_count} to mend before this can be a source");
    Ok(())
}

/// What is to be looked at.
#[derive(Debug, Default)]
struct Sources {
    postgres: Vec<Config>,
    polling: Vec<PollingConfig>,
    notify: Vec<NotifyConfig>,
}

fn sources(arguments: &Doctor) -> Result<Sources> {
    let url = match (&arguments.url, &arguments.url_file) {
        (Some(url), _) => url.clone(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?
            .trim()
            .to_owned(),
        (None, None) => return configured(&arguments.config),
    };
    let postgres = vec![Config {
        name: arguments.name.clone(),
        url,
        tables: arguments.tables.clone(),
        outbox: None,
        slot: None,
        publication: None,
        snapshot: SnapshotMode::Initial,
        gap: Gap::Halt,
        folder: PathBuf::new(),
        spill_bytes_max: SOURCE_SPILL_BYTES_MAX,
        messages: Vec::new(),
        heartbeat: None,
    }];
    Ok(Sources { postgres, ..Sources::default() })
}

fn configured(file: &Path) -> Result<Sources> {
    let overrides = config::Overrides { data: None, listen: None };
    let config = config::load(file, &overrides)?;
    let (postgres, polling) = (app::source_configs(&config), app::polling_configs(&config));
    let sources = Sources { postgres, polling, notify: app::notify_configs(&config) };
    let Sources { postgres, polling, notify } = &sources;
    ensure!(
        !(postgres.is_empty() && polling.is_empty() && notify.is_empty()),
        "{} has no source: name a database instead",
        file.display()
    );
    Ok(sources)
}

/// A source that is right or wrong as a whole.
fn shown_other(source: &str, does: &str, found: Result<(), SourceError>) -> String {
    match found {
        Ok(()) => format!("{source}: {does}: wrong 0\n"),
        Err(error) => format!("{source}: {does}: wrong 1\n  wrong    {:#}\n", anyhow::Error::from(error)),
    }
}

fn shown(source: &str, found: &Examination) -> String {
    let mut lines = vec![format!("{}, PostgreSQL {}", found.target, found.version)];
    lines.extend(found.problems.iter().map(|problem| format!("  wrong    {problem}")));
    lines.extend(found.warnings.iter().map(|warning| format!("  warning  {warning}")));
    lines.push(format!(
        "{source}: wrong {}, warnings {}, tables that can be captured {}",
        found.problems.len(),
        found.warnings.len(),
        found.tables.len()
    ));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use twohop::source::postgres::{Problem, Warning};

    use super::*;

    #[test]
    fn what_is_wrong_comes_first_and_the_last_line_counts() {
        let found = Examination {
            target: "postgres://ann@db:5432/shop".to_owned(),
            version: "15.8".to_owned(),
            tables: vec!["public.orders".to_owned()],
            problems: vec![Problem::WalLevel("replica".to_owned())],
            warnings: vec![Warning::KeepUnlimited],
        };
        let shown = shown("shop", &found);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[0], "postgres://ann@db:5432/shop, PostgreSQL 15.8");
        assert!(lines[1].starts_with("  wrong    wal_level is `replica`"), "{shown}");
        assert!(lines[2].starts_with("  warning  max_slot_wal_keep_size"), "{shown}");
        assert_eq!(lines[3], "shop: wrong 1, warnings 1, tables that can be captured 1");
    }
}
