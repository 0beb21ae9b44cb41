//! What cannot work is refused at the start: what is wrong, where, and what to do; and the next start may succeed.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use xtask::place;
use xtask::services::host::{Host, Options, Refusal, refusal_within};
use xtask::services::postgres::{self, Postgres, WalLevel};
use xtask::services::{Folder, port};

const WITHIN: Duration = Duration::from_secs(30);
const KEYED: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, status text)";

/// A configuration file and what varies in it.
struct Case {
    folder: Folder,
    url: String,
    listen: u16,
    plugin: String,
    further: String,
}

impl Case {
    fn new(url: &str) -> Result<Self> {
        Ok(Self {
            folder: Folder::new("refusal")?,
            url: url.to_owned(),
            listen: port::free()?,
            plugin: place::plugin("row-router")?.display().to_string(),
            further: String::new(),
        })
    }

    fn options(&self) -> Result<Options> {
        let Self { url, listen, plugin, further, .. } = self;
        let config = self.folder.path().join("twohop.toml");
        let text = format!(
            "data = \"data\"\n[source.shop]\nurl = \"{url}\"\ntables = [\"orders\"]\n[plugin.row-router]\n\
             file = \"{plugin}\"\nsettings = {{ tables = \"orders\" }}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [gateway]\nlisten = \"127.0.0.1:{listen}\"\n{further}\n"
        );
        fs::write(&config, text)?;
        Ok(Options::new(config))
    }

    /// The refusal; checks that it is one, and that it says all of this.
    fn refused(&self, says: &[&str]) -> Result<Refusal> {
        let refusal = refusal_within(&self.options()?, WITHIN)?;
        assert_eq!(refusal.status.code(), Some(1), "{}", refusal.stderr);
        for part in says {
            assert!(refusal.stderr.contains(part), "`{part}` is not in:\n{}", refusal.stderr);
        }
        assert!(!refusal.stderr.contains("panicked"), "{}", refusal.stderr);
        Ok(refusal)
    }

    /// After the mend, the same start succeeds.
    fn starts(&self) -> Result<()> {
        Host::start(self.options()?).map(drop)
    }
}

fn server() -> Result<Postgres> {
    let server = Postgres::start(postgres::Options::default())?;
    server.psql(KEYED)?;
    Ok(server)
}

#[test]
fn a_wal_level_that_is_too_low_is_refused_with_the_sql_that_mends_it() -> Result<()> {
    let options = postgres::Options { wal_level: WalLevel::Replica, ..postgres::Options::default() };
    let mut server = Postgres::start(options)?;
    server.psql(KEYED)?;
    let case = Case::new(&server.url())?;
    case.refused(&["source shop", "wal_level", "replica", "ALTER SYSTEM SET wal_level = logical"])?;
    server.psql("ALTER SYSTEM SET wal_level = logical")?;
    server.restart()?;
    case.starts()
}

#[test]
fn a_user_without_the_right_to_replicate_is_refused_with_the_sql_that_mends_it() -> Result<()> {
    let server = server()?;
    server.psql("CREATE ROLE reader LOGIN; GRANT ALL ON orders TO reader; GRANT CREATE ON DATABASE postgres TO reader")?;
    server.psql("ALTER TABLE orders OWNER TO reader")?;
    let case = Case::new(&server.url().replace("postgres@", "reader@"))?;
    case.refused(&["source shop", "reader", "ALTER ROLE", "REPLICATION"])?;
    server.psql("ALTER ROLE reader REPLICATION")?;
    case.starts()
}

#[test]
fn a_table_without_a_key_is_refused_with_the_sql_that_mends_it() -> Result<()> {
    let server = Postgres::start(postgres::Options::default())?;
    server.psql("CREATE TABLE orders (id bigint, status text)")?;
    let case = Case::new(&server.url())?;
    case.refused(&["source shop", "orders", "PRIMARY KEY", "REPLICA IDENTITY FULL"])?;
    let slots = server.psql("SELECT count(*) FROM pg_replication_slots")?;
    assert_eq!(slots.trim(), "0", "a start that failed leaves no slot that would hold the server's log");
    server.psql("ALTER TABLE orders ADD PRIMARY KEY (id)")?;
    case.starts()
}

#[test]
fn a_table_with_replica_identity_nothing_is_refused_with_the_sql_that_mends_it() -> Result<()> {
    let server = server()?;
    server.psql("ALTER TABLE orders REPLICA IDENTITY NOTHING")?;
    let case = Case::new(&server.url())?;
    case.refused(&[
        "source shop",
        "REPLICA IDENTITY NOTHING",
        "ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY DEFAULT",
    ])?;
    server.psql("ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY DEFAULT")?;
    case.starts()
}

