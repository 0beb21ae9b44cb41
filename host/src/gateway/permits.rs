//! The permits of a stream, whose channels may come and go.
//!
//! In: a permit for the channels of each subscription. Out: the refusal that ends the stream, if one of them ends; and
//! meanwhile, for who writes to the stream or for it, whether all of them hold ([`Pass`]).
//!
//! Invariants:
//! - a permit is watched for as long as the stream has one of its channels, and no longer;
//! - from the moment in which something changes that may end a permit until it was looked at, nothing is told.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::mailbox::Mailbox;
use crate::access::{Permit, Refusal, Term};
use crate::event::Channel;

/// What may go to a stream's client, and until when.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    /// When the hub began, whose time the mailbox knows.
    began: Instant,
    mailbox: Arc<Mailbox>,
}

impl Pass {
    pub(super) fn new(began: Instant, mailbox: Arc<Mailbox>) -> Self {
        Self { began, mailbox }
    }

    /// Does something only while all permits hold. Whoever does so waits for [`Permits::ended`] at the same time.
    pub(super) async fn hold<Done>(&self, work: impl Future<Output = Done>) -> Done {
        let mut work = pin!(work);
        poll_fn(|context| if self.mailbox.is_settled() { work.as_mut().poll(context) } else { Poll::Pending })
            .await
    }

    fn set<'t>(&self, terms: impl Iterator<Item = &'t Term> + Clone) {
        let settled = terms.clone().map(Term::settled).min().unwrap_or(u64::MAX);
        let until = terms.map(Term::until_millis).min().unwrap_or(u64::MAX);
        let until = if until == u64::MAX { until } else { self.in_time_of_hub(until) };
        self.mailbox.permit(until, settled);
    }

    /// `millis` are since 1970.
    fn in_time_of_hub(&self, millis: u64) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = millis.saturating_sub(super::hub::millis(now));
        super::hub::millis(self.began.elapsed()).saturating_add(left)
    }
}

/// See the head of this file.
pub(super) struct Permits {
    pass: Pass,
    watched: Vec<Watched>,
}

struct Watched {
    channels: Vec<Channel>,
    term: Arc<Term>,
    ending: Pin<Box<dyn Future<Output = Refusal> + Send>>,
}

impl Permits {
    /// None yet.
    pub(super) fn new(pass: Pass) -> Self {
        Self { pass, watched: Vec::new() }
    }

    /// What may be told by these permits.
    pub(super) fn pass(&self) -> Pass {
        self.pass.clone()
    }

    /// Watches one more. One that has no end needs no watching.
    pub(super) fn add(&mut self, channels: Vec<Channel>, mut permit: Permit) {
        if !permit.is_for_ever() {
            let term = permit.term();
            let ending = Box::pin(async move { permit.ended().await });
            self.watched.push(Watched { channels, term, ending });
        }
        self.tell();
    }

    /// Watches this one instead of all before.
    pub(super) fn replace(&mut self, channels: Vec<Channel>, permit: Permit) {
        self.watched.clear();
        if channels.is_empty() {
            self.tell();
        } else {
            self.add(channels, permit);
        }
    }

    /// These channels are gone.
    pub(super) fn remove(&mut self, gone: &[Channel]) {
        for watched in &mut self.watched {
            watched.channels.retain(|channel| !gone.contains(channel));
        }
        self.watched.retain(|watched| !watched.channels.is_empty());
        self.tell();
    }

    /// Waits until one has ended. Cancelling loses nothing.
    pub(super) async fn ended(&mut self) -> Refusal {
        if self.watched.is_empty() {
            return pending().await;
        }
        poll_fn(|context| {
            for watched in &mut self.watched {
                if let Poll::Ready(refusal) = watched.ending.as_mut().poll(context) {
                    return Poll::Ready(refusal);
                }
            }
            // One of them may have been renewed.
            self.tell();
            Poll::Pending
        })
        .await
    }

