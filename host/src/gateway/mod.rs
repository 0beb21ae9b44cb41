//! The gateway: the public listener, and the way of messages from the bus to the screens.
//!
//! In: a bus, and HTTP requests. Out: event streams, WebSockets, answers to long-polls, pages of history, the list of
//! channels, the page, the browser's client; and what clients say, to the intake and the bus.
//!
//! ```text
//! bus ─► hub ─► mailbox ─► feed ─┬► sse ────► http ─► client        one hub; a mailbox and a feed a client
//!   └──────── replay ───────┘    ├► socket ──►
//!                                └► poll ────►
//! ```
//! Invariants:
//! - a client that comes back with its last id gets every kept message of its channels after it, in order, once, or
//!   a `reset`; so does a client that is slow but not stuck;
//! - so it is on every face: there is one way of joining history and live, the feed's, and a face only encodes;
//! - the frame of a message is encoded once for each format and shared by all that follow live;
//! - whatever a client makes the gateway hold is bounded, and goes when the client goes.
//!
//! Absent on purpose: who may listen to what (`access`, which `admission` asks for every face), how messages of clients
//! are kept (`intake`).
//!
//! To add a route: a file of its own, a line in `routes.rs`. To add a refusal: a variant in `codes.rs`. To add a
//! format: see `frame`.

mod admission;
mod channels;
mod client;
mod codes;
mod crowd;
mod echo;
mod feed;
mod frame;
mod history;
mod hub;
mod listening;
mod mailbox;
mod page;
mod permits;
mod poll;
mod presence;
mod publish;
mod query;
mod resume;
mod routes;
mod socket;
mod spoken;
mod sse;
mod tickets;
mod timelines;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use warp::http::HeaderMap;
use warp::reply::Response;

use self::codes::{Code, Refusal};
#[doc(hidden)]
pub use self::echo::echo as websocket_echo;
pub use self::presence::PresenceConfig;
use crate::access::Access;
use crate::bus::Bus;
use crate::http::{self, Excess, ListenError, Proxies, Rate, Tls, TlsFiles};
use crate::intake::Intake;
use crate::limits;
use crate::telemetry::Metrics;
use crate::timeline::Timelines;

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
    /// How long a WebSocket's client may say nothing, not even in answer to a ping; longer than the heartbeat.
    pub silence_time_max: Duration,
    /// From accepting a connection, or from the last answer, to the end of a request's head; and as long for a handshake
    /// of TLS.
    pub request_head_time_max: Duration,
    /// From the order to stop until connections are cut.
    pub shutdown_time_max: Duration,
    /// Between the ends of two streams then, unless there are too many for it.
    pub drain_interval: Duration,
    /// How long a connection of HTTP/2 may have nothing going on.
    pub idle_time_max: Duration,
    /// The certificate; without one it speaks in the clear.
    pub tls: Option<TlsFiles>,
    /// Connections at once, and streams at once.
    pub connections_count_max: usize,
    /// Connections of one address, but for those of trusted proxies.
    pub connections_per_address_max: Option<usize>,
    /// Streams of one address.
    pub streams_per_address_max: Option<usize>,
    /// Streams of one subject.
    pub streams_per_subject_max: Option<usize>,
    /// Requests of one address.
    pub requests: Option<Rate>,
    /// Who is believed when it says whom it speaks for.
    pub proxies: Proxies,
    /// Frames that wait for one client.
    pub queue_count_max: usize,
    /// Frames of so many bytes need not wait for a client that waits for nothing else.
    pub direct_bytes_max: usize,
    /// Of which channels it is told who is there.
    pub presence: PresenceConfig,
    /// Messages that a subject may send, or an address for who has none.
    pub messages: Rate,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
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
            silence_time_max: limits::SOCKET_SILENCE_TIME_MAX,
            request_head_time_max: limits::REQUEST_HEAD_TIME_MAX,
            shutdown_time_max: limits::SHUTDOWN_TIME_MAX,
            drain_interval: limits::DRAIN_INTERVAL,
            idle_time_max: limits::CONNECTION_IDLE_TIME_MAX,
            tls: None,
            connections_count_max: limits::CONNECTIONS_COUNT_MAX,
            connections_per_address_max: None,
            streams_per_address_max: None,
            streams_per_subject_max: None,
            requests: None,
            proxies: Proxies::default(),
            queue_count_max: limits::CONNECTION_QUEUE_COUNT_MAX,
            direct_bytes_max: limits::CONNECTION_BUFFER_BYTES_MAX,
            presence: PresenceConfig::default(),
            messages: Rate { per_second: limits::CLIENT_RATE, burst: limits::CLIENT_BURST },
            metrics: Arc::default(),
        }
    }
}

