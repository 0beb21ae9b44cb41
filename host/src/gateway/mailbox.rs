//! A mailbox: what waits for one stream, between the hub that puts and the stream that takes.
//!
//! In: frames. Out: the same frames in order, or the word that some were not put.
//!
//! A stream that waits for nothing else has released its connection's line: then a frame is written to it at once, and
//! neither waits here nor wakes anybody.
//!
//! Invariants:
//! - frames come in the order in which they were put, whether they waited or not;
//! - it holds at most the configured count and bytes; what would exceed them empties it, and the stream is then
//!   *behind*: it must read the history from its cursor. So a slow stream costs less memory than a fast one;
//! - from [`Mailbox::follow`] until it is behind, no frame is missing.
//!
//! Absent on purpose: which frames belong here (`hub`), and the cursor (`feed`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::task::AtomicWaker;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

use super::frame::{Frame, Kind};
use crate::access::Doubts;
use crate::event::{Channel, Micros, Sequence};
use crate::http::{Line, Offered};
use crate::limits::CONNECTION_QUEUE_BYTES_MAX;
use crate::telemetry::{DeliveryDelays, Face};

/// A queue keeps no more room than this once it is empty: a burst must not weigh for ever.
const IDLE_CAPACITY_MAX: usize = 8;

/// What a stream finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The next frame.
    Frame(Arc<Frame>),
    /// Frames may be missing since the last one taken: read the history, after another [`Mailbox::follow`].
    Behind,
    /// The stream must end.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Behind,
    Following,
    Closed,
}

#[derive(Debug)]
struct State {
    status: Status,
    queue: VecDeque<Arc<Frame>>,
    bytes: usize,
    /// The place of the last frame that did not wait.
    written: Sequence,
    /// When the first of what waits was put.
    since: Option<Instant>,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Mailbox {
    /// How its client gets its messages.
    face: Face,
    queue_count_max: usize,
    /// Larger frames wait here even if the line is free.
    direct_bytes_max: usize,
    state: Mutex<State>,
    waker: AtomicWaker,
    /// When the connection took something and did not come back for more, in milliseconds since the hub began,
    /// plus 1; 0 while it waits for us.
    offered_at: AtomicU64,
    /// No frame is written past this time, in milliseconds since the hub began: the stream's permit may have ended.
    permitted_until: AtomicU64,
    /// How many of the doubts about its permits were looked at; the greatest number if it has none that can end.
    settled: AtomicU64,
    /// Of the stream; its connection only if no other stream shares it.
    own: Own,
    /// Where it counts how long frames took.
    delays: Arc<DeliveryDelays>,
}

/// What a mailbox may hold, and what it may hand on at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Frames that wait.
    pub(super) queue_count_max: usize,
    /// Bytes of a frame that need not wait.
    pub(super) direct_bytes_max: usize,
}

/// What a stream has for itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    /// Counts what may have ended its permits.
    pub(super) doubts: Option<Arc<Doubts>>,
    /// Cuts its connection.
    pub(super) cut: Option<CancellationToken>,
    /// The connection's line, if it is in the clear.
    pub(super) line: Option<Arc<Line>>,
}

impl Mailbox {
    /// An empty one, behind.
    pub(super) fn new(face: Face, bounds: Bounds, own: Own, delays: Arc<DeliveryDelays>) -> Self {
        Self {
            face,
            queue_count_max: bounds.queue_count_max,
            direct_bytes_max: bounds.direct_bytes_max,
            state: Mutex::new(State {
                status: Status::Behind,
                queue: VecDeque::new(),
                bytes: 0,
                written: Sequence(0),
                since: None,
            }),
            waker: AtomicWaker::new(),
            offered_at: AtomicU64::new(0),
            permitted_until: AtomicU64::new(u64::MAX),
            settled: AtomicU64::new(u64::MAX),
            own,
            delays,
        }
    }

