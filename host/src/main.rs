//! The command line.

mod cli;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use twohop::policy;

/// From a commit in a database to a person's screen.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read the databases, run the plugins, serve the clients.
    Serve(cli::Serve),
    /// Say what is wrong with a database, and the SQL that mends it.
    Doctor(cli::Doctor),
    /// Reckon what feeds cost by the threshold above which posts are pulled, and name the cheapest.
    Simulate(cli::Simulate),
    /// Make, build and look after plugins.
    #[command(subcommand)]
    Plugin(cli::Plugin),
    /// Look at the changes that plugins could not digest.
    #[command(subcommand)]
    DeadLetters(cli::DeadLetters),
    /// Let a paused pipeline go on.
    Resume(cli::Resume),
    /// Print the newest changes of the log, a JSON object a line.
    Changes(cli::Changes),
    /// Show how far the snapshots of the sources are, or have a table read again.
    Sources(cli::Sources),
    /// The program's own child process: compiles one plugin under limits.
    #[command(name = policy::COMPILE_SUBCOMMAND, hide = true)]
    CompilePlugin { profile: policy::Profile, meter: policy::Meter, input: PathBuf, output: PathBuf },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(arguments) => cli::run_server(arguments)?,
        Command::Doctor(arguments) => cli::examine_database(&arguments)?,
        Command::Simulate(arguments) => cli::run_simulation(&arguments)?,
        Command::Plugin(command) => return cli::plugin(&command),
        Command::DeadLetters(command) => cli::dead_letters(&command)?,
        Command::Resume(arguments) => cli::resume(&arguments)?,
        Command::Changes(arguments) => cli::changes(&arguments)?,
        Command::Sources(arguments) => cli::run_sources(&arguments)?,
        Command::CompilePlugin { profile, meter, input, output } => {
            policy::compile_plugin(profile, meter, &input, &output)?
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_commands_of_the_page_are_understood() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/command-line.md");
        let page = std::fs::read_to_string(page).expect("the page is there");
        let commands: Vec<_> = page.lines().filter(|line| line.starts_with("twohop ")).collect();
        assert!(commands.len() > 15, "{commands:?}");
        for command in commands {
            if let Err(error) = Arguments::try_parse_from(command.split(' ')) {
                panic!("{command}: {error}");
            }
        }
    }
}
