//! `twohop plugin activate`, `roll-back` and `deactivate`: what judges from the next batch on.

use anyhow::Result;
use clap::Args;
use hyper::Method;
use serde_json::json;

use super::candidate;
use super::server::{self, Server};

#[derive(Debug, Args)]
pub(crate) struct Activate {
    /// The plugin's name.
    name: String,
    #[command(flatten)]
    candidate: candidate::Arguments,
    #[command(flatten)]
    server: server::Arguments,
}

#[derive(Debug, Args)]
pub(crate) struct RollBack {
    /// The plugin.
    name: String,
    /// To which of its generations; else the one before the active one.
    generation: Option<u64>,
    #[command(flatten)]
    server: server::Arguments,
}

#[derive(Debug, Args)]
pub(crate) struct Deactivate {
    /// The plugin.
    name: String,
    #[command(flatten)]
    server: server::Arguments,
}

pub(crate) fn activate(arguments: &Activate) -> Result<()> {
    let server = Server::of(&arguments.server)?;
    let body = arguments.candidate.body(&server)?;
    let path = format!("/v1/plugins/{}/activate", arguments.name);
    let answer = server.send(Method::POST, &path, Some(&body))?;
    if arguments.server.json {
        println!("{answer}");
    } else {
        println!(
            "{} generation {} judges from offset {} on",
            arguments.name, answer["generation"], answer["from"]
        );
    }
    Ok(())
}

pub(crate) fn roll_back(arguments: &RollBack) -> Result<()> {
    let server = Server::of(&arguments.server)?;
    let path = format!("/v1/plugins/{}/roll-back", arguments.name);
    let body = arguments.generation.map_or_else(|| json!({}), |to| json!({"to": to}));
    let answer = server.send(Method::POST, &path, Some(&body))?;
    if arguments.server.json {
        println!("{answer}");
    } else {
        println!(
            "{} is as before, as generation {}, from offset {} on",
            arguments.name, answer["generation"], answer["from"]
        );
    }
    Ok(())
}

pub(crate) fn deactivate(arguments: &Deactivate) -> Result<()> {
    let server = Server::of(&arguments.server)?;
    let path = format!("/v1/plugins/{}/deactivate", arguments.name);
    let answer = server.send(Method::POST, &path, None)?;
    if arguments.server.json {
        println!("{answer}");
    } else {
        println!("{} judges nothing from offset {} on", arguments.name, answer["from"]);
    }
    Ok(())
}
