//! `cargo xtask demo`: rows committed in a real PostgreSQL reach a real client, while one looks on.
//!
//! In: how long. Out: numbered steps, a page's address, and as the last line `transactions T, changes C, delivered
//! D, lost L, p50 … ms, p99 … ms`; exit code 1 if anything was lost, doubled, out of order, or never committed.
//! Always: it sets up all that it needs, and ends with no process and no folder left.
//! Absent on purpose: any claim about speed under load; that is `cargo xtask bench latency`.

mod ledger;
mod reader;
mod social_feed;
mod writer;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};
use tokio_postgres::{Client, NoTls};

use crate::plugins::{self, Retry};
use crate::process;
use crate::services::host::Options as HostOptions;
use crate::services::postgres::{Options as PostgresOptions, Postgres};
use crate::services::{Folder, Host};
use crate::{interrupt, place, setup};
use ledger::SharedLedger;
pub use social_feed::{SocialFeed, run as run_social_feed};
use writer::Writer;

const EXAMPLE: &str = "examples/orders";
const CHANNEL: &str = "/v1/events?channel=orders";
const TRANSACTION_EVERY: Duration = Duration::from_millis(100);
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How long the last changes may take to arrive before they count as lost.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
const CAPTURE_WITHIN: Duration = Duration::from_secs(30);

/// Sets everything up and shows it, for so long or until Ctrl-C.
///
/// # Errors
/// A step of the set-up fails, or a service ends in the middle.
pub fn run(length: Option<Duration>) -> Result<ExitCode> {
    println!("[1/6] what is needed: PostgreSQL");
    let bin = setup::postgres()?;
    println!("  PostgreSQL's programs are in {}", bin.display());
    println!("[2/6] building the host (the first time takes minutes: it holds a compiler for WebAssembly)");
    process::run(place::cargo().args(["build", "--package", "twohop"]))?;
    println!("[3/6] building the plugins");
    plugins::build_all(Retry::WhatMayHelp)?;
    show(length)
}

/// The demo itself, once host and plugins are built.
fn show(length: Option<Duration>) -> Result<ExitCode> {
    let runtime = Runtime::new().context("could not start the runtime")?;
    // Before anything is started, so that a signal at any moment from here on ends in order.
    let end = runtime.spawn(interrupt::asked_to_end());
    println!("[4/6] starting a private PostgreSQL, with the table of {EXAMPLE}/schema.sql");
    let postgres = Postgres::start(PostgresOptions::default())?;
    println!("  psql {}", postgres.url());
    println!("[5/6] starting the host, with {EXAMPLE}/twohop.toml");
    let folder = Folder::new("demo")?;
    let client = runtime.block_on(connect(&postgres.url()))?;
    let schema = fs::read_to_string(place::root().join(EXAMPLE).join("schema.sql"))?;
    runtime.block_on(client.batch_execute(&schema)).context("could not apply the schema")?;
    let config = folder.write("twohop.toml", &configuration(EXAMPLE, &postgres.url(), folder.path())?)?;
    let mut host = Host::start(HostOptions::new(config))?;
    println!(
        "[6/6] transactions, {} a second, and a client that checks that each change arrives once",
        per_second()
    );
    println!(
        "\n  the page: http://{}/\n  as text:  curl -N 'http://{}{CHANNEL}'\n",
        host.address(),
        host.address()
    );
    let ledger = SharedLedger::default();
    let outcome = runtime.block_on(watch(client, &mut host, &ledger, length, end));
    println!("  stopping");
    host.terminate();
    let said = if outcome.is_err() { host.stderr() } else { String::new() };
    drop((host, folder));
    postgres.stop()?;
    outcome.with_context(|| format!("the demo broke off; the host said:\n{said}"))?;
    Ok(close(&ledger))
}

fn per_second() -> u128 {
    Duration::from_secs(1).as_nanos() / TRANSACTION_EVERY.as_nanos()
}

