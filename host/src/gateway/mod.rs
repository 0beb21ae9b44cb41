//! The gateway: the public listener, and the way of messages from the bus to the screens.
//!
//! In: a bus, and HTTP requests (HTTP/1.1, and HTTP/2 with prior knowledge). Out: event streams, the list of
//! channels, the page.
//!
//! ```text
//! bus ─► hub ─► mailbox ─► sse ─► server ─► client      one hub, one mailbox a stream
//!   └──────── replay ───────┘
//! ```
//! Invariants:
//! - a client that comes back with its last id gets every kept message of its channels after it, in order, once, or
//!   a `reset`; so does a client that is slow but not stuck;
//! - the frame of a message is encoded once and shared by all streams that follow live;
//! - whatever a client makes the gateway hold is bounded, and goes when the client goes.
//!
//! Absent on purpose: who may see what (every channel is public so far), TLS, client messages, WebSocket.
//!
//! To add a route: a file of its own, a line in `routes.rs`. To add a refusal: a variant in `codes.rs`.

mod channels;
mod codes;
mod frame;
mod hub;
mod mailbox;
mod page;
mod resume;
mod routes;
mod server;
mod sse;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::limits;

/// How the gateway behaves. [`Config::new`] has the defaults of `limits.rs`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Between two signs of life on a quiet stream.
    pub heartbeat_interval: Duration,
    /// What clients are told to wait before they connect again.
    pub reconnect_delay: Duration,
    /// How long a client may take nothing while something waits for it.
    pub stall_time_max: Duration,
    /// From accepting a connection, or from the last answer, to the end of a request's head.
    pub request_head_time_max: Duration,
    /// From the order to stop until connections are cut.
    pub shutdown_time_max: Duration,
    /// Connections at once, and streams at once.
    pub connections_count_max: usize,
    /// Frames that wait for one client.
    pub queue_count_max: usize,
}

impl Config {
    /// The defaults, for an address.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            heartbeat_interval: limits::HEARTBEAT_INTERVAL,
            reconnect_delay: limits::RECONNECT_DELAY,
            stall_time_max: limits::CONNECTION_STALL_TIME_MAX,
            request_head_time_max: limits::REQUEST_HEAD_TIME_MAX,
            shutdown_time_max: limits::SHUTDOWN_TIME_MAX,
            connections_count_max: limits::CONNECTIONS_COUNT_MAX,
            queue_count_max: limits::CONNECTION_QUEUE_COUNT_MAX,
        }
    }
}

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The port is taken.
    #[error("another program listens on {address}: stop it, or set gateway.listen")]
    AddressTaken {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The system forbids this port.
    #[error("no right to listen on {address}: ports below 1024 need it, set gateway.listen to a higher one")]
    AddressForbidden {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The machine has no such address, or something rarer.
    #[error("cannot listen on {address}: set gateway.listen to an address of this machine")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

impl GatewayError {
    fn of_bind(address: SocketAddr, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::AddrInUse => Self::AddressTaken { address },
            std::io::ErrorKind::PermissionDenied => Self::AddressForbidden { address },
            _ => Self::Listen { address, source },
        }
    }
}

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    hub: Arc<hub::Hub>,
    server: JoinHandle<()>,
}

impl Gateway {
    /// Listens, and serves until `stop` is cancelled. Messages that the bus makes known from now on reach the
    /// clients that are there; older ones those who resume.
    ///
    /// # Errors
    /// If the address cannot be listened on; nothing runs then, and another try may succeed.
    pub async fn start(
        config: Config,
        bus: Arc<dyn Bus>,
        stop: CancellationToken,
    ) -> Result<Self, GatewayError> {
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| GatewayError::of_bind(config.listen, source))?;
        let address = listener
            .local_addr()
            .map_err(|source| GatewayError::Listen { address: config.listen, source })?;
        let (hub, follower) = hub::Hub::new(&config, Arc::clone(&bus));
        let routes =
            routes::routes(Arc::new(routes::State { config: config.clone(), bus, hub: Arc::clone(&hub) }));
        let server = server::Server { config, listener, routes, hub: Arc::clone(&hub) };
        let server = tokio::spawn(server.run(follower, stop));
        Ok(Self { address, hub, server })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The event streams that are open.
    #[must_use]
    pub fn streams_count(&self) -> usize {
        self.hub.subscribers_count()
    }

    /// Waits until it has stopped: every stream ended, every task gone.
    pub async fn stopped(self) {
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the gateway ended badly");
        }
    }
}
