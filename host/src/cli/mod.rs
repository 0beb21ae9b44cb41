//! The commands, a file each.
//!
//! In: arguments. Out: a line or two on stdout of what was done, or an error that says what to do. What is done to a
//! running server goes through its admin listener (`server`). Absent on purpose: the program's own child process, which
//! `main` starts itself.
//!
//! To add a command: a variant of [`Plugin`], a line in [`plugin`], a file with its `Arguments` and its `run`.

mod activate;
mod alone;
mod audit;
mod build;
mod candidate;
mod compare;
mod doctor;
mod letters;
mod list;
mod logs;
mod new;
mod pipeline;
mod replay;
mod serve;
mod server;
mod simulate;
mod sources;
mod table;
mod upload;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use doctor::{Doctor, examine_database};
pub(crate) use letters::{DeadLetters, run as dead_letters};
pub(crate) use pipeline::{Changes, Resume, changes, resume};
pub(crate) use serve::{Serve, run_server};
pub(crate) use simulate::{Simulate, run as run_simulation};
pub(crate) use sources::{Sources, run as run_sources};

/// What can be asked of `twohop plugin`.
#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// Make a crate of a plugin that builds and tests at once.
    New(new::Arguments),
    /// Build a plugin's crate as a component.
    Build(build::Arguments),
    /// Give a component to a running server.
    Upload(upload::Arguments),
    /// List the plugins of a running server.
    List(list::List),
    /// Show a plugin and its generations.
    Show(list::Show),
    /// Check a component as an upload does, without a server; or ask a server's plugin and a candidate about the newest
    /// changes.
    Check(compare::Check),
    /// Ask a component about changes in a file, without a server.
    Replay(replay::Arguments),
    /// Let a candidate run beside what is active, without effects.
    Shadow(compare::Shadow),
    /// Let a component judge from the next batch on.
    Activate(activate::Activate),
    /// Let an earlier generation judge again.
    RollBack(activate::RollBack),
    /// Let a plugin judge no more.
    Deactivate(activate::Deactivate),
    /// Show what a plugin writes to its log.
    Logs(logs::Arguments),
    /// Show who did what.
    Audit(audit::Arguments),
}

/// Does what was asked.
pub(crate) fn plugin(command: &Plugin) -> anyhow::Result<ExitCode> {
    let done = match command {
        Plugin::New(arguments) => new::run(arguments),
        Plugin::Build(arguments) => build::run(arguments),
        Plugin::Upload(arguments) => upload::run(arguments),
        Plugin::List(arguments) => list::list(arguments),
        Plugin::Show(arguments) => list::show(arguments),
        Plugin::Check(arguments) => compare::check(arguments),
        Plugin::Replay(arguments) => return replay::run(arguments),
        Plugin::Shadow(arguments) => compare::shadow(arguments),
        Plugin::Activate(arguments) => activate::activate(arguments),
        Plugin::RollBack(arguments) => activate::roll_back(arguments),
        Plugin::Deactivate(arguments) => activate::deactivate(arguments),
        Plugin::Logs(arguments) => logs::run(arguments),
        Plugin::Audit(arguments) => audit::run(arguments),
    };
    done.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Plugin, clap::Error> {
        let command = Plugin::augment_subcommands(clap::Command::new("plugin"));
        let matches = command.try_get_matches_from(line.split(' '))?;
        <Plugin as clap::FromArgMatches>::from_arg_matches(&matches)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Plugin::augment_subcommands(clap::Command::new("plugin")).debug_assert();
    }

    #[test]
    fn a_new_plugin_has_a_name_and_may_have_a_stage() {
        assert!(matches!(parse("plugin new orders"), Ok(Plugin::New(_))));
        assert!(matches!(parse("plugin new orders --stage filter"), Ok(Plugin::New(_))));
        assert!(parse("plugin new orders --stage painter").is_err());
        assert!(parse("plugin new").is_err());
    }

    #[test]
    fn a_check_needs_no_server_unless_a_plugin_is_named() {
        assert!(matches!(parse("plugin check a.wasm --setting a=b"), Ok(Plugin::Check(_))));
        assert!(matches!(parse("plugin check p a.wasm --last 7"), Ok(Plugin::Check(_))));
        assert!(parse("plugin check a.wasm --last 7").is_err());
        assert!(parse("plugin check").is_err());
    }

    #[test]
    fn a_shadow_is_begun_looked_at_or_ended() {
        assert!(matches!(parse("plugin shadow p a.wasm --setting a=b"), Ok(Plugin::Shadow(_))));
        assert!(matches!(parse("plugin shadow p --report"), Ok(Plugin::Shadow(_))));
        assert!(parse("plugin shadow p --report --stop").is_err());
        assert!(parse("plugin shadow p a.wasm --stop").is_err());
    }

    #[test]
    fn the_crate_of_this_folder_is_built_unless_another_is_named() {
        assert!(matches!(parse("plugin build"), Ok(Plugin::Build(_))));
        assert!(matches!(parse("plugin build orders --retry"), Ok(Plugin::Build(_))));
    }
}
