//! `twohop plugin logs NAME`: what a plugin wrote to its log.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use super::server::{self, Server};
use super::table::{cell, plain, when};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The plugin.
    name: String,
    /// Go on with the lines that come.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    server: server::Arguments,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let server = Server::of(&arguments.server)?;
    let path = format!("/v1/plugins/{}/logs", arguments.name);
    let print = |line: &Value| {
        if arguments.server.json {
            println!("{line}");
        } else {
            println!(
                "{} {:5} {}@{} {}",
                when(&line["at"]),
                cell(&line["level"]),
                cell(&line["plugin"]),
                line["generation"],
                plain(line["text"].as_str().unwrap_or_default()),
            );
        }
    };
    if !arguments.follow {
        let answer = server.get(&path)?;
        let lines: Vec<&Value> = answer["lines"].as_array().into_iter().flatten().collect();
        lines.iter().for_each(|line| print(line));
        if lines.is_empty() && !arguments.server.json {
            println!("{} has written nothing since the server runs", arguments.name);
        }
        return Ok(());
    }
    server.lines(&format!("{path}?follow=true"), |line| {
        if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).context("the server sent what is no line")?;
            if data["text"].is_string() {
                print(&data);
            }
        }
        Ok(())
    })
}
