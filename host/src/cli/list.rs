//! `twohop plugin list` and `twohop plugin show NAME`: what is active, and what was.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::server::{self, Server};
use super::table::{cell, columns, head, pairs, short, when};

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    server: server::Arguments,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The plugin.
    name: String,
    #[command(flatten)]
    server: server::Arguments,
}

pub(crate) fn list(arguments: &List) -> Result<()> {
    let answer = Server::of(&arguments.server)?.get("/v1/plugins")?;
    if arguments.server.json {
        println!("{answer}");
        return Ok(());
    }
    let mut rows =
        vec![head(&["name", "state", "generation", "component", "order", "since", "by", "shadow"])];
    let plugins: Vec<&Value> = answer["plugins"].as_array().into_iter().flatten().collect();
    for plugin in &plugins {
        let active = &plugin["active"];
        rows.push(vec![
            cell(&plugin["plugin"]),
            cell(&plugin["state"]),
            cell(&active["generation"]),
            short(&active["digest"]),
            cell(&active["order"]),
            when(&active["at"]),
            cell(&active["by"]),
            short(&plugin["shadow"]["digest"]),
        ]);
    }
    if plugins.is_empty() {
        println!("no plugins: twohop plugin activate NAME FILE makes one");
        return Ok(());
    }
    print!("{}", columns(&rows));
    let active = plugins.iter().filter(|plugin| plugin["state"] == "active").count();
    println!("{} plugins, {active} active", plugins.len());
    Ok(())
}

pub(crate) fn show(arguments: &Show) -> Result<()> {
    let answer = Server::of(&arguments.server)?.get(&format!("/v1/plugins/{}", arguments.name))?;
    if arguments.server.json {
        println!("{answer}");
        return Ok(());
    }
    let active = &answer["active"];
    let mut facts = vec![
        vec!["plugin".to_owned(), cell(&answer["plugin"])],
        vec!["state".to_owned(), cell(&answer["state"])],
    ];
    if !active.is_null() {
        for name in ["generation", "digest", "order", "profile", "on_fault"] {
            facts.push(vec![name.replace('_', "-"), cell(&active[name])]);
        }
        facts.push(vec!["settings".to_owned(), pairs(&active["settings"])]);
        facts.push(vec!["grants".to_owned(), pairs(&active["grants"])]);
    }
    if !answer["shadow"].is_null() {
        facts.push(vec!["shadow".to_owned(), cell(&answer["shadow"]["digest"])]);
    }
    print!("{}", columns(&facts));
    println!();
    let mut rows = vec![head(&["generation", "component", "since", "by", "settings", "quarantined"])];
    for generation in answer["generations"].as_array().into_iter().flatten() {
        rows.push(vec![
            cell(&generation["generation"]),
            short(&generation["digest"]),
            when(&generation["at"]),
            cell(&generation["by"]),
            pairs(&generation["settings"]),
            when(&generation["quarantined_at"]),
        ]);
    }
    print!("{}", columns(&rows));
    println!("go back with: twohop plugin roll-back {} GENERATION", arguments.name);
    Ok(())
}