    /// How its client gets its messages.
    pub(super) fn face(&self) -> Face {
        self.face
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Behind → following, with an empty queue. Call under the hub's lock, so that the hub's position is known.
    pub(super) fn follow(&self) {
        let mut state = self.state();
        self.claim_line();
        if state.status != Status::Closed {
            state.empty();
            state.status = Status::Following;
        }
    }

    /// Puts a frame; following → behind if there is no room for it.
    pub(super) fn put(&self, frame: &Arc<Frame>) {
        self.put_into(self.state(), frame);
    }

    /// Writes a frame to the stream's line, if that is free, or puts it. Says whether the client gets it right now, so that
    /// no stream takes it.
    pub(super) fn give(&self, frame: &Arc<Frame>, now_millis: u64) -> bool {
        let mut state = self.state();
        let offered = self.offer(&state, frame, now_millis);
        if offered == Offered::Refused {
            self.put_into(state, frame);
            return false;
        }
        state.written = frame.sequence.unwrap_or(state.written);
        if offered == Offered::Begun {
            self.mark_offered(now_millis);
            drop(state);
            self.waker.wake();
        }
        true
    }

    fn put_into(&self, mut state: MutexGuard<'_, State>, frame: &Arc<Frame>) {
        if state.status != Status::Following {
            return;
        }
        let bytes = state.bytes + frame.bytes.len();
        // One frame always fits, however large.
        let full = bytes > CONNECTION_QUEUE_BYTES_MAX && !state.queue.is_empty();
        if full || state.queue.len() >= self.queue_count_max {
            state.empty();
            state.status = Status::Behind;
        } else {
            state.bytes = bytes;
            state.since.get_or_insert_with(Instant::now);
            state.queue.push_back(Arc::clone(frame));
        }
        drop(state);
        self.waker.wake();
    }

    fn offer(&self, state: &State, frame: &Frame, now_millis: u64) -> Offered {
        let may = state.status == Status::Following
            && state.queue.is_empty()
            && frame.kind == Kind::Message
            // What is larger goes in slices, so that a client that takes some of it shows that it does.
            && frame.bytes.len() <= self.direct_bytes_max
            && now_millis < self.permitted_until.load(Ordering::Relaxed)
            && self.is_settled();
        let line = self.own.line.as_ref().filter(|_| may);
        line.map_or(Offered::Refused, |line| line.offer(&frame.bytes))
    }

    /// The stream is about to say something of its own: until it waits again, frames wait for it.
    pub(super) fn claim(&self) {
        let _state = self.state();
        self.claim_line();
    }

    fn claim_line(&self) {
        if let Some(line) = &self.own.line {
            line.claim();
        }
    }

    /// The place of the last frame that did not wait.
    pub(super) fn written(&self) -> Sequence {
        self.state().written
    }

    /// Until when the stream may be told anything without being asked, in milliseconds since the hub began; and not beyond
    /// so many doubts.
    pub(super) fn permit(&self, until_millis: u64, settled: u64) {
        self.permitted_until.store(until_millis, Ordering::Relaxed);
        self.settled.store(settled, Ordering::Relaxed);
    }

    /// Whether all that may have ended the stream's permits was looked at.
    pub(super) fn is_settled(&self) -> bool {
        let settled = self.settled.load(Ordering::Relaxed);
        settled == u64::MAX || self.own.doubts.as_ref().is_some_and(|doubts| doubts.count() == settled)
    }

    /// Following → behind: the hub itself has missed something.
    pub(super) fn lapse(&self) {
        let mut state = self.state();
        if state.status == Status::Following {
            state.empty();
            state.status = Status::Behind;
        }
        drop(state);
        self.waker.wake();
    }

    /// Takes out what waits of a channel that is no longer wanted.
    pub(super) fn remove(&self, channel: &Channel) {
        let mut state = self.state();
        state.retain(|frame| frame.channel != *channel);
    }

    /// Takes out what waits of a timeline.
    pub(super) fn remove_news(&self) {
        self.state().retain(|frame| frame.kind == Kind::Message);
    }

    /// Any → closed.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.empty();
        state.status = Status::Closed;
        drop(state);
        self.waker.wake();
    }

    /// Whether it follows and everything put was taken.
    pub(super) fn is_drained(&self) -> bool {
        let state = self.state();
        state.status == Status::Following && state.queue.is_empty()
    }

