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
    fn the_crate_of_this_folder_is_built_unless_another_is_named() {
        assert!(matches!(parse("plugin build"), Ok(Plugin::Build(_))));
        assert!(matches!(parse("plugin build orders --retry"), Ok(Plugin::Build(_))));
    }
}
