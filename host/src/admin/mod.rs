//! The admin listener: what operators and authors of plugins do while the server runs.
//!
//! In: HTTP requests with the token. Out: JSON, metrics, event streams, the dashboard.
//!
//! Invariants:
//! - without the token one learns nothing but whether the server lives and is ready; of such a request's body nothing
//!   is read;
//! - whatever a request makes the listener hold is bounded by `limits`;
//! - who did what to which plugin is in the audit list; what becomes of dead letters is in the log.
//!
//! Absent on purpose: what deploying means (`deploy`), what dead letters mean (`letters`), TLS: it listens on the
//! loopback unless told otherwise.
//!
//! To add a route: a line in `routes.rs`, a function in the file of its subject, a section in `docs/admin.md`.

mod body;
mod changes;
mod components;
mod events;
mod form;
mod health;
mod letters;
mod metrics;
mod page;
mod plugins;
mod query;
mod refusal;
mod request;
mod routes;
mod sources;
#[cfg(test)]
mod tests;
mod token;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use health::Readiness;
pub use token::{TOKEN_FILE, Token, TokenError};

use crate::bus::Bus;
use crate::deploy::Deployer;
use crate::event::Partition;
use crate::http::{self, ListenError};
use crate::letters::DeadLetters;
use crate::limits::{
    ADMIN_CONNECTIONS_COUNT_MAX, ADMIN_UPLOADS_COUNT_MAX, CONNECTION_IDLE_TIME_MAX, HEARTBEAT_INTERVAL,
    REQUEST_HEAD_TIME_MAX, SHUTDOWN_TIME_MAX,
};
use crate::log::ChangeLog;
use crate::policy::PluginLines;
use crate::source::Asking;
use crate::telemetry::Metrics;

/// What the listener is about.
pub struct Parts {
    /// The lives of plugins.
    pub deployer: Deployer,
    /// The sources that read tables.
    pub sources: BTreeMap<String, Asking>,
    /// What plugins write to their logs.
    pub lines: PluginLines,
    /// What plugins could not digest.
    pub letters: DeadLetters,
    /// The change log.
    pub log: Arc<dyn ChangeLog>,
    /// The history, for how far the pipeline has come.
    pub bus: Arc<dyn Bus>,
    /// The partition whose pipeline runs here.
    pub partition: Partition,
    /// Whether changes flow.
    pub readiness: Readiness,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What the routes share.
struct State {
    parts: Parts,
    token: Token,
    uploads: Semaphore,
    stop: CancellationToken,
}

/// A listener that runs.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Admin {
    /// Listens, and serves until `stop` is cancelled.
    ///
    /// # Errors
    /// If the address cannot be listened on; nothing runs then.
    pub async fn start(
        listen: SocketAddr,
        token: Token,
        parts: Parts,
        stop: CancellationToken,
    ) -> Result<Self, ListenError> {
        let (listener, address) = http::listen(listen, "admin.listen").await?;
        let uploads = Semaphore::new(ADMIN_UPLOADS_COUNT_MAX);
        let state = State { parts, token, uploads, stop: stop.clone() };
        let server = http::Server {
            config: http::Config {
                name: "admin",
                request_head_time_max: REQUEST_HEAD_TIME_MAX,
                heartbeat_interval: HEARTBEAT_INTERVAL,
                shutdown_time_max: SHUTDOWN_TIME_MAX,
                idle_time_max: CONNECTION_IDLE_TIME_MAX,
                connections_count_max: ADMIN_CONNECTIONS_COUNT_MAX,
                connections_per_address_max: None,
                requests: None,
                proxies: http::Proxies::default(),
                metrics: Arc::default(),
            },
            listener,
            tls: None,
            routes: routes::routes(Arc::new(state)),
            refuse: Arc::new(|_, _| refusal::overloaded()),
        };
        // Streams end by themselves: they wait for `stop` as well.
        Ok(Self { address, server: tokio::spawn(server.run(stop, async {})) })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has stopped.
    pub async fn stopped(self) {
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the admin listener ended badly");
        }
    }
}
