//! The tutorial `docs/first-plugin.md`: its commands are run as they stand, and its outputs come.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use twohop_tests::{Desk, run_page};
use xtask::services::{port, postgres};
use xtask::{place, setup};

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_tutorial_do_what_it_says() -> Result<()> {
    let server = postgres::Postgres::start(postgres::Options::default())?;
    // A folder whose path stays, so that nothing is built again that a run before this one has built.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("first_plugin");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let notes = tempfile::tempdir()?;
    fs::create_dir_all(&folder)?;
    let target = place::target()?;
    let host = place::host_binary()?;
    let programs = [host.parent().context("it is in a folder")?.to_owned(), setup::postgres()?];
    let path = std::env::var_os("PATH").context("there is a PATH")?;
    let path = std::env::join_paths(programs.into_iter().chain(std::env::split_paths(&path)))?;
    let [clients, admin] = [port::free()?, port::free()?].map(|port| format!("127.0.0.1:{port}"));
    let variable = |name: &str, value: String| (name.to_owned(), value);
    let environment = vec![
        variable("PATH", path.into_string().ok().context("PATH is text")?),
        variable("DATABASE_URL", server.url()),
        variable("TWOHOP_GATEWAY_LISTEN", clients.clone()),
        variable("TWOHOP_ADMIN_LISTEN", admin.clone()),
        variable("CARGO_TARGET_DIR", target.display().to_string()),
        variable("CARGO_NET_OFFLINE", "true".to_owned()),
    ];
    let others = vec![
        ("target/plugins/".to_owned(), format!("{}/", target.join("plugins").display())),
        ("127.0.0.1:8080".to_owned(), clients),
        ("127.0.0.1:8081".to_owned(), admin),
    ];
    let page = fs::read_to_string(place::root().join("docs/first-plugin.md"))?;
    run_page(&page, &Desk { folder, notes: notes.path().to_owned(), environment, others }).await
}
