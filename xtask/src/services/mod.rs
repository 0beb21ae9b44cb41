//! Private services for the demo, the tests and the benches: real programs on free ports in temporary folders.
//!
//! Always: dropped, a service has ended and its folder is gone. When we are killed with SIGKILL, the kernel ends the
//! services (see [`crate::process`]), but folders named `twohop-…` stay in the temporary folder.
//! Starting blocks the thread for a second or two; in asynchronous code that is acceptable in tests alone.
//! To add a service: a file with a struct that owns a [`crate::process::Service`] and, after it, its folder.

mod folder;
pub mod host;
pub mod nchan;
pub mod port;
pub mod postgres;
pub mod redis;
pub(crate) mod spoken;

use anyhow::{Context, Result};

use crate::{interrupt, setup};
use postgres::{Options, Postgres};

pub use folder::Folder;
pub use host::Host;

/// `cargo xtask services`: a private PostgreSQL until Ctrl-C.
///
/// # Errors
/// PostgreSQL cannot be installed or started.
pub fn run() -> Result<()> {
    setup::postgres()?;
    let runtime = tokio::runtime::Runtime::new().context("could not start the runtime")?;
    // Before anything is started, so that a signal at any moment from here on ends in order.
    let end = runtime.spawn(interrupt::asked_to_end());
    let postgres = Postgres::start(Options::default())?;
    println!("PostgreSQL is at {}", postgres.url());
    println!("  psql {}", postgres.url());
    println!("  its log is {}", postgres.log().display());
    println!("Ctrl-C stops it and removes it.");
    runtime.block_on(end)?.context("could not wait for signals")?;
    println!("stopping");
    postgres.stop()
}
