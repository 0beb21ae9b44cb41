//! `twohop resume` and `twohop changes`: what the pipeline waits for, and what it reads.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use hyper::Method;

use super::server::{self, Server};

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
