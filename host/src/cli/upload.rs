//! `twohop plugin upload FILE`: the server looks at a component, compiles it, and keeps it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::Value;
use twohop::policy;

use super::server::{self, Server};
use super::table::{cell, short};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The component.
    file: PathBuf,
    /// Which limits it is to run under.
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    #[command(flatten)]
    server: server::Where,
}

/// Which limits a plugin runs under.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Profile {
    /// Those for Rust, C and the like.
    Small,
    /// Those for guests that bring a runtime, as JavaScript and Python do.
    Large,
}

impl Profile {
    pub(super) fn name(self) -> &'static str {
        policy::Profile::from(self).as_str()
    }
}

impl From<Profile> for policy::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Small => Self::Small,
            Profile::Large => Self::Large,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let server = Server::of(&arguments.server)?;
    let component = upload(&server, &arguments.file, arguments.profile)?;
    if arguments.server.json {
        println!("{component}");
        return Ok(());
    }
    let stages: Vec<_> = component["stages"].as_array().into_iter().flatten().map(cell).collect();
    println!(
        "uploaded {} {}, {} bytes, {}: {}",
        cell(&component["name"]),
        cell(&component["version"]),
        component["bytes"],
        stages.join(" and "),
        cell(&component["digest"]),
    );
    println!("next: twohop plugin activate NAME {}", cell(&component["digest"]));
    Ok(())
}

/// Uploads a file; says so, since whoever gave a file need not have thought of it.
pub(super) fn upload(server: &Server, file: &Path, profile: Option<Profile>) -> Result<Value> {
    let wasm = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let profile = profile.map(|profile| format!("?profile={}", profile.name())).unwrap_or_default();
    let component = server
        .upload(&format!("/v1/components{profile}"), wasm)
        .with_context(|| format!("cannot upload {}", file.display()))?;
    eprintln!("{} is component {}", file.display(), short(&component["digest"]));
    Ok(component)
}
