//! `twohop sources`: how far the snapshots of the sources are, and that a table is to be read again.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::server::{self, Server};
use super::table::{cell, columns, head};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Sources {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    server: server::Where,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Have all rows of a table read again, among the changes that go on meanwhile.
    Snapshot {
        /// The source's name.
        source: String,
        /// The table, as the source's `tables` name it.
        table: String,
        #[command(flatten)]
        server: server::Where,
    },
}

/// Does what was asked.
pub(crate) fn run(arguments: &Sources) -> Result<()> {
    match &arguments.command {
        None => list(&arguments.server),
        Some(Command::Snapshot { source, table, server }) => snapshot(source, table, server),
    }
}

fn snapshot(source: &str, table: &str, server: &server::Where) -> Result<()> {
    let body = json!({"table": table});
    let answer =
        Server::of(server)?.send(Method::POST, &format!("/v1/sources/{source}/snapshot"), Some(&body))?;
    if server.json {
        println!("{answer}");
    } else {
        println!(
            "all rows of {} are read again: `twohop sources` shows how far that is",
            cell(&answer["table"])
        );
    }
    Ok(())
}

fn list(server: &server::Where) -> Result<()> {
    let answer = Server::of(server)?.get("/v1/sources")?;
    if server.json {
        println!("{answer}");
    } else {
        print!("{}", shown(&answer["sources"]));
    }
    Ok(())
}

/// A line for each source, and one for each table of a snapshot that is under way.
fn shown(sources: &Value) -> String {
    let mut rows = vec![head(&["source", "snapshot", "rows", "of about", "done", "left"])];
    for (name, source) in sources.as_object().into_iter().flatten() {
        let snapshot = &source["snapshot"];
        let (state, done) = if snapshot.is_null() {
            ("complete", "-".to_owned())
        } else {
            ("under way", percent(&snapshot["percent"]))
        };
        let (rows_read, left) = (cell(&source["snapshot_rows"]), left(&snapshot["seconds_left"]));
        rows.push(vec![name.clone(), state.to_owned(), rows_read, "-".to_owned(), done, left]);
        for table in snapshot["tables"].as_array().into_iter().flatten() {
            let [name, read, estimate] = ["table", "rows", "estimate"].map(|figure| cell(&table[figure]));
            // Nothing is known of a table before its snapshot has begun.
            let is_begun = [&table["rows"], &table["estimate"], &table["percent"]]
                .into_iter()
                .any(|figure| figure.as_f64() != Some(0.0));
            let done = if is_begun { percent(&table["percent"]) } else { "waits".to_owned() };
            rows.push(vec![String::new(), name, read, estimate, done, "-".to_owned()]);
        }
    }
    columns(&rows)
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}%"))
}

/// A time as people say it.
fn left(value: &Value) -> String {
    let Some(left) = value.as_u64().map(Duration::from_secs) else { return "-".to_owned() };
    match left.as_secs() {
        seconds @ 0..=59 => format!("{seconds} s"),
        seconds @ 60..=3_599 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_shown_with_its_tables_and_what_is_left() {
        let table = json!({"table": "public.orders", "rows": 500, "estimate": 1_000, "percent": 50.0});
        let waiting = json!({"table": "public.notes", "rows": 0, "estimate": 0, "percent": 0.0});
        let under_way = json!({"percent": 50.0, "seconds_left": 3_725, "tables": [table, waiting]});
        let sources = json!({
            "audit": {"snapshot": null, "snapshot_rows": 7},
            "main": {"snapshot": under_way, "snapshot_rows": 500},
        });
        let text = shown(&sources);
        let lines: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["audit", "complete", "7", "-", "-", "-"], "{text}");
        assert_eq!(lines[2], ["main", "under", "way", "500", "-", "50.0%", "1", "h", "2", "min"], "{text}");
        assert_eq!(lines[3], ["public.orders", "500", "1000", "50.0%", "-"], "{text}");
        assert_eq!(lines[4], ["public.notes", "0", "0", "waits", "-"], "{text}");
        assert_eq!([left(&json!(59)), left(&json!(61)), left(&json!(null))], ["59 s", "1 min 1 s", "-"]);
    }
}