    fn tell(&self) {
        self.pass.set(self.watched.iter().map(|watched| &*watched.term));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::frame::{Frame, Kind};
    use super::super::mailbox::{Bounds, Own, Taken};
    use super::*;
    use crate::access::tests::{a_gate, by_tokens};
    use crate::access::{Deed, Gate, Head, Wanted};
    use crate::event::Sequence;
    use crate::http::Line;
    use crate::http::tests::PATIENCE;
    use crate::telemetry::Face;

    fn frame(sequence: u64) -> Arc<Frame> {
        let (channel, bytes) = (Channel::new("allowed").expect("it is one"), Bytes::from_static(b"x"));
        let sequence = Some(Sequence(sequence));
        Arc::new(Frame { sequence, channel, bytes, kind: Kind::Message, committed_at: None })
    }

    /// Whether the mailbox writes a frame to its line by itself, which its task has released.
    fn writes(pass: &Pass, sequence: u64) -> bool {
        let mailbox = &pass.mailbox;
        let mut context = std::task::Context::from_waker(futures_util::task::noop_waker_ref());
        while let Poll::Ready(taken) = mailbox.poll_take(&mut context, false) {
            assert!(matches!(taken, Taken::Frame(_)), "{taken:?}");
        }
        mailbox.give(&frame(sequence), super::super::hub::millis(pass.began.elapsed()))
    }

    #[tokio::test]
    async fn a_stream_is_written_to_again_once_its_permit_was_renewed_and_not_before() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has one");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, line) = (client.expect("it is there"), Line::new(accepted.expect("it is there").0));
        let (access, metrics) = by_tokens(|_| {});
        access.put_gate::<std::io::Error>(Ok(Some(a_gate())));
        let doubts = access.doubts();
        let own = Own { cut: None, line: Some(line), doubts: Some(Arc::clone(&doubts)) };
        let bounds = Bounds { queue_count_max: 8, direct_bytes_max: 8 };
        let mailbox = Arc::new(Mailbox::new(Face::EventStream, bounds, own, Arc::default()));
        mailbox.follow();
        let headers = warp::http::HeaderMap::new();
        let head = Head { headers: &headers, authority: None, ticket: None, address: address.ip() };
        let visitor = access.identify(&head, Deed::Read).await.expect("it is nobody");
        let pass = Pass::new(Instant::now(), mailbox);
        let mut permits = Permits::new(pass.clone());
        assert!(writes(&pass, 1), "it has no permit that can end");
        // This gate's time is always past, so it is asked again after a second, and then again.
        let permit = access.admit(visitor, &[Wanted::channel("allowed")], doubts).await.expect("it lets in");
        permits.add(vec![Channel::new("allowed").expect("it is one")], permit);
        assert!(writes(&pass, 2), "it holds");
        let asked_again = async {
            while metrics.gate_calls.load(Ordering::Relaxed) < 3 || !writes(&pass, 3) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, async {
            tokio::select! { biased; refusal = permits.ended() => Some(refusal), () = asked_again => None }
        });
        assert_eq!(ended.await.expect("it is written to again"), None);
        let put = |gate: Result<Option<Gate>, std::io::Error>| access.put_gate(gate);
        put(Ok(Some(a_gate())));
        assert!(!writes(&pass, 1_000), "nobody has asked that gate yet");
        let mut context = std::task::Context::from_waker(futures_util::task::noop_waker_ref());
        assert!(pass.mailbox.poll_take(&mut context, false).is_pending(), "nor is it taken out");
        put(Ok(None));
        assert!(!writes(&pass, 1_001), "and now there is none");
        let mut told = pin!(pass.hold(async {}));
        assert!(futures_util::poll!(&mut told).is_pending());
        tokio::time::timeout(PATIENCE, permits.ended()).await.expect("nobody lets it in");
        assert!(futures_util::poll!(&mut told).is_pending());
        permits.remove(&[Channel::new("allowed").expect("it is one")]);
        told.await;
    }
}
