//! The commands for people who write plugins and look after them: `twohop plugin …`, a file each.
//!
//! In: arguments. Out: a line or two on stdout of what was done, or an error that says what to do. Absent on purpose:
//! `serve` and the program's own child process, which `main` starts itself.
//!
//! To add a command: a variant of [`Plugin`], a line in [`plugin`], a file with its `Arguments` and its `run`.

mod build;
mod new;

use clap::Subcommand;

/// What can be asked of `twohop plugin`.
#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// Make a crate of a plugin that builds and tests at once.
    New(new::Arguments),
    /// Build a plugin's crate as a component.
    Build(build::Arguments),
}

/// Does what was asked.
pub(crate) fn plugin(command: &Plugin) -> anyhow::Result<()> {
    match command {
        Plugin::New(arguments) => new::run(arguments),
        Plugin::Build(arguments) => build::run(arguments),
    }
}
