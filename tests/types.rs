//! Every type of PostgreSQL: the same cell from a snapshot and from the stream, on each server, and the page that
//! says which.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use twohop::event::{Change, Operation, Value};
use twohop_tests::{Setup, Stand, servers};
use xtask::place;

const WITHIN: Duration = Duration::from_secs(60);

/// A type by its name in the catalog, as SQL names it, and values of it. The first one is the page's example.
type Sample = (&'static str, &'static str, &'static [&'static str]);

/// Every built-in type of which there are values; their arrays are tried too.
const BUILT_IN: &[Sample] = &[
    ("aclitem", "aclitem", &["postgres=r/postgres"]),
    ("bit", "bit(3)", &["101"]),
    ("bool", "bool", &["true", "false"]),
    ("box", "box", &["(3,4),(1,2)"]),
    ("bpchar", "char(5)", &["ab"]),
    ("bytea", "bytea", &["\\x00ff10", "", "\\x5c"]),
    ("char", "\"char\"", &["x", ""]),
    ("cid", "cid", &["5"]),
    ("cidr", "cidr", &["10.1.0.0/16", "2001:db8::/32"]),
    ("circle", "circle", &["<(1,2),3.5>"]),
    ("date", "date", &["2024-01-02", "infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"]),
    ("datemultirange", "datemultirange", &["{[2024-01-01,2024-02-01),[2024-03-01,)}"]),
    ("daterange", "daterange", &["[2024-01-01,2024-02-01)", "empty", "(,)"]),
    ("float4", "float4", &["0.1", "NaN", "Infinity", "-Infinity", "1e-37", "-0"]),
    ("float8", "float8", &["0.1", "NaN", "Infinity", "-Infinity", "1.7976931348623157e308", "5e-324"]),
    ("inet", "inet", &["10.1.2.3/16", "::1"]),
    ("int2", "int2", &["-32768", "32767"]),
    ("int4", "int4", &["-2147483648", "2147483647"]),
    ("int4multirange", "int4multirange", &["{[1,3),[5,7)}", "{}"]),
    ("int4range", "int4range", &["[1,3)", "empty"]),
    ("int8", "int8", &["-9223372036854775808", "9223372036854775807"]),
    ("int8multirange", "int8multirange", &["{[1,3)}"]),
    ("int8range", "int8range", &["[1,9223372036854775807)"]),
    ("interval", "interval", &["1 day 02:00", "-1 year 2 months", "0", "00:00:00.000001"]),
    ("json", "json", &["{\"a\" : 1, \"a\":2}", "null"]),
    ("jsonb", "jsonb", &["{\"b\": [1, null], \"a\": 1e2}", "\"text\"", "null"]),
    ("jsonpath", "jsonpath", &["$.a[*] ? (@ > 1)"]),
    ("line", "line", &["{1,-1,0}"]),
    ("lseg", "lseg", &["[(1,2),(3,4)]"]),
    ("macaddr", "macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", "macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("money", "money", &["-1234.56"]),
    ("name", "name", &["a name"]),
    (
        "numeric",
        "numeric",
        &["10.50", "NaN", "Infinity", "-Infinity", HUNDRED_DIGITS, "0.000", "1e-20", "-0"],
    ),
    ("nummultirange", "nummultirange", &["{[1.5,2.5]}"]),
    ("numrange", "numrange", &["[1.50,NaN]"]),
    ("oid", "oid", &["4294967295"]),
    ("path", "path", &["[(1,2),(3,4)]", "((1,2),(3,4))"]),
    ("pg_lsn", "pg_lsn", &["16/B374D848"]),
    ("pg_snapshot", "pg_snapshot", &["10:20:10,14,15"]),
    ("point", "point", &["(1.5,-2)"]),
    ("polygon", "polygon", &["((1,2),(3,4),(5,6))"]),
    ("refcursor", "refcursor", &["a cursor"]),
    ("regclass", "regclass", &["public.kinds", "pg_class"]),
    ("regcollation", "regcollation", &["\"C\""]),
    ("regconfig", "regconfig", &["english"]),
    ("regdictionary", "regdictionary", &["simple"]),
    ("regnamespace", "regnamespace", &["public"]),
    ("regoper", "regoper", &["||/"]),
    ("regoperator", "regoperator", &["+(integer,integer)"]),
    ("regproc", "regproc", &["now"]),
    ("regprocedure", "regprocedure", &["abs(integer)"]),
    ("regrole", "regrole", &["postgres"]),
    ("regtype", "regtype", &["public.mood", "integer"]),
    ("text", "text", &["a text", "", "\u{1f418} \u{e9}\\\"'", "a\nline"]),
    ("tid", "tid", &["(0,1)"]),
    ("time", "time", &["03:04:05.678", "24:00:00"]),
    ("timestamp", "timestamp", &["2024-01-02 03:04:05.678", "infinity", "0044-03-15 12:00:00 BC"]),
    (
        "timestamptz",
        "timestamptz",
        &[
            "2024-01-02 03:04:05.678+02",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
        ],
    ),
    ("timetz", "timetz", &["03:04:05+02"]),
    ("tsmultirange", "tsmultirange", &["{[\"2024-01-02 03:04:05\",\"2024-01-03 00:00:00\")}"]),
    ("tsquery", "tsquery", &["'fat' & ('rat' | 'cat':B)"]),
    ("tsrange", "tsrange", &["[\"2024-01-02 03:04:05\",)"]),
    ("tstzmultirange", "tstzmultirange", &["{[\"2024-01-02 03:04:05+02\",\"2024-01-03 00:00:00+02\")}"]),
    ("tstzrange", "tstzrange", &["[\"2024-01-02 03:04:05+02\",infinity)"]),
    ("tsvector", "tsvector", &["'cat':3 'fat':2A"]),
    ("txid_snapshot", "txid_snapshot", &["10:20:10,14,15"]),
    ("uuid", "uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("varbit", "varbit", &["10110", ""]),
    ("varchar", "varchar(9)", &["some"]),
    ("xid", "xid", &["4294967295"]),
    ("xid8", "xid8", &["18446744073709551615"]),
    ("xml", "xml", &["<a b=\"c\">d</a>"]),
];

const HUNDRED_DIGITS: &str = "12345678901234567890123456789012345678901234567890.\
                              12345678901234567890123456789012345678901234567890";

/// Types that the server uses within itself: it takes no value of them.
const WITHOUT_VALUES: [&str; 7] = [
    "gtsvector",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
];

/// `shape` and `embedding` are types of an extension written in C as far as a source can tell: their values are what
/// their output functions say. They stand in for PostGIS's `geometry` and pgvector's `vector`.
const SCHEMA: &str = "
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
    CREATE TYPE mood AS ENUM ('sad', 'so, so', 'happy');
    CREATE DOMAIN positive AS int4 CHECK (VALUE > 0);
    CREATE DOMAIN small AS positive CHECK (VALUE < 10);
    CREATE DOMAIN mail AS text CHECK (VALUE LIKE '%@%');
    CREATE DOMAIN digest AS bytea;
    CREATE DOMAIN scores AS int4[];
    CREATE TYPE place AS (street text, number positive, moods mood[]);
    CREATE TYPE floatrange AS RANGE (subtype = float8, multirange_type_name = floatmultirange);
    CREATE TYPE shape; CREATE TYPE embedding;
    CREATE FUNCTION shape_in(cstring) RETURNS shape LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION shape_out(shape) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE TYPE shape (INPUT = shape_in, OUTPUT = shape_out, LIKE = text);
    CREATE FUNCTION embedding_in(cstring) RETURNS embedding LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION embedding_out(embedding) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE TYPE embedding (INPUT = embedding_in, OUTPUT = embedding_out, LIKE = text);";

/// Types that are made of others, by people, or by extensions.
const MADE: &[Sample] = &[
    ("an array", "int4[]", &["{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={5,6}", "{}"]),
    ("an array of text", "text[]", &["{plain,\"two words\",\"a \\\"quote\\\"\",NULL,\"NULL\",\"\"}"]),
    ("an array of numbers without bound", "numeric[]", &["{NaN,1.50,Infinity}"]),
    ("an enumeration", "mood", &["so, so", "happy"]),
    ("an array of an enumeration", "mood[]", &["{happy,\"so, so\"}"]),
    ("a domain", "positive", &["7"]),
    ("a domain of a domain", "small", &["7"]),
    ("a domain of text", "mail", &["a@b"]),
    ("a domain of bytes", "digest", &["\\x0a"]),
    ("a domain of an array", "scores", &["{1,2}"]),
    ("an array of a domain", "positive[]", &["{1,2}"]),
    ("a composite", "place", &["(\"Main \"\"St\"\"\",7,\"{happy,\"\"so, so\"\"}\")", "(,,)"]),
    ("an array of a composite", "place[]", &["{\"(a,7,{happy})\",\"(,,)\"}"]),
    ("a range of one's own", "floatrange", &["[0.1,2)"]),
    ("its multirange", "floatmultirange", &["{[0.1,2),[3,)}"]),
    ("hstore", "hstore", &["\"a\"=>\"1\", \"b\"=>NULL"]),
    ("citext", "citext", &["As It Was"]),
    ("ltree", "ltree", &["Top.Science"]),
    ("a type like PostGIS's geometry", "shape", &["0101000020E6100000000000000000F03F0000000000000040"]),
    ("a type like pgvector's vector", "embedding", &["[1,2.5,-3]"]),
];

/// The columns of `kinds`, with their type and their values.
fn columns() -> Vec<(String, String, Vec<String>)> {
    let of = |(name, sql, values): &Sample| {
        let values = values.iter().map(|value| quoted(value)).collect::<Vec<_>>();
        (format!("\"{name}\""), (*sql).to_owned(), values)
    };
    let array = |(name, sql, values): &Sample| {
        let elements: Vec<_> = values.iter().map(|value| format!("{}::{sql}", quoted(value))).collect();
        (format!("\"{name}[]\""), format!("{sql}[]"), vec![format!("ARRAY[{}, NULL]", elements.join(", "))])
    };
    BUILT_IN.iter().chain(MADE).map(of).chain(BUILT_IN.iter().map(array)).collect()
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn schema() -> String {
    let columns: Vec<_> = columns().iter().map(|(name, sql, _)| format!("{name} {sql}")).collect();
    format!("{SCHEMA}\nCREATE TABLE kinds (id int PRIMARY KEY, {});\n{}", columns.join(", "), inserts(0))
}

/// As many rows as the type with the most values needs, and one of nulls; their ids begin after `after`.
fn inserts(after: usize) -> String {
    let columns = columns();
    let mut sql = String::new();
    for nth in 0..rows_count() {
        let values: Vec<_> = columns
            .iter()
            .map(|(_, sql, values)| {
                values.get(nth).map_or("NULL".to_owned(), |value| format!("{value}::{sql}"))
            })
            .collect();
        writeln!(sql, "INSERT INTO kinds VALUES ({}, {});", after + nth + 1, values.join(", "))
            .expect("it fits");
    }
    sql
}

fn rows_count() -> usize {
    columns().iter().map(|(_, _, values)| values.len()).max().unwrap_or(0) + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_gives_the_same_cell_from_a_snapshot_and_from_the_stream_as_the_page_says() -> Result<()> {
    for server in servers() {
        let on = server.major;
        same_cells(Setup { postgres: server, ..Setup::default() })
            .await
            .with_context(|| format!("on PostgreSQL {on:?}"))?;
    }
    Ok(())
}

async fn same_cells(setup: Setup<'_>) -> Result<()> {
    let stand = Stand::start(&Setup { schema: &schema(), tables: &["kinds"], ..setup })?;
    check_that_all_are_tried(&stand)?;
    let rows = rows_count();
    stand.wait_for_snapshot(WITHIN).await?;
    stand.postgres.psql(&inserts(rows))?;
    let of_rows = |change: &Change| &*change.table.name == "kinds";
    let changes = stand.wait_for_changes("all rows", WITHIN, of_rows, 2 * rows).await?;
    let (snapshot, stream) = changes.split_at(rows);
    ensure!(snapshot.iter().all(|change| change.operation == Operation::Snapshot));
    ensure!(stream.iter().all(|change| change.operation == Operation::Insert));
    for (read, streamed) in snapshot.iter().zip(stream) {
        let cells = |change| -> Result<Vec<_>> {
            let row = Change::row(change).context("it has a row")?;
            Ok(row.columns().map(|(column, value)| format!("{column:?} {value:?}")).skip(1).collect())
        };
        for (read, streamed) in cells(read)?.into_iter().zip(cells(streamed)?) {
            ensure!(read == streamed, "{read} was read, {streamed} was streamed");
        }
    }
    for change in [&snapshot[0], &stream[0]] {
        check_the_page(change)?;
    }
    let last = snapshot[rows - 1].row().context("it has a row")?;
    ensure!(last.columns().skip(1).all(|(_, value)| value == Value::Null), "the last row has nulls only");
    Ok(())
}

/// What the catalog has is what is tried.
fn check_that_all_are_tried(stand: &Stand) -> Result<()> {
    let found = stand.postgres.psql(
        "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype NOT IN ('p', 'c') \
         AND typcategory <> 'A'",
    )?;
    let found: BTreeSet<_> = found.lines().collect();
    let tried: BTreeSet<_> = BUILT_IN.iter().map(|(name, ..)| *name).chain(WITHOUT_VALUES).collect();
    ensure!(
        found == tried,
        "only one of both has {:?}",
        found.symmetric_difference(&tried).collect::<Vec<_>>()
    );
    for name in WITHOUT_VALUES {
        let refused = stand.postgres.psql(&format!("SELECT 'x'::{name}"));
        ensure!(refused.is_err(), "the server takes a {name}");
    }
    Ok(())
}

fn check_the_page(change: &Change) -> Result<()> {
    let mut table =
        String::from("| in SQL | the column's type in a change | cell | for example |\n|---|---|---|---|\n");
    let row = change.row().context("it has a row")?;
    for (name, sql, _) in BUILT_IN.iter().chain(MADE) {
        let index = change.table.column(name).with_context(|| format!("no column `{name}`"))?;
        let column = &change.table.columns[index];
        let (cell, example) = match row.value(index) {
            Value::Boolean(value) => ("boolean", value.to_string()),
            Value::Integer(value) => ("integer", value.to_string()),
            Value::Float(value) => ("float", value.to_string()),
            Value::Text(text) => ("text", text.to_owned()),
            Value::Bytes(bytes) => {
                ("bytes", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "))
            }
            other => anyhow::bail!("{name} is {other:?}"),
        };
        let of = if BUILT_IN.iter().any(|(built_in, ..)| built_in == name) {
            String::new()
        } else {
            format!(", {name}")
        };
        let example = example.replace('|', "\\|");
        writeln!(table, "| `{sql}`{of} | `{}` | {cell} | `{example}` |", column.type_name)?;
    }
    let page = std::fs::read_to_string(place::root().join("docs/sources/types.md"))?;
    ensure!(page.contains(&table), "put this into docs/sources/types.md:\n{table}");
    Ok(())
}
