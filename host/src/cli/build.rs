//! `twohop plugin build [FOLDER]`: a plugin's crate becomes a component.

use std::path::PathBuf;

use clap::Args;
use twohop_build::{Origin, Retry, build_crate};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The folder of the plugin's crate.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Try again what failed earlier and is remembered (`rustup target add`).
    #[arg(long)]
    retry: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let retry = if arguments.retry { Retry::Everything } else { Retry::WhatMayHelp };
    let built = build_crate(&arguments.folder, retry)?;
    let origin = match built.origin {
        Origin::Fresh => ", as it was: nothing had changed",
        Origin::Built => "",
    };
    println!("{}", built.file.display());
    println!("{} bytes, sha256 {}{origin}", built.bytes, built.digest);
    Ok(())
}