    /// Whether it is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.state().status == Status::Closed
    }

    /// Takes what is next. One task at a time may wait. While it does, frames may go their own way, unless it `holds` the
    /// line.
    pub(super) fn poll_take(&self, context: &mut Context<'_>, holds: bool) -> Poll<Taken> {
        self.waker.register(context.waker());
        let mut state = self.state();
        match state.status {
            Status::Behind => Poll::Ready(Taken::Behind),
            Status::Closed => Poll::Ready(Taken::Closed),
            // Under the lock, so that what is put after a doubt is not taken before it: who waits here waits for the end of
            // its permits as well, and is woken by that.
            Status::Following if !state.queue.is_empty() && !self.is_settled() => Poll::Pending,
            Status::Following => match state.queue.pop_front() {
                Some(frame) => {
                    // It is told before what comes after it.
                    self.claim_line();
                    state.bytes -= frame.bytes.len();
                    if let Some(since) = state.since.take() {
                        self.delays.waits.observe(since.elapsed());
                    }
                    self.delays.committed(frame.committed_at.map(Micros::since_epoch), 1);
                    if state.queue.is_empty() && state.queue.capacity() > IDLE_CAPACITY_MAX {
                        state.queue = VecDeque::new();
                    }
                    Poll::Ready(Taken::Frame(frame))
                }
                None => {
                    if let Some(line) = self.own.line.as_ref().filter(|_| !holds)
                        && line.poll_release(context).is_ready()
                    {
                        // An error is found by who reads from the connection.
                        self.mark_waiting();
                    }
                    Poll::Pending
                }
            },
        }
    }

    /// The stream gave the connection something at this time.
    pub(super) fn mark_offered(&self, millis: u64) {
        self.offered_at.store(millis + 1, Ordering::Relaxed);
    }

    /// The connection waits for the stream.
    pub(super) fn mark_waiting(&self) {
        self.offered_at.store(0, Ordering::Relaxed);
    }

    /// Whether the connection has not come back for more since before this time.
    pub(super) fn is_stalled(&self, before_millis: u64) -> bool {
        let offered_at = self.offered_at.load(Ordering::Relaxed);
        offered_at != 0 && offered_at <= before_millis
    }

    /// Ends the stream although nobody takes from it.
    pub(super) fn cut(&self) {
        self.close();
        if let Some(cut) = &self.own.cut {
            cut.cancel();
        }
    }
}

impl State {
    fn retain(&mut self, is_wanted: impl Fn(&Frame) -> bool) {
        self.queue.retain(|frame| is_wanted(frame));
        self.bytes = self.queue.iter().map(|frame| frame.bytes.len()).sum();
    }