/// Whom it asks.
#[derive(Clone)]
pub struct Neighbours {
    /// Where the messages are.
    pub bus: Arc<dyn Bus>,
    /// Where the timelines are, if they are kept.
    pub timelines: Option<Timelines>,
    /// Who may listen, and send.
    pub access: Access,
    /// Where messages of clients are kept.
    pub intake: Intake,
}

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    #[cfg(test)]
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
        neighbours: Neighbours,
        stop: CancellationToken,
    ) -> Result<Self, ListenError> {
        let Neighbours { bus, timelines, access, intake } = neighbours;
        let tls = match config.tls.clone() {
            Some(files) => Some(Tls::open(files).await?),
            None => None,
        };
        let (listener, address) = http::listen(config.listen, "gateway.listen").await?;
        let marks = access.clone();
        let refuse = Arc::new(move |excess, asked: &HeaderMap| {
            let mut response = refused(excess);
            marks.mark_answer(asked, response.headers_mut());
            response
        });
        let (hub, follower) = hub::Hub::new(&config, Arc::clone(&bus), timelines.clone());
        let server = http::Server {
            config: http::Config {
                name: "gateway",
                request_head_time_max: config.request_head_time_max,
                heartbeat_interval: config.heartbeat_interval,
                shutdown_time_max: config.shutdown_time_max,
                idle_time_max: config.idle_time_max,
                connections_count_max: config.connections_count_max,
                connections_per_address_max: config.connections_per_address_max,
                requests: config.requests,
                proxies: config.proxies.clone(),
                metrics: Arc::clone(&config.metrics.gateway.listener),
            },
            listener,
            tls,
            routes: routes::routes(Arc::new(routes::State {
                crowd: crowd::Crowd::new(&config),
                speakers: http::Buckets::new(config.messages, limits::CLIENT_RATES_COUNT_MAX),
                config,
                bus,
                timelines,
                hub: Arc::clone(&hub),
                access,
                intake,
            })),
            refuse,
        };
        let server = tokio::spawn(serve(server, Arc::clone(&hub), follower, stop));
        Ok(Self {
            address,
            #[cfg(test)]
            hub,
            server,
        })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The clients that are there, on all faces.
    #[cfg(test)]
    fn streams_count(&self) -> usize {
        self.hub.subscribers_count()
    }

    /// Waits until it has stopped: every stream ended, every task gone.
    pub async fn stopped(self) {
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the gateway ended badly");
        }
    }
}

/// Serves until `stop`, or until the bus has ended: without the hub, streams would live and be silent.
async fn serve(server: http::Server, hub: Arc<hub::Hub>, follower: hub::Follower, stop: CancellationToken) {
    // What is left is for the last words to get through.
    let drain_time_max = server.config.shutdown_time_max * 4 / 5;
    let own = stop.child_token();
    let (following, ended) = (Arc::clone(&hub), own.clone().drop_guard());
    let hub_stop = own.clone();
    let hub_task = tokio::spawn(async move {
        let _ended = ended;
        following.run(follower, hub_stop).await;
    });
    server.run(own, hub.drain(drain_time_max)).await;
    if !stop.is_cancelled() {
        let failed = hub_task.await.is_err();
        tracing::error!(failed, "the hub has ended, and the gateway with it");
    }
}

/// What a connection or a request is told that is one too many.
fn refused(excess: Excess) -> Response {
    let refusal = match excess {
        Excess::Connections => Refusal::new(Code::Overloaded, "the server has as many connections as it may"),
        Excess::ConnectionsOfAddress => {
            Refusal::new(Code::ConnectionsTooMany, "your address has as many connections as it may")
        }
        Excess::Requests(wait) => {
            Refusal::new(Code::RequestsTooMany, "your address asks too often").after(wait)
        }
    };
    refusal.response()
}
