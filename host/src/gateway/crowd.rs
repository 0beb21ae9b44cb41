//! How many streams each client has: by its address, and by the subject of its token.
//!
//! In: who comes. Out: a seat for as long as the stream lives, unless the client has as many as it may.

use std::sync::Arc;

use super::Config;
use super::codes::{Code, Refusal};
use crate::access::Visitor;
use crate::http::{Network, Share, Shares};
use crate::telemetry::{Limit, Metrics};

/// See the head of this file.
pub(super) struct Crowd {
    addresses: Option<Arc<Shares<Network>>>,
    subjects: Option<Arc<Shares<Box<str>>>>,
    metrics: Arc<Metrics>,
}

/// One stream of somebody.
#[derive(Default)]
pub(super) struct Seat {
    _of_address: Option<Share<Network>>,
    of_subject: Option<Share<Box<str>>>,
}

impl Crowd {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            addresses: config.streams_per_address_max.map(Shares::new),
            subjects: config.streams_per_subject_max.map(Shares::new),
            metrics: Arc::clone(&config.metrics),
        }
    }

    /// A seat for one more stream.
    pub(super) fn enter(&self, visitor: &Visitor) -> Result<Seat, Refusal> {
        let of_address = self.addresses.as_ref().map(|addresses| {
            let share = addresses.take(Network::of(visitor.address));
            share.ok_or_else(|| self.full(Limit::StreamsPerAddress, "your address"))
        });
        Ok(Seat { _of_address: of_address.transpose()?, of_subject: self.of_subject(visitor)? })
    }

    /// Lets a stream go on for somebody else, at the same address. Changes nothing if that one has too many.
    pub(super) fn pass(&self, seat: &mut Seat, visitor: &Visitor) -> Result<(), Refusal> {
        let before = seat.of_subject.as_ref().map(|share| &**share.who());
        if before != visitor.identity.subject() {
            seat.of_subject = self.of_subject(visitor)?;
        }
        Ok(())
    }

    fn of_subject(&self, visitor: &Visitor) -> Result<Option<Share<Box<str>>>, Refusal> {
        let of_subject = self.subjects.as_ref().zip(visitor.identity.subject()).map(|(subjects, subject)| {
            let share = subjects.take(subject.into());
            share.ok_or_else(|| self.full(Limit::StreamsPerSubject, "your token's subject"))
        });
        of_subject.transpose()
    }

    fn full(&self, limit: Limit, whose: &str) -> Refusal {
        self.metrics.gateway.listener.count_limited(limit);
        Refusal::new(Code::StreamsTooMany, format!("{whose} has as many streams as it may"))
    }
}