#[test]
fn a_table_that_is_not_there_is_named() -> Result<()> {
    let server = Postgres::start(postgres::Options::default())?;
    let case = Case::new(&server.url())?;
    case.refused(&["source shop", "orders"])?;
    server.psql(KEYED)?;
    case.starts()
}

#[test]
fn a_server_that_cannot_be_reached_is_named() -> Result<()> {
    let free = port::free()?;
    let case = Case::new(&format!("postgres://app:s3cret@127.0.0.1:{free}/shop"))?;
    let refusal = case.refused(&["source shop", &format!("127.0.0.1:{free}")])?;
    assert!(!refusal.stderr.contains("s3cret"), "a password is never printed: {}", refusal.stderr);
    Ok(())
}

#[test]
fn a_wrong_password_is_refused_without_being_printed() -> Result<()> {
    let options = postgres::Options { auth: postgres::Auth::Scram, ..postgres::Options::default() };
    let server = Postgres::start(options)?;
    server.psql(KEYED)?;
    let url = format!("postgres://postgres:wr0ng@127.0.0.1:{}/postgres", server.port());
    let case = Case::new(&url)?;
    let refusal = case.refused(&["source shop", "password"])?;
    assert!(!refusal.stderr.contains("wr0ng"), "a password is never printed: {}", refusal.stderr);
    Case::new(&server.url())?.starts()
}

