//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
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
            let config = config::load(&config, &config::Overrides { data, listen })?;
            let program = config::program().context("cannot find this program's own file")?;
            let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
            let served = runtime.block_on(app::serve(config, program, |address| {
                println!("listening on http://{address}");
            }));
            // Whatever still waits in a blocking call has nothing left to do.
            runtime.shutdown_background();
            Ok(served?)
        }
        Command::CompilePlugin { profile, input, output } => {
            Ok(policy::compile_plugin(profile, &input, &output)?)
        }
    }
}
