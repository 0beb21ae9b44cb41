//! Who is let in: connections in all and of each address, and requests of each address.
//!
//! In: addresses. Out: places that are given back by dropping, and what is one too many.
//!
//! Invariant: who is refused is told so, as long as not too many have to be told at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::bucket::Buckets;
use super::network::Network;
use super::share::{Share, Shares};
use super::{Config, Proxies};
use crate::limits::{RATED_ADDRESSES_COUNT_MAX, REFUSALS_COUNT_MAX};
use crate::telemetry::{Limit, ListenerMetrics};

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// Connections in all.
    Connections,
    /// Of this address.
    ConnectionsOfAddress,
    /// Requests of this address; there may be another one after this time.
    Requests(Duration),
}

/// How a connection is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Served,
    Refused(Excess),
}

/// See the head of this file.
pub(super) struct Door {
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    addresses: Option<Arc<Shares<Network>>>,
    requests: Option<Buckets<Network>>,
    proxies: Proxies,
    metrics: Arc<ListenerMetrics>,
}

/// A connection's place.
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_address: Option<Share<Network>>,
    metrics: Arc<ListenerMetrics>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            places: Arc::new(Semaphore::new(config.connections_count_max)),
            refusals: Arc::new(Semaphore::new(REFUSALS_COUNT_MAX)),
            addresses: config.connections_per_address_max.map(Shares::new),
            requests: config.requests.map(|rate| Buckets::new(rate, RATED_ADDRESSES_COUNT_MAX)),
            proxies: config.proxies.clone(),
            metrics: Arc::clone(&config.metrics),
        }
    }

    /// A place for a connection, to be served or to be told why it is not; none if too many are being told.
    pub(super) fn admit(&self, peer: IpAddr) -> Option<(Place, Admission)> {
        match self.place(peer) {
            Ok(place) => Some((place, Admission::Served)),
            Err(excess) => {
                self.count(excess);
                let place = Arc::clone(&self.refusals).try_acquire_owned().ok()?;
                Some((self.taken(place, None), Admission::Refused(excess)))
            }
        }
    }

    fn place(&self, peer: IpAddr) -> Result<Place, Excess> {
        // A proxy's connections are of many clients.
        let addresses = self.addresses.as_ref().filter(|_| !self.proxies.trust(peer));
        let of_address = addresses.map(|addresses| addresses.take(Network::of(peer)));
        let of_address = of_address.map(|share| share.ok_or(Excess::ConnectionsOfAddress)).transpose()?;
        let of_all = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Excess::Connections)?;
        Ok(self.taken(of_all, of_address))
    }

    fn taken(&self, of_all: OwnedSemaphorePermit, of_address: Option<Share<Network>>) -> Place {
        self.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Place { _of_all: of_all, _of_address: of_address, metrics: Arc::clone(&self.metrics) }
    }

    /// Where a request comes from.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.proxies.client(peer, headers)
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// If its client has made too many.
    pub(super) fn let_in(&self, client: IpAddr) -> Result<(), Excess> {
        let Some(requests) = &self.requests else { return Ok(()) };
        requests.take(Network::of(client)).map_err(|wait| {
            let excess = Excess::Requests(wait);
            self.count(excess);
            excess
        })
    }

    fn count(&self, excess: Excess) {
        self.metrics.count_limited(match excess {
            Excess::Connections => Limit::Connections,
            Excess::ConnectionsOfAddress => Limit::ConnectionsPerAddress,
            Excess::Requests(_) => Limit::RequestsPerAddress,
        });
    }
}