#[test]
fn a_port_that_is_taken_is_named() -> Result<()> {
    let server = server()?;
    let case = Case::new(&server.url())?;
    let taken = TcpListener::bind(("127.0.0.1", case.listen))?;
    case.refused(&[&format!("127.0.0.1:{}", case.listen), "gateway.listen"])?;
    drop(taken);
    case.starts()
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() -> Result<()> {
    let mut case = Case::new("postgres://nobody@127.0.0.1:1/none")?;
    case.further = "heartbeet = \"5s\"".to_owned();
    case.refused(&["twohop.toml", "unknown key `gateway.heartbeet`", "did you mean `gateway.heartbeat`?"])?;
    Ok(())
}

#[test]
fn a_configuration_that_is_not_there_is_named() -> Result<()> {
    let folder = Folder::new("refusal")?;
    let refusal = refusal_within(&Options::new(folder.path().join("absent.toml")), WITHIN)?;
    assert_eq!(refusal.status.code(), Some(1));
    assert!(refusal.stderr.contains("absent.toml"), "{}", refusal.stderr);
    Ok(())
}

fn with_plugin(contents: Option<&[u8]>, says: &[&str]) -> Result<()> {
    let mut case = Case::new("postgres://nobody@127.0.0.1:1/none")?;
    let file = case.folder.path().join("mine.wasm");
    if let Some(contents) = contents {
        fs::write(&file, contents)?;
    }
    case.plugin = file.display().to_string();
    case.refused(says)?;
    Ok(())
}

#[test]
fn a_plugin_that_is_not_there_is_named() -> Result<()> {
    with_plugin(None, &["row-router", "mine.wasm"])
}

#[test]
fn a_plugin_that_is_not_web_assembly_is_refused() -> Result<()> {
    with_plugin(Some(b"#!/bin/sh\necho no\n"), &["row-router", "mine.wasm"])
}

#[test]
fn a_core_module_is_refused_with_the_way_to_make_a_component() -> Result<()> {
    let module = b"\0asm\x01\0\0\0";
    with_plugin(Some(module), &["row-router", "component", "twohop plugin build"])
}

#[test]
fn a_component_without_the_world_is_refused_with_what_it_lacks() -> Result<()> {
    let component = b"\0asm\x0d\0\x01\0";
    with_plugin(Some(component), &["row-router", "twohop:policy/plugin"])
}

#[test]
fn settings_that_a_plugin_does_not_know_are_refused_in_its_words() -> Result<()> {
    let case = Case::new("postgres://nobody@127.0.0.1:1/none")?;
    let options = case.options()?;
    let text = fs::read_to_string(&options.config)?.replace("tables = \"orders\" }", "tabels = \"orders\" }");
    fs::write(&options.config, text)?;
    let refusal = refusal_within(&options, WITHIN)?;
    assert_eq!(refusal.status.code(), Some(1));
    assert!(refusal.stderr.contains("row-router") && refusal.stderr.contains("tabels"), "{}", refusal.stderr);
    Ok(())
}

#[test]
fn two_hosts_cannot_share_a_data_folder() -> Result<()> {
    let server = server()?;
    let case = Case::new(&server.url())?;
    let _running = Host::start(case.options()?)?;
    let second = Case { listen: port::free()?, ..Case::new(&server.url())? };
    let data = case.folder.path().join("data");
    let options = second.options()?;
    let text = fs::read_to_string(&options.config)?.replace("\"data\"", &format!("\"{}\"", data.display()));
    fs::write(&options.config, text)?;
    let refusal = refusal_within(&options, WITHIN)?;
    assert_eq!(refusal.status.code(), Some(1));
    assert!(refusal.stderr.contains(&*data.to_string_lossy()), "{}", refusal.stderr);
    assert!(Path::new(&data).is_dir());
    Ok(())
}

/// A publication that somebody else made is refused in these words, with SQL that mends it.
fn with_publication(schema: &str, publication: &str, says: &str) -> Result<()> {
    let server = Postgres::start(postgres::Options::default())?;
    server.psql(schema)?;
    server.psql(publication)?;
    let case = Case::new(&server.url())?;
    let refusal = case.refused(&["source shop", says, "ALTER PUBLICATION"])?;
    let slots = server.psql("SELECT count(*) FROM pg_replication_slots")?;
    assert_eq!(slots.trim(), "0", "a start that failed leaves no slot");
    let mend =
        refusal.stderr.split_once("ALTER PUBLICATION").and_then(|(_, rest)| rest.split_once(", or give"));
    let (mend, _) = mend.expect("the mend stands before the other way out");
    server.psql(&format!("ALTER PUBLICATION{mend}"))?;
    case.starts()
}

const VIA_ROOT: &str = "publish_via_partition_root = true";

#[test]
fn a_publication_that_leaves_operations_out_is_refused_with_the_sql_that_mends_it() -> Result<()> {
    let publication = format!(
        "CREATE PUBLICATION twohop_shop FOR TABLE orders WITH ({VIA_ROOT}, publish = 'insert, delete')"
    );
    with_publication(KEYED, &publication, "does not publish update, truncate")
}

#[test]
fn a_publication_of_partitions_is_refused_with_the_sql_that_mends_it() -> Result<()> {
    let schema = "CREATE TABLE orders (id bigint PRIMARY KEY) PARTITION BY RANGE (id); \
                  CREATE TABLE first PARTITION OF orders FOR VALUES FROM (0) TO (100)";
    with_publication(
        schema,
        "CREATE PUBLICATION twohop_shop FOR TABLE orders",
        "under the names of its partitions",
    )
}

#[test]
fn a_publication_of_some_rows_or_columns_is_refused_with_the_sql_that_mends_it() -> Result<()> {
    for part in ["orders WHERE (id > 7)", "orders (id)"] {
        let publication = format!("CREATE PUBLICATION twohop_shop FOR TABLE {part} WITH ({VIA_ROOT})");
        with_publication(KEYED, &publication, "only some rows or columns of table `public.orders`")?;
    }
    Ok(())
}

#[test]
fn a_publication_of_a_whole_schema_is_refused_with_the_sql_that_mends_it() -> Result<()> {
    let schema = format!("{KEYED}; CREATE TABLE secrets (id bigint PRIMARY KEY)");
    let publication = format!("CREATE PUBLICATION twohop_shop FOR TABLES IN SCHEMA public WITH ({VIA_ROOT})");
    with_publication(&schema, &publication, "also sends table `public.secrets`")
}

#[test]
fn a_slot_that_the_change_log_did_not_make_is_left_alone() -> Result<()> {
    let server = server()?;
    server.psql("SELECT pg_create_logical_replication_slot('twohop_shop', 'pgoutput')")?;
    let case = Case::new(&server.url())?;
    case.refused(&["source shop", "SELECT pg_drop_replication_slot('twohop_shop')"])?;
    server.psql("SELECT pg_drop_replication_slot('twohop_shop')")?;
    case.starts()?;
    case.starts()
}

#[test]
fn another_server_is_refused_before_anything_is_made_there() -> Result<()> {
    let (first, second) = (server()?, server()?);
    let case = Case::new(&first.url())?;
    case.starts()?;
    let moved = Case { url: second.url(), ..case };
    moved.refused(&["source shop", "system identifier", "point the URL to the right one"])?;
    let made =
        second.psql("SELECT (SELECT count(*) FROM pg_publication) + count(*) FROM pg_replication_slots")?;
    assert_eq!(made.trim(), "0");
    Case { url: first.url(), ..moved }.starts()
}
