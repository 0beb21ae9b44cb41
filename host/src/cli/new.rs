//! `twohop plugin new NAME`: a crate that builds and tests at once, in a folder of that name here.

use std::path::Path;

use clap::{Args, ValueEnum};
use twohop_build::new_crate;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The plugin's name, its crate's and its folder's: a letter, then a-z, 0-9, - and _.
    name: String,
    /// What the plugin decides.
    #[arg(long, value_enum, default_value_t = Stage::Router)]
    stage: Stage,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stage {
    /// Where each change goes.
    Router,
    /// Which changes go on, and with which columns hidden.
    Filter,
    /// How each post reaches its audience.
    Fanout,
    /// Who may listen, and what a client may say.
    Gate,
}

impl From<Stage> for twohop_build::Stage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Router => Self::Router,
            Stage::Filter => Self::Filter,
            Stage::Fanout => Self::Fanout,
            Stage::Gate => Self::Gate,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let name = &arguments.name;
    new_crate(name, arguments.stage.into(), Path::new(""))?;
    println!("made {name}/: the policy and its tests are in {name}/src/lib.rs");
    println!("next: cd {name}, then cargo test, then twohop plugin build; more in {name}/README.md");
    Ok(())
}
