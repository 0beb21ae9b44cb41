//! `twohop dead-letters …`: changes that plugins could not digest.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;

use super::server::{self, Server};
use super::table::{cell, columns, head, when};

/// What can be asked of `twohop dead-letters`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// List them, newest first.
    List {
        /// Those of this plugin alone.
        #[arg(long, value_name = "NAME")]
        plugin: Option<String>,
        /// Those before this number.
        #[arg(long, value_name = "ID")]
        before: Option<u64>,
        #[command(flatten)]
        server: server::Arguments,
    },
    /// Show one, with the rows of its change.
    Show(One),
    /// Hand one to its plugin again.
    Replay {
        #[command(flatten)]
        one: One,
        /// Even if the row has changed since.
        #[arg(long)]
        force: bool,
    },
    /// Remove one, or all of a plugin.
    Discard {
        /// Its number.
        id: Option<u64>,
        /// All of this plugin.
        #[arg(long, value_name = "NAME", conflicts_with = "id")]
        plugin: Option<String>,
        #[command(flatten)]
        server: server::Arguments,
    },
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Its number.
    id: u64,
    #[command(flatten)]
    server: server::Arguments,
}

/// Does what was asked.
pub(crate) fn run(command: &DeadLetters) -> Result<()> {
    match command {
        DeadLetters::List { plugin, before, server } => list(plugin.as_deref(), *before, server),
        DeadLetters::Show(One { id, server }) => {
            let letter = Server::of(server)?.get(&format!("/v1/dead-letters/{id}"))?;
            print!("{}", if server.json { format!("{letter}\n") } else { shown(&letter) });
            Ok(())
        }
        DeadLetters::Replay { one: One { id, server }, force } => {
            let path = format!("/v1/dead-letters/{id}/replay?force={force}");
            let answer = Server::of(server)?.send(Method::POST, &path, None)?;
            if server.json {
                println!("{answer}");
            } else {
                println!("dead letter {id} is replayed at offset {}", answer["offset"]);
            }
            Ok(())
        }
        DeadLetters::Discard { id, plugin, server } => {
            let path = match (id, plugin) {
                (Some(id), _) => format!("/v1/dead-letters/{id}"),
                (None, Some(plugin)) => format!("/v1/dead-letters?plugin={plugin}"),
                (None, None) => bail!("name a number, or say --plugin NAME"),
            };
            let answer = Server::of(server)?.send(Method::DELETE, &path, None)?;
            if server.json {
                println!("{answer}");
            } else {
                println!("{} discarded", answer["discarded"]);
            }
            Ok(())
        }
    }
}

fn list(plugin: Option<&str>, before: Option<u64>, arguments: &server::Arguments) -> Result<()> {
    let mut path = "/v1/dead-letters?limit=100".to_owned();
    if let Some(plugin) = plugin {
        path.push_str(&format!("&plugin={plugin}"));
    }
    if let Some(before) = before {
        path.push_str(&format!("&before={before}"));
    }
    let answer = Server::of(arguments)?.get(&path)?;
    if arguments.json {
        println!("{answer}");
        return Ok(());
    }
    let letters: Vec<&Value> = answer["letters"].as_array().into_iter().flatten().collect();
    if letters.is_empty() {
        println!("no dead letters");
        return Ok(());
    }
    let mut rows =
        vec![head(&["id", "when", "plugin", "generation", "table", "key", "operation", "offset", "fault"])];
    for letter in &letters {
        let change = &letter["change"];
        rows.push(vec![
            cell(&letter["id"]),
            when(&letter["at"]),
            cell(&letter["plugin"]),
            cell(&letter["generation"]),
            cell(&change["table"]),
            cell(&change["key"]),
            cell(&change["operation"]),
            cell(&letter["offset"]),
            cell(&letter["fault"]),
        ]);
    }
    print!("{}", columns(&rows));
    println!("{} dead letters; older ones: --before {}", letters.len(), answer["next"]);
    Ok(())
}

fn shown(letter: &Value) -> String {
    let mut facts = Vec::new();
    for name in ["id", "plugin", "generation", "digest", "stage", "fault", "offset", "state"] {
        facts.push(vec![name.to_owned(), cell(&letter[name])]);
    }
    facts.push(vec!["when".to_owned(), when(&letter["at"])]);
    for name in ["source", "schema", "table", "operation", "key", "position"] {
        facts.push(vec![name.to_owned(), cell(&letter["change"][name])]);
    }
    for name in ["row", "old"] {
        facts.push(vec![name.to_owned(), letter[name].to_string()]);
    }
    columns(&facts)
}
