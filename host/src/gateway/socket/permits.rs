//! The permits of a socket, whose channels come and go.
//!
//! In: a permit for the channels of each subscription. Out: the refusal that ends the socket, if one of them ends.
//!
//! Invariant: a permit is watched for as long as the socket has one of its channels, and no longer.

use std::future::{pending, poll_fn};
use std::task::Poll;
use std::time::SystemTime;

use super::super::admission::{Ending, ending};
use crate::access::{Permit, Refusal};
use crate::event::Channel;

/// See the head of this file.
#[derive(Default)]
pub(super) struct Permits(Vec<Watched>);

struct Watched {
    channels: Vec<Channel>,
    until: Option<SystemTime>,
    ending: Ending,
}

impl Permits {
    /// Watches one more. One that has no end needs no watching.
    pub(super) fn add(&mut self, channels: Vec<Channel>, permit: Permit) {
        let until = permit.until();
        self.0.extend(ending(permit).map(|ending| Watched { channels, until, ending }));
    }

    /// Watches this one instead of all before.
    pub(super) fn replace(&mut self, channels: Vec<Channel>, permit: Permit) {
        self.0.clear();
        if !channels.is_empty() {
            self.add(channels, permit);
        }
    }

    /// These channels are gone.
    pub(super) fn remove(&mut self, gone: &[Channel]) {
        for watched in &mut self.0 {
            watched.channels.retain(|channel| !gone.contains(channel));
        }
        self.0.retain(|watched| !watched.channels.is_empty());
    }

    /// When the first of them may end, if that is known.
    pub(super) fn until(&self) -> Option<SystemTime> {
        self.0.iter().filter_map(|watched| watched.until).min()
    }

    /// Waits until one has ended. Cancelling loses nothing.
    pub(super) async fn ended(&mut self) -> Refusal {
        if self.0.is_empty() {
            return pending().await;
        }
        poll_fn(|context| {
            for watched in &mut self.0 {
                if let Poll::Ready(refusal) = watched.ending.as_mut().poll(context) {
                    return Poll::Ready(refusal);
                }
            }
            Poll::Pending
        })
        .await
    }
}
