//! `twohop plugin audit`: who did what.

use std::collections::VecDeque;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::server::{self, Server};
use super::table::{cell, columns, head, pairs, short, when};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many of the newest entries.
    #[arg(long, value_name = "N", default_value_t = 50)]
    last: usize,
    #[command(flatten)]
    server: server::Arguments,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let server = Server::of(&arguments.server)?;
    let mut newest = VecDeque::new();
    let mut after = 0;
    loop {
        let mut page = server.get(&format!("/v1/audit?limit=1000&after={after}"))?;
        let entries = page["entries"].as_array_mut().map(std::mem::take).unwrap_or_default();
        newest.extend(entries);
        while newest.len() > arguments.last {
            newest.pop_front();
        }
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    if arguments.server.json {
        println!("{}", Value::from_iter(newest));
        return Ok(());
    }
    let mut rows =
        vec![head(&["when", "by", "what", "plugin", "generation", "component", "from", "settings", ""])];
    for entry in &newest {
        rows.push(vec![
            when(&entry["at"]),
            cell(&entry["by"]),
            cell(&entry["action"]),
            cell(&entry["plugin"]),
            cell(&entry["generation"]),
            short(&entry["digest"]),
            cell(&entry["from"]),
            pairs(&entry["settings"]),
            entry["text"].as_str().map(super::table::plain).unwrap_or_default(),
        ]);
    }
    print!("{}", columns(&rows));
    println!("{} entries", newest.len());
    Ok(())
}
