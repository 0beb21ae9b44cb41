//! `twohop serve`: the server itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
#[cfg(debug_assertions)]
use twohop::failpoint;
use twohop::{app, config, telemetry};

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The configuration.
    #[arg(long, default_value = "twohop.toml", value_name = "FILE")]
    config: PathBuf,
    /// Folder of everything that is kept; overrides `data`.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Address and port for clients; overrides `gateway.listen`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// Serves until it is told to stop.
pub(crate) fn run_server(arguments: Serve) -> Result<()> {
    let Serve { config, data, listen } = arguments;
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
        println!(
            "listening on {}://{}",
            if addresses.is_encrypted { "https" } else { "http" },
            addresses.clients
        );
    }));
    // Whatever still waits in a blocking call has nothing left to do.
    runtime.shutdown_background();
    Ok(served?)
}
