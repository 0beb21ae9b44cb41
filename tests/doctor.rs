//! `twohop doctor`: what is wrong with a database, and the SQL that mends it.

use std::fs;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use xtask::place;
use xtask::services::Folder;
use xtask::services::postgres::{self, Postgres, WalLevel};

const KEYED: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, status text)";

fn doctor(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(place::host_binary()?).arg("doctor").args(arguments).output()?)
}

/// What it printed; checks how it ended, and that it says all of this.
fn says(output: &Output, code: i32, parts: &[&str]) -> Result<String> {
    let said = String::from_utf8(output.stdout.clone())?;
    let errors = String::from_utf8(output.stderr.clone())?;
    assert_eq!(output.status.code(), Some(code), "{said}{errors}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in:\n{said}{errors}");
    }
    Ok(said)
}

#[test]
fn all_that_is_wrong_is_named_at_once_and_the_sql_that_is_printed_mends_it() -> Result<()> {
    let options = postgres::Options { wal_level: WalLevel::Replica, ..postgres::Options::default() };
    let mut server = Postgres::start(options)?;
    server.psql(KEYED)?;
    server
        .psql("CREATE TABLE notes (body text); CREATE ROLE reader LOGIN; GRANT SELECT ON orders TO reader")?;
    let url = server.url().replace("postgres@", "reader@");
    assert!(url.contains("reader@"), "{url}");
    let found = says(
        &doctor(&[&url])?,
        1,
        &[
            "wal_level is `replica`",
            "ALTER ROLE \"reader\" REPLICATION",
            "table `public.notes` has no key",
            "GRANT CREATE ON DATABASE \"postgres\" TO \"reader\"",
            "main: wrong 3, warnings 2, tables that can be captured 1",
        ],
    )?;
    assert!(!found.contains("public.orders"), "{found}");

    server.psql("ALTER SYSTEM SET wal_level = logical")?;
    server.psql("ALTER ROLE \"reader\" REPLICATION")?;
    server.psql("ALTER TABLE \"public\".\"notes\" REPLICA IDENTITY FULL; GRANT SELECT ON notes TO reader")?;
    server.psql("GRANT CREATE ON DATABASE \"postgres\" TO \"reader\"")?;
    server.psql("ALTER SYSTEM SET max_slot_wal_keep_size = '64GB'")?;
    server.restart()?;
    says(&doctor(&[&url])?, 0, &["main: wrong 0, warnings 0, tables that can be captured 2"])?;
    Ok(())
}

#[test]
fn a_publication_that_is_younger_than_the_slot_and_slots_that_are_all_taken_are_warned_of() -> Result<()> {
    let server = Postgres::start(postgres::Options::default())?;
    server.psql(KEYED)?;
    server.psql("SELECT pg_create_logical_replication_slot('twohop_main', 'pgoutput')")?;
    let url = server.url();
    let before = says(&doctor(&[&url, "--table", "orders"])?, 0, &[])?;
    assert!(!before.contains("was made or altered after"), "{before}");
    server.psql("CREATE PUBLICATION twohop_main FOR TABLE orders")?;
    says(
        &doctor(&[&url])?,
        0,
        &["publication `twohop_main` was made or altered after", "pg_drop_replication_slot"],
    )?;

    let free: u32 = server
        .psql("SELECT current_setting('max_replication_slots')::int - count(*) FROM pg_replication_slots")?
        .trim()
        .parse()?;
    for number in 0..free {
        server.psql(&format!("SELECT pg_create_physical_replication_slot('other_{number}')"))?;
    }
    says(
        &doctor(&[&url, "--name", "shop"])?,
        0,
        &["and `twohop_shop` is not there yet", "max_replication_slots = "],
    )?;
    Ok(())
}

#[test]
fn the_sources_of_the_configuration_are_looked_at_and_no_password_is_printed() -> Result<()> {
    let server = Postgres::start(postgres::Options::default())?;
    server.psql(KEYED)?;
    let folder = Folder::new("doctor")?;
    let config = folder.path().join("twohop.toml");
    let url = server.url().replace("postgres@", "postgres:s3cret@");
    let text = format!("[source.shop]\nurl = \"{url}\"\ntables = [\"orders\", \"gone\"]\n");
    fs::write(&config, text)?;
    let config = config.to_str().context("the path is text")?;
    let found = doctor(&["--config", config])?;
    let said = says(&found, 1, &["shop: wrong 1", "table `public.gone` does not exist"])?;
    assert!(!said.contains("s3cret"), "{said}");

    server.psql("CREATE TABLE gone (id int PRIMARY KEY)")?;
    says(&doctor(&["--config", config])?, 0, &["shop: wrong 0"])?;
    let unreachable = doctor(&["postgres://ann:s3cret@127.0.0.1:1/shop"])?;
    let errors = String::from_utf8(unreachable.stderr)?;
    assert_eq!(unreachable.status.code(), Some(1));
    assert!(
        errors.contains("cannot reach PostgreSQL at 127.0.0.1:1") && !errors.contains("s3cret"),
        "{errors}"
    );
    Ok(())
}

#[test]
fn sources_that_poll_or_listen_are_looked_at_too_and_tables_by_pattern() -> Result<()> {
    let server = Postgres::start(postgres::Options::default())?;
    server.psql(&format!(
        "{KEYED}; CREATE TABLE order_lines (n int); CREATE TABLE order_notes (n int PRIMARY KEY)"
    ))?;
    server.psql("ALTER TABLE order_notes REPLICA IDENTITY NOTHING")?;
    let folder = Folder::new("doctor")?;
    let config = folder.path().join("twohop.toml");
    let url = server.url();
    let text = format!(
        "[source.mail]\nkind = \"polling\"\nurl = \"{url}\"\noutbox.table = \"outbox\"\n[source.news]\nkind = \"notify\"\n\
         url = \"{url}\"\nchannels = [\"news\"]\n[source.shop]\nurl = \"{url}\"\ntables = [\"order*\"]\n"
    );
    fs::write(&config, text)?;
    let config = config.to_str().context("the path is text")?;
    says(
        &doctor(&["--config", config])?,
        1,
        &[
            "mail: polls the outbox outbox: wrong 1\n  wrong    the outbox public.outbox does not exist",
            "news: listens to news: wrong 0",
            "table `public.order_lines` is left out, with its changes: table `public.order_lines` has no key",
            "table `public.order_notes` has REPLICA IDENTITY NOTHING",
            "shop: wrong 0, warnings 3, tables that can be captured 1",
        ],
    )?;
    server.psql(
        "CREATE TABLE outbox (id int PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload text, status text)",
    )?;
    says(&doctor(&["--config", config])?, 0, &["mail: polls the outbox outbox: wrong 0"])?;
    Ok(())
}
