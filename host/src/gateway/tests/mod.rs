//! The gateway over real sockets, on a bus in memory.

mod abuse;
mod access;
mod checker;
mod drain;
mod limits;
mod listener;
mod live;
mod memory_bus;
mod presence;
mod publishing;
mod pulls;
mod revoked;
mod socket_client;
mod sockets;
mod streams;
mod timelines;
mod values;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Config, Gateway, Neighbours};
use crate::access::Access;
use crate::access::tests::open_to_all;
use crate::http::tests::PATIENCE;
use crate::intake::Intake;
use crate::intake::tests::closed;
use crate::telemetry::{Face, Metrics};
use crate::timeline::Timelines;
use memory_bus::MemoryBus;

/// A gateway on a free port, and what a test needs to drive it.
struct Fixture {
    bus: Arc<MemoryBus>,
    gateway: Gateway,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Fixture {
    async fn start() -> Self {
        Self::with(MemoryBus::new(0x9f3c), |_| {}).await
    }

    async fn with(bus: Arc<MemoryBus>, change: impl FnOnce(&mut Config)) -> Self {
        Self::guarded(bus, open_to_all(), change).await
    }

    async fn guarded(bus: Arc<MemoryBus>, access: Access, change: impl FnOnce(&mut Config)) -> Self {
        Self::keeping(bus, None, access, change).await
    }

    /// One whose clients may be heard.
    async fn hearing(access: Access, intake: Intake, change: impl FnOnce(&mut Config)) -> Self {
        let bus = MemoryBus::new(0x9f3c);
        let neighbours = Neighbours { bus: bus.clone(), timelines: None, access, intake };
        Self::of(bus, neighbours, change).await
    }

    async fn keeping(
        bus: Arc<MemoryBus>,
        timelines: Option<Timelines>,
        access: Access,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let neighbours = Neighbours { bus: bus.clone(), timelines, access, intake: closed() };
        Self::of(bus, neighbours, change).await
    }

    async fn of(bus: Arc<MemoryBus>, neighbours: Neighbours, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.shutdown_time_max = Duration::from_millis(500);
        change(&mut config);
        let metrics = Arc::clone(&config.metrics);
        let stop = CancellationToken::new();
        let started = Gateway::start(config, neighbours, stop.clone()).await;
        Self { bus, gateway: started.expect("a free port is there"), metrics, stop }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// Waits until exactly so many streams are open.
    async fn streams(&self, count: usize) {
        let reached = async {
            while self.gateway.streams_count() != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the number of streams is reached");
    }
}
