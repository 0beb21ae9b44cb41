//! The command line.

mod cli;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
#[cfg(debug_assertions)]
use twohop::failpoint;
use twohop::{app, config, policy, telemetry};

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
    Serve {
        /// The configuration.
        #[arg(long, default_value = "twohop.toml", value_name = "FILE")]
        config: PathBuf,
        /// Folder of everything that is kept; overrides `data`.
        #[arg(long, value_name = "FOLDER")]
        data: Option<PathBuf>,
        /// Address and port for clients; overrides `gateway.listen`.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<SocketAddr>,
    },
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
    /// The program's own child process: compiles one plugin under limits.
    #[command(name = policy::COMPILE_SUBCOMMAND, hide = true)]
    CompilePlugin {
        /// Whose limits hold.
        profile: policy::Profile,
        /// The component.
        input: PathBuf,
        /// The compiled code.
        output: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve { config, data, listen } => {
            let filter = config::log_filter();
            telemetry::start(filter.as_deref())
                .with_context(|| format!("{} is not a filter", config::LOG_VARIABLE))?;
            #[cfg(debug_assertions)]
            if let Some(failpoint) = config::failpoint() {
                failpoint::arm(&failpoint);
            }
            let config = config::load(&config, &config::Overrides { data, listen })?;
            let program = config::program().context("cannot find this program's own file")?;
            let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
            let served = runtime.block_on(app::serve(config, program, |addresses| {
                println!("admin on http://{}", addresses.admin);
                println!("listening on http://{}", addresses.clients);
            }));
            // Whatever still waits in a blocking call has nothing left to do.
            runtime.shutdown_background();
            Ok(served?)
        }
        Command::Plugin(command) => cli::plugin(&command),
        Command::DeadLetters(command) => cli::dead_letters(&command),
        Command::Resume(arguments) => cli::resume(&arguments),
        Command::Changes(arguments) => cli::changes(&arguments),
        Command::CompilePlugin { profile, input, output } => {
            Ok(policy::compile_plugin(profile, &input, &output)?)
        }
    }
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
