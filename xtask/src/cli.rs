//! The command line of `cargo xtask`: what can be asked, and who does it.
//!
//! In: arguments. Out: an exit code; an error is printed with its causes, on stderr.
//! To add a chore: a variant of `Chore`, a line in `run`, a module with a `run`.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::bench::Size;
use crate::plugins::Retry;
use crate::test::Length;

/// What can be asked of `cargo xtask`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Every chore of the project")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, PartialEq, Eq, Subcommand)]
enum Chore {
    /// Sets everything up, then shows rows committed in PostgreSQL arriving at a client, live.
    Demo {
        /// Which example.
        #[arg(value_enum, default_value_t = Example::Orders)]
        example: Example,
        /// End after so many seconds of transactions, with one line of figures; exit 1 if anything was lost.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: Option<u64>,
    },
    /// Runs the whole suite, every real service started on private ports.
    Test {
        /// Also run what is slow: many versions, clusters, hundreds of random schedules.
        #[arg(long)]
        long: bool,
        /// Handed to the test binaries, as after `cargo test --`: names to filter by, or their options.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        arguments: Vec<OsString>,
    },
    /// Format, lints, docs, tidy, licences: what a person runs before a commit.
    Check,
    /// Builds every plugin under plugins/ and examples/ into the target folder's plugins/NAME.wasm.
    BuildPlugins {
        /// Try again what failed earlier and is remembered (`rustup target add`).
        #[arg(long)]
        retry: bool,
        /// Also those under examples/plugins/, in JavaScript and Python: needs Node.js, Python, npm's and pip's registries.
        #[arg(long)]
        all_languages: bool,
    },
    /// Starts a private PostgreSQL, says how to reach it, and stops it at Ctrl-C.
    Services,
    /// Runs one bench, or all, and keeps the figures in the target folder's bench/.
    Bench {
        /// Which one; without it, all in turn.
        name: Option<String>,
        /// Only see that it works: fewer of everything, the host as `cargo build` leaves it. Its figures say nothing.
        #[arg(long, requires = "name")]
        small: bool,
    },
    /// Only the checks of the source's shape: head comments, sizes, who imports whom.
    Tidy,
}

/// What a demo shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Example {
    /// A shop's orders, each checked to arrive once.
    Orders,
    /// A page where people follow, post, and see each other's posts.
    SocialFeed,
}

/// Reads the command line, does what it asks, and reports how that went.
#[must_use]
pub fn main() -> ExitCode {
    match run(Cli::parse().chore) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match chore {
        Chore::Demo { example, seconds } => {
            let length = seconds.map(Duration::from_secs);
            match example {
                Example::Orders => crate::demo::run(length),
                Example::SocialFeed => crate::demo::run_social_feed(length),
            }
        }
        Chore::Test { long, arguments } => {
            crate::test::run(if long { Length::Long } else { Length::Short }, &arguments)
        }
        Chore::Check => crate::check::run().map(done),
        Chore::BuildPlugins { retry, all_languages } => {
            crate::plugins::build_all(if retry { Retry::Everything } else { Retry::WhatMayHelp })?;
            if all_languages {
                crate::plugins::build_other_languages()?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Chore::Services => crate::services::run().map(done),
        Chore::Bench { name, small } => {
            let size = if small { Size::Small } else { Size::Whole };
            name.map_or_else(crate::bench::run_all, |name| crate::bench::run(&name, size)).map(done)
        }
        Chore::Tidy => crate::check::tidy().map(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Chore, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.chore)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_demo_without_seconds_has_no_end() {
        let demo = |example, seconds| Chore::Demo { example, seconds };
        assert_eq!(parse("xtask demo").unwrap(), demo(Example::Orders, None));
        assert_eq!(parse("xtask demo --seconds 30").unwrap(), demo(Example::Orders, Some(30)));
        assert_eq!(parse("xtask demo social-feed").unwrap(), demo(Example::SocialFeed, None));
        assert!(parse("xtask demo --seconds 0").is_err());
    }

    #[test]
    fn what_follows_test_goes_to_the_test_binaries() {
        let expected = |long, arguments: &[&str]| Chore::Test {
            long,
            arguments: arguments.iter().map(Into::into).collect(),
        };
        assert_eq!(parse("xtask test").unwrap(), expected(false, &[]));
        assert_eq!(parse("xtask test --long slot").unwrap(), expected(true, &["slot"]));
        assert_eq!(
            parse("xtask test -- --nocapture slot").unwrap(),
            expected(false, &["--nocapture", "slot"])
        );
        assert_eq!(parse("xtask test slot --exact").unwrap(), expected(false, &["slot", "--exact"]));
    }

    #[test]
    fn without_a_name_all_benches_are_meant() {
        assert_eq!(parse("xtask bench").unwrap(), Chore::Bench { name: None, small: false });
        let named = |small| Chore::Bench { name: Some("ingest".into()), small };
        assert_eq!(parse("xtask bench ingest").unwrap(), named(false));
        assert_eq!(parse("xtask bench ingest --small").unwrap(), named(true));
        assert!(parse("xtask bench --small").is_err());
    }
}
