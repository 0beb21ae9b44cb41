//! HTTP as both listeners speak it: sockets, connections and their ends, files of a page.
//!
//! In: an address and routes. Out: a server that runs until it is told to stop: HTTP/1.1 and HTTP/2, chosen by ALPN over
//! TLS, and by prior knowledge in the clear.
//!
//! Invariant: whatever a client does, what it holds is bounded and goes with it.
//! Absent on purpose: routes and their answers (`gateway`, `admin`).

mod activity;
mod body;
mod bucket;
mod connection;
mod door;
mod files;
mod forwarded;
mod line;
mod network;
mod server;
mod share;
mod streams;
mod tls;
#[cfg(test)]
pub(crate) mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::limits::CONNECTION_STALL_TIME_MAX;

pub(crate) use body::{Body, BodyError};
pub(crate) use bucket::Buckets;
pub use bucket::Rate;
pub(crate) use door::Excess;
pub(crate) use files::{file, shared_file};
pub use forwarded::{Proxies, ProxyHeader};
pub(crate) use line::{Line, Offered, Wire};
pub(crate) use network::Network;
pub use network::{Prefix, PrefixError};
pub(crate) use server::{Config, Server};
pub(crate) use share::{Share, Shares};
pub(crate) use streams::stream;
pub(crate) use tls::Tls;
pub use tls::TlsFiles;

/// Rides on a request: ends its connection, which it has for itself.
#[derive(Debug, Clone)]
pub(crate) struct Cut(pub(crate) CancellationToken);

/// Rides on a request: where it comes from, before all proxies that are trusted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What becomes of a connection after it was upgraded.
pub(crate) type Afterlife = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Rides on a request: where its route puts what becomes of the connection once it has its answer. It then lives within
/// the server's bounds, and ends with it, as a connection does.
#[derive(Clone, Default)]
pub(crate) struct Takeover(Arc<Successor>);

#[derive(Default)]
struct Successor {
    afterlife: Mutex<Option<Afterlife>>,
    unframed: Notify,
}

/// Rides on an answer of status 200 over HTTP/1.1, whose connection's line its route has taken over: it is sent without
/// a body, and what follows is written as it is, until the connection ends. So is a stream spared HTTP's framing, its
/// buffers and its task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unframed;

impl Takeover {
    /// Puts it; a connection has one.
    pub(crate) fn put(&self, afterlife: impl Future<Output = ()> + Send + 'static) {
        *self.slot() = Some(Box::pin(afterlife));
    }

    fn take(&self) -> Option<Afterlife> {
        self.slot().take()
    }

    /// Lets it begin after this head, in HTTP's place.
    fn unframe(&self, mut wire: Wire, head: Vec<u8>) {
        if let Some(afterlife) = self.take() {
            self.put(async move {
                let written = tokio::time::timeout(CONNECTION_STALL_TIME_MAX, wire.write_all(&head));
                if matches!(written.await, Ok(Ok(()))) {
                    drop((wire, head));
                    afterlife.await;
                }
            });
        }
        self.0.unframed.notify_one();
    }

    /// Waits until HTTP has nothing more to do.
    async fn unframed(&self) {
        self.0.unframed.notified().await;
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Afterlife>> {
        self.0.afterlife.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why nobody can connect.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The port is taken.
    #[error("another program listens on {address}: stop it, or set {key}")]
    AddressTaken {
        /// The address asked for.
        address: SocketAddr,
        /// Where it is configured.
        key: &'static str,
    },
    /// The system forbids this port.
    #[error("no right to listen on {address}: ports below 1024 need it, set {key} to a higher one")]
    AddressForbidden {
        /// The address asked for.
        address: SocketAddr,
        /// Where it is configured.
        key: &'static str,
    },
    /// The certificate or its key cannot be used.
    #[error("TLS cannot begin: {} {why}", path.display())]
    Tls {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The machine has no such address, or something rarer.
    #[error("cannot listen on {address}: set {key} to an address of this machine")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Where it is configured.
        key: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Listens on an address, which the configuration has under `key`; gives it with the port that it got.
///
/// # Errors
/// If it cannot be listened on; another try may succeed.
pub(crate) async fn listen(
    address: SocketAddr,
    key: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let refused = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => ListenError::AddressTaken { address, key },
        std::io::ErrorKind::PermissionDenied => ListenError::AddressForbidden { address, key },
        _ => ListenError::Listen { address, key, source },
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let own = listener.local_addr().map_err(refused)?;
    Ok((listener, own))
}
