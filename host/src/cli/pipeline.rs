//! `twohop resume`, `twohop changes` and `twohop sources`: what the pipeline waits for, what it reads, and how far the
//! snapshots are that it comes from.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use hyper::Method;

use super::server::{self, Server};
use super::table::{cell, columns, head};

#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    server: server::Where,
}

#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// How many of the newest changes.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    last: u64,
    #[command(flatten)]
    server: server::Where,
}

#[derive(Debug, Args)]
pub(crate) struct Sources {
    #[command(flatten)]
    server: server::Where,
}

/// Shows how far the snapshots of the sources are.
pub(crate) fn sources(arguments: &Sources) -> Result<()> {
    let answer = Server::of(&arguments.server)?.send(Method::GET, "/v1/sources", None)?;
    if arguments.server.json {
        println!("{answer}");
        return Ok(());
    }
    let mut rows = vec![head(&["source", "snapshot", "rows", "of about", "percent", "seconds left"])];
    for (name, source) in answer["sources"].as_object().into_iter().flatten() {
        let snapshot = &source["snapshot"];
        let state = if snapshot.is_null() { "complete" } else { "under way" };
        let [percent, left] = ["percent", "seconds_left"].map(|figure| cell(&snapshot[figure]));
        rows.push(vec![
            name.clone(),
            state.to_owned(),
            cell(&source["snapshot_rows"]),
            "-".to_owned(),
            percent,
            left,
        ]);
        for table in snapshot["tables"].as_array().into_iter().flatten() {
            let [table, read, estimate, percent] =
                ["table", "rows", "estimate", "percent"].map(|figure| cell(&table[figure]));
            rows.push(vec![String::new(), table, read, estimate, percent, "-".to_owned()]);
        }
    }
    print!("{}", columns(&rows));
    Ok(())
}

/// Lets a paused pipeline go on.
pub(crate) fn resume(arguments: &Resume) -> Result<()> {
    let answer = Server::of(&arguments.server)?.send(Method::POST, "/v1/pipeline/resume", None)?;
    if arguments.server.json {
        println!("{answer}");
    } else {
        println!("processing goes on; what it waited for is a dead letter");
    }
    Ok(())
}

/// Prints the newest changes, a JSON object a line.
pub(crate) fn changes(arguments: &Changes) -> Result<()> {
    let server = Server::of(&arguments.server)?;
    let mut out = std::io::stdout().lock();
    server.lines(&format!("/v1/changes?last={}", arguments.last), |line| Ok(writeln!(out, "{line}")?))
}