    fn empty(&mut self) {
        self.queue = VecDeque::new();
        self.bytes = 0;
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::task::noop_waker_ref;

    use super::*;

    fn frame(sequence: u64, length: usize) -> Arc<Frame> {
        of("a", sequence, length)
    }

    fn of(channel: &str, sequence: u64, length: usize) -> Arc<Frame> {
        let (channel, bytes) = (Channel::new(channel).unwrap(), Bytes::from(vec![b'x'; length]));
        let sequence = Some(Sequence(sequence));
        Arc::new(Frame { sequence, channel, bytes, kind: Kind::Message, committed_at: None })
    }

    fn bounds(queue_count_max: usize) -> Bounds {
        Bounds { queue_count_max, direct_bytes_max: 20 }
    }

    fn mailbox(queue_count_max: usize) -> Mailbox {
        Mailbox::new(Face::EventStream, bounds(queue_count_max), Own::default(), Arc::default())
    }

    fn take(mailbox: &Mailbox) -> Poll<Taken> {
        mailbox.poll_take(&mut Context::from_waker(noop_waker_ref()), false)
    }

    #[test]
    fn frames_come_out_in_order_until_there_are_none() {
        let mailbox = mailbox(4);
        mailbox.follow();
        mailbox.put(&frame(1, 1));
        mailbox.put(&frame(2, 1));
        assert_eq!(take(&mailbox), Poll::Ready(Taken::Frame(frame(1, 1))));
        assert!(!mailbox.is_drained());
        assert_eq!(take(&mailbox), Poll::Ready(Taken::Frame(frame(2, 1))));
        assert_eq!(take(&mailbox), Poll::Pending);
        assert!(mailbox.is_drained());
    }

    #[test]
    fn a_frame_too_many_empties_it_and_it_takes_no_more_until_it_follows_again() {
        let mailbox = mailbox(2);
        mailbox.follow();
        (1..=3).for_each(|sequence| mailbox.put(&frame(sequence, 1)));
        assert_eq!(take(&mailbox), Poll::Ready(Taken::Behind));
        mailbox.put(&frame(4, 1));
        assert_eq!(take(&mailbox), Poll::Ready(Taken::Behind));
        mailbox.follow();
        mailbox.put(&frame(5, 1));
        assert_eq!(take(&mailbox), Poll::Ready(Taken::Frame(frame(5, 1))));
    }

    #[test]
    fn bytes_are_bounded_but_one_frame_always_fits() {
        let mailbox = mailbox(100);
        mailbox.follow();
        mailbox.put(&frame(1, CONNECTION_QUEUE_BYTES_MAX + 1));
        assert!(matches!(take(&mailbox), Poll::Ready(Taken::Frame(_))));
        mailbox.put(&frame(2, CONNECTION_QUEUE_BYTES_MAX));
        mailbox.put(&frame(3, 1));
        assert_eq!(take(&mailbox), Poll::Ready(Taken::Behind));
    }

    #[test]
    fn what_waits_of_one_channel_goes_and_makes_room() {
        let mailbox = mailbox(100);
        mailbox.follow();
        mailbox.put(&of("a", 1, CONNECTION_QUEUE_BYTES_MAX));
        mailbox.remove(&Channel::new("a").unwrap());
        mailbox.put(&of("b", 2, CONNECTION_QUEUE_BYTES_MAX / 2));
        mailbox.put(&of("a", 3, 1));
        mailbox.put(&of("b", 4, 1));
        mailbox.remove(&Channel::new("a").unwrap());
        assert_eq!(take(&mailbox), Poll::Ready(Taken::Frame(of("b", 2, CONNECTION_QUEUE_BYTES_MAX / 2))));
        assert_eq!(take(&mailbox), Poll::Ready(Taken::Frame(of("b", 4, 1))));
        assert_eq!(take(&mailbox), Poll::Pending);
    }

    #[tokio::test]
    async fn a_message_does_not_overtake_what_was_taken_and_not_yet_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        let (_client, line) = (client.unwrap(), Line::new(accepted.unwrap().0));
        let own = Own { line: Some(line), ..Own::default() };
        let mailbox = Mailbox::new(Face::EventStream, bounds(4), own, Arc::default());
        mailbox.follow();
        assert_eq!(take(&mailbox), Poll::Pending);
        assert!(mailbox.give(&frame(1, 10), 0), "nothing waits, and the line is free");
        mailbox.put(&frame(2, 10));
        assert!(!mailbox.give(&frame(3, 10), 0), "something waits");
        assert_eq!(take(&mailbox), Poll::Ready(Taken::Frame(frame(2, 10))));
        assert_eq!(take(&mailbox), Poll::Ready(Taken::Frame(frame(3, 10))));
        assert!(!mailbox.give(&frame(4, 10), 0), "the third is not told yet");
        assert_eq!(take(&mailbox), Poll::Ready(Taken::Frame(frame(4, 10))));
        assert_eq!(take(&mailbox), Poll::Pending);
        assert!(!mailbox.give(&frame(5, 21), 0), "it is large");
        assert!(matches!(take(&mailbox), Poll::Ready(Taken::Frame(_))));
        assert_eq!(take(&mailbox), Poll::Pending);
        mailbox.permit(100, u64::MAX);
        assert!(mailbox.give(&frame(6, 10), 99));
        assert!(!mailbox.give(&frame(7, 10), 100), "the permit may have ended");
        assert_eq!(mailbox.written(), Sequence(6));
    }

    #[test]
    fn closed_is_for_good() {
        let mailbox = mailbox(2);
        mailbox.close();
        mailbox.follow();
        mailbox.put(&frame(1, 1));
        assert_eq!(take(&mailbox), Poll::Ready(Taken::Closed));
    }

    #[test]
    fn a_burst_leaves_no_room_behind() {
        let mailbox = mailbox(1_000);
        mailbox.follow();
        (0..1_000).for_each(|sequence| mailbox.put(&frame(sequence, 1)));
        while take(&mailbox).is_ready() {}
        assert!(mailbox.state().queue.capacity() <= IDLE_CAPACITY_MAX);
    }

    #[test]
    fn only_a_connection_that_does_not_come_back_is_stalled() {
        let mailbox = mailbox(2);
        assert!(!mailbox.is_stalled(u64::MAX));
        mailbox.mark_offered(100);
        assert!(mailbox.is_stalled(101));
        assert!(!mailbox.is_stalled(100));
        mailbox.mark_waiting();
        assert!(!mailbox.is_stalled(u64::MAX));
    }
}
