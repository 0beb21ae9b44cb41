//! `cargo xtask demo social-feed`: a page where two people and a celebrity follow, post, and see each other's posts.
//!
//! In: how long. Out: the page's address; the rest is up to who looks at it.
//! Always: it sets up all that it needs, and ends with no process and no folder left.

use std::fs::{self, File};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::runtime::Runtime;

use super::configuration;
use crate::plugins::{self, Retry};
use crate::process::{self, Service};
use crate::services::host::Options as HostOptions;
use crate::services::postgres::{Options as PostgresOptions, Postgres};
use crate::services::{Folder, Host, port, spoken};
use crate::{interrupt, place, setup};

const EXAMPLE: &str = "examples/social-feed";
const READY: &str = "the page: http://";
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Sets everything up and lets people use it, for so long or until Ctrl-C.
///
/// # Errors
/// A step of the set-up fails.
pub fn run(length: Option<Duration>) -> Result<ExitCode> {
    println!("[1/4] what is needed: PostgreSQL");
    setup::postgres()?;
    println!("[2/4] building the host and the application (the first time takes minutes)");
    process::run(place::cargo().args(["build", "--package", "twohop", "--package", "social-feed"]))?;
    println!("[3/4] building the plugins");
    plugins::build_all(Retry::WhatMayHelp)?;
    println!("[4/4] starting a private PostgreSQL, the host and the application of {EXAMPLE}");
    let runtime = Runtime::new().context("could not start the runtime")?;
    // Before anything is started, so that a signal at any moment from here on ends in order.
    let end = runtime.spawn(interrupt::asked_to_end());
    let feed = SocialFeed::start()?;
    println!("\n  the page:   {}", feed.page());
    println!("  a timeline: curl '{}/v1/timelines/ann'", feed.twohop());
    println!("  live:       curl -N '{}/v1/events?channel=timeline:ann'", feed.twohop());
    println!("  the tables: psql {}\n\n  Ctrl-C ends it.", feed.postgres.url());
    runtime
        .block_on(async {
            match length {
                Some(length) => tokio::time::timeout(length, end).await.unwrap_or(Ok(Ok(()))),
                None => end.await,
            }
        })?
        .context("could not wait for signals")?;
    println!("  stopping");
    feed.stop()?;
    Ok(ExitCode::SUCCESS)
}

/// The example, running: a database, the host, and the application.
#[derive(Debug)]
pub struct SocialFeed {
    // Dropped in this order.
    _application: Service,
    host: Host,
    /// The database.
    pub postgres: Postgres,
    page: String,
    _folder: Folder,
}

impl SocialFeed {
    /// Starts what was built. Blocks until the page is there.
    ///
    /// # Errors
    /// Something is not built, or does not start.
    pub fn start() -> Result<SocialFeed> {
        let postgres = Postgres::start(PostgresOptions::default())?;
        let schema = fs::read_to_string(place::root().join(EXAMPLE).join("schema.sql"))?;
        postgres.psql(&schema).context("could not apply the schema")?;
        let folder = Folder::new("social-feed")?;
        let listen = format!("127.0.0.1:{}", port::free().context("could not find a free port")?);
        let page = format!("http://{listen}");
        let text = configuration(EXAMPLE, &postgres.url(), folder.path())?;
        let config = folder.write("twohop.toml", &with_origin(&text, &page)?)?;
        let host = Host::start(HostOptions::new(config))?;
        let program = place::target()?.join("debug/social-feed");
        if !program.is_file() {
            bail!("{} is not there: run `cargo build -p social-feed` first", program.display());
        }
        let mut command = Service::command(&program, Signal::SIGKILL);
        command.env("DATABASE_URL", postgres.url()).env("LISTEN", listen);
        command.env("TWOHOP_URL", format!("http://{}", host.address())).stdout(Stdio::piped());
        let mut application = Service::start(command).context("could not start the application")?;
        let log = File::create(folder.path().join("application.log")).context("could not make a log")?;
        let ready = spoken::until(READY, application.child().stdout.take(), log);
        ready.recv_timeout(READY_WITHIN).context("the application does not say that its page is there")?;
        Ok(SocialFeed { _application: application, host, postgres, page, _folder: folder })
    }

    /// The page's address.
    #[must_use]
    pub fn page(&self) -> &str {
        &self.page
    }

    /// The host's address.
    #[must_use]
    pub fn twohop(&self) -> String {
        format!("http://{}", self.host.address())
    }

    fn stop(mut self) -> Result<()> {
        self.host.terminate();
        let SocialFeed { postgres, .. } = self;
        postgres.stop()
    }
}

/// The page comes from another port than the example says.
fn with_origin(config: &str, page: &str) -> Result<String> {
    let mut config: toml::Table = config.parse()?;
    let access = config.get_mut("gateway").and_then(|gateway| gateway.get_mut("access"));
    let access = access.and_then(toml::Value::as_table_mut).context("it has no `gateway.access`")?;
    access.insert("origins".into(), vec![page.to_owned()].into());
    Ok(config.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_example_lets_the_page_read_that_the_application_serves() {
        let example = fs::read_to_string(place::root().join(EXAMPLE).join("twohop.toml")).unwrap();
        assert!(example.contains("access.origins = [\"http://127.0.0.1:8082\"]"));
        let adapted =
            super::super::adapt(&example, "postgres://x", Path::new("/d"), &|_| Ok(String::new())).unwrap();
        let config: toml::Table = with_origin(&adapted, "http://127.0.0.1:9").unwrap().parse().unwrap();
        assert_eq!(config["gateway"]["access"]["origins"][0].as_str(), Some("http://127.0.0.1:9"));
        assert_eq!(config["gateway"]["access"]["anonymous"][0].as_str(), Some("*"));
        assert!(with_origin("[gateway]\n", "x").is_err());
    }
}