/// The closing line, last; what is wrong, before it.
fn close(ledger: &SharedLedger) -> ExitCode {
    let closing = ledger.closing();
    for fault in &closing.faults {
        eprintln!("  wrong: {fault}");
    }
    println!("{closing}");
    if closing.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The example's configuration, its addresses and paths replaced by ours.
fn configuration(example: &str, url: &str, folder: &Path) -> Result<String> {
    let file = place::root().join(example).join("twohop.toml");
    let example = fs::read_to_string(&file).with_context(|| format!("could not read {}", file.display()))?;
    adapt(&example, url, folder, &|name| place::plugin(name).map(|path| path.display().to_string()))
        .with_context(|| format!("could not use {}", file.display()))
}

fn adapt(example: &str, url: &str, folder: &Path, plugin: &dyn Fn(&str) -> Result<String>) -> Result<String> {
    let mut config: toml::Table = example.parse()?;
    config.insert("data".into(), folder.join("data").display().to_string().into());
    config.insert("admin".into(), toml::Table::from_iter([("listen".into(), "127.0.0.1:0".into())]).into());
    let mut set =
        |table: &str, entry: Option<&str>, key: &str, value: &dyn Fn(&str) -> Result<String>| -> Result<()> {
            let found = config.get_mut(table).and_then(toml::Value::as_table_mut);
            let found = found.with_context(|| format!("it has no table `{table}`"))?;
            match entry {
                Some(_) => {
                    for (name, inner) in found.iter_mut() {
                        let inner =
                            inner.as_table_mut().with_context(|| format!("`{table}.{name}` is no table"))?;
                        inner.insert(key.into(), value(name)?.into());
                    }
                }
                None => {
                    found.insert(key.into(), value("")?.into());
                }
            }
            Ok(())
        };
    set("gateway", None, "listen", &|_| Ok("127.0.0.1:0".into()))?;
    set("source", Some("*"), "url", &|_| Ok(url.into()))?;
    set("plugin", Some("*"), "file", plugin)?;
    Ok(config.to_string())
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("could not reach PostgreSQL")?;
    // Ends when the client is dropped; what breaks it shows at the client's next statement.
    tokio::spawn(connection);
    Ok(client)
}

/// Writes and reads until the time is over or we are asked to end, then waits for what is still on its way.
async fn watch(
    mut client: Client,
    host: &mut Host,
    ledger: &SharedLedger,
    length: Option<Duration>,
    mut end: JoinHandle<std::io::Result<()>>,
) -> Result<()> {
    let prepared = async {
        wait_for_capture(&client).await?;
        reader::Reader::connect(host.address(), CHANNEL).await
    };
    let reader = tokio::select! {
        reader = prepared => reader?,
        ended = &mut end => return ended?.context("could not wait for signals"),
    };
    let arrived = Arc::clone(&ledger.arrived);
    let mut reading = tokio::spawn(reader.run(ledger.clone()));
    let started = Instant::now();
    let over = async {
        match length {
            Some(length) => tokio::time::sleep_until(started + length).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    let mut writer = Writer::default();
    let mut ticks = interval(TRANSACTION_EVERY);
    let mut status = interval(STATUS_EVERY);
    // The first tick of an interval comes at once.
    status.tick().await;
    loop {
        tokio::select! {
            () = &mut over => break,
            ended = &mut end => {
                ended?.context("could not wait for signals")?;
                break;
            }
            broken = &mut reading => return broken?.context("the client's stream broke"),
            _ = status.tick() => println!("  {:>4} s  {}", started.elapsed().as_secs(), ledger.closing().so_far()),
            _ = ticks.tick() => writer.transact(&mut client, ledger).await.context("could not write to PostgreSQL")?,
        }
        if let Some(status) = host.ended() {
            bail!("the host ended by itself: {}", process::describe(status));
        }
    }
    let drained = async {
        while !ledger.is_settled() {
            arrived.notified().await;
        }
    };
    // What has not come by then is lost, and the closing line says so.
    let _ = timeout(DRAIN_WITHIN, drained).await;
    reading.abort();
    Ok(())
}

/// Waits until the host streams from its slot: what is committed after that comes as a change, not in a snapshot.
pub(crate) async fn wait_for_capture(client: &Client) -> Result<()> {
    let streaming = "SELECT count(*) FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid \
                     WHERE state = 'streaming' AND slot_type = 'logical'";
    let mut looks = interval(Duration::from_millis(50));
    let wait = async {
        loop {
            looks.tick().await;
            let count: i64 = client.query_one(streaming, &[]).await?.get(0);
            if count > 0 {
                return anyhow::Ok(());
            }
        }
    };
    let waited = timeout(CAPTURE_WITHIN, wait).await;
    ensure!(waited.is_ok(), "the host does not stream from PostgreSQL after {} s", CAPTURE_WITHIN.as_secs());
    waited?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_adapted_and_otherwise_kept() {
        let example = "data = 'x'\n[gateway]\nlisten = 'a:1'\n[source.shop]\nurl = 'u'\ntables = ['public.orders']\n\
                       [plugin.row-router]\nfile = 'f'\nsettings = { tables = 'orders' }\n";
        let text =
            adapt(example, "postgres://x", Path::new("/d"), &|name| Ok(format!("/p/{name}.wasm"))).unwrap();
        let config: toml::Table = text.parse().unwrap();
        assert_eq!(config["data"].as_str(), Some("/d/data"));
        assert_eq!(config["gateway"]["listen"].as_str(), Some("127.0.0.1:0"));
        assert_eq!(config["admin"]["listen"].as_str(), Some("127.0.0.1:0"));
        assert_eq!(config["source"]["shop"]["url"].as_str(), Some("postgres://x"));
        assert_eq!(config["source"]["shop"]["tables"][0].as_str(), Some("public.orders"));
        assert_eq!(config["plugin"]["row-router"]["file"].as_str(), Some("/p/row-router.wasm"));
        assert_eq!(config["plugin"]["row-router"]["settings"]["tables"].as_str(), Some("orders"));
    }

    #[test]
    fn an_example_without_a_source_is_refused() {
        let error = adapt("[gateway]\n", "u", Path::new("/d"), &|_| Ok(String::new())).unwrap_err();
        assert_eq!(error.to_string(), "it has no table `source`");
    }

    #[test]
    fn the_example_that_ships_can_be_adapted() {
        let file = place::root().join(EXAMPLE).join("twohop.toml");
        let example = fs::read_to_string(file).unwrap();
        adapt(&example, "postgres://x", Path::new("/d"), &|_| Ok(String::new())).unwrap();
    }
}
