//! A database and a host that captures from it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use xtask::place;
use xtask::services::host::{Host, Options};
use xtask::services::{port, postgres};

const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What a [`Stand`] is made of, where it is not the usual.
pub struct Setup<'a> {
    /// SQL that is run before the host starts.
    pub schema: &'a str,
    /// Tables to capture, which `row-router` routes as well.
    pub tables: &'a [&'a str],
    /// Those of them whose rows are their channels' values.
    pub retain: &'a [&'a str],
    /// Further lines of the configuration's `[source.shop]`.
    pub source: &'a str,
    /// Its lines after the URL, instead of the tables and those.
    pub whole_source: Option<&'a str>,
    /// Further lines of the configuration's `[log]` and `[history]`.
    pub further: &'a str,
    /// Further lines of the configuration's `[gateway]`: who may listen.
    pub access: &'a str,
    /// The data folder, if it is not in the stand's own.
    pub data: Option<&'a Path>,
    /// The server.
    pub postgres: postgres::Options,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            schema: super::SCHEMA,
            tables: &["notes"],
            retain: &[],
            source: "",
            whole_source: None,
            further: "",
            access: "access.anonymous = [\"*\"]",
            data: None,
            postgres: postgres::Options::default(),
        }
    }
}

/// A database and a host that captures from it. The host's address stays the same over its restarts.
pub struct Stand {
    /// The host; dropped first.
    pub host: Host,
    /// The server.
    pub postgres: postgres::Postgres,
    /// The host's data folder.
    pub data: PathBuf,
    /// How the host is started.
    pub options: Options,
    _folder: tempfile::TempDir,
}

impl Stand {
    /// Starts both, and returns once changes flow.
    ///
    /// # Errors
    /// If one of them does not start; with what it said.
    pub fn start(setup: &Setup<'_>) -> Result<Self> {
        let postgres = postgres::Postgres::start(setup.postgres.clone())?;
        postgres.psql(setup.schema)?;
        let folder = tempfile::Builder::new().prefix("twohop-stand-").tempdir()?;
        let data = setup.data.map_or_else(|| folder.path().join("data"), Path::to_owned);
        let config = configuration(&postgres.url(), setup, &data, port::free()?)?;
        let file = folder.path().join("twohop.toml");
        fs::write(&file, config)?;
        let options = Options::new(&file);
        let host = Host::start(options.clone())?;
        Ok(Self { host, postgres, data, options, _folder: folder })
    }

    /// Waits until the host has said this on its standard error, after so many bytes that it had said before.
    ///
    /// # Errors
    /// If it does not within the time; with all that it said.
    pub async fn wait_for_log(&self, after: usize, part: &str, within: Duration) -> Result<()> {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let seen = async {
            while !self.host.stderr().get(after..).is_some_and(|said| said.contains(part)) {
                looks.tick().await;
            }
        };
        tokio::time::timeout(within, seen)
            .await
            .with_context(|| format!("no `{part}` in:\n{}", self.host.stderr()))
    }

    /// Waits until the source has nothing to read of tables.
    ///
    /// # Errors
    /// If that does not come within the time; with what the host said.
    pub async fn wait_for_snapshot(&self, within: Duration) -> Result<()> {
        let file = self.data.join("sources/shop.snapshot");
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let complete = async {
            while !fs::read_to_string(&file).is_ok_and(|text| text == r#"{"rounds":[]}"#) {
                looks.tick().await;
            }
        };
        let waited = tokio::time::timeout(within, complete).await;
        waited.with_context(|| format!("the snapshot does not come to its end:\n{}", self.host.stderr()))
    }

    /// Where operators connect; another port after each restart.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.host.admin()
    }

    /// The file with what operators have to know.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.data.join("admin-token")
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.host.address()
    }
}

fn configuration(url: &str, setup: &Setup<'_>, data: &Path, port: u16) -> Result<String> {
    let quoted: Vec<_> = setup.tables.iter().map(|table| format!("\"{table}\"")).collect();
    let source = match setup.whole_source {
        Some(lines) => lines.to_owned(),
        None => format!("tables = [{}]\n{}", quoted.join(", "), setup.source),
    };
    let retain = match setup.retain {
        [] => String::new(),
        tables => format!(", retain = \"{}\"", tables.join(",")),
    };
    let plugin = place::plugin("row-router").context("the suite is started by `cargo xtask test`")?;
    Ok(format!(
        "data = \"{}\"\n[gateway]\nlisten = \"127.0.0.1:{port}\"\n{}\n[admin]\nlisten = \"127.0.0.1:0\"\n[source.shop]\nurl = \"{url}\"\n{source}\n\
         [plugin.row-router]\nfile = \"{}\"\nsettings = {{ tables = \"{}\"{retain} }}\n{}\n",
        data.display(),
        setup.access,
        plugin.display(),
        setup.tables.join(","),
        setup.further,
    ))
}
