//! What the server hears from us while a stream runs: a task of its own, so that nothing that the reader waits for (a
//! full change log, a disk, a query) can make the server give us up.
//!
//! In: places that are safe. Out: status messages, at least one each [`SOURCE_STATUS_INTERVAL`], and after each new
//! place within [`SOURCE_CONFIRM_INTERVAL`].
//!
//! Invariant: at most one answer is asked for that has not come. So while nobody reads, none pile up; and while
//! somebody does, the server says at least once an interval how far it has sent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::limits::{SOURCE_CONFIRM_INTERVAL, SOURCE_STATUS_INTERVAL};

/// From the Unix epoch to PostgreSQL's, in seconds.
const EPOCH: u64 = 946_684_800;

/// The way to the server while a stream runs. Dropping it cuts it.
pub(in super::super) struct Feedback {
    place: watch::Sender<Place>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// Up to where everything is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Upto(u64),
    /// And no more will be.
    Last(u64),
}

struct Shared {
    /// The server has said something since it was last asked.
    heard: AtomicBool,
    /// The server wants to hear from us now.
    wanted: Notify,
}

impl Feedback {
    /// Begins, with a place that is safe already.
    pub(in super::super) fn begin(writer: impl AsyncWrite + Unpin + Send + 'static, place: u64) -> Self {
        Self::every(SOURCE_STATUS_INTERVAL, SOURCE_CONFIRM_INTERVAL, writer, place)
    }

    fn every(
        status: Duration,
        confirm: Duration,
        writer: impl AsyncWrite + Unpin + Send + 'static,
        place: u64,
    ) -> Self {
        let (sender, receiver) = watch::channel(Place::Upto(place));
        let shared = Arc::new(Shared { heard: AtomicBool::new(true), wanted: Notify::new() });
        let told = shared.clone();
        let task = tokio::spawn(async move {
            // A connection that broke is known to who reads from it.
            drop(tell(status, confirm, writer, receiver, &told).await);
        });
        Self { place: sender, shared, task }
    }

    /// Everything before this place is safe.
    pub(in super::super) fn confirm(&self, place: u64) {
        self.place.send_replace(Place::Upto(place));
    }

    /// The server has said something.
    pub(in super::super) fn heard(&self) {
        self.shared.heard.store(true, Ordering::Relaxed);
    }

    /// The server wants to hear from us now.
    pub(in super::super) fn answer(&self) {
        self.shared.wanted.notify_one();
    }

    /// Tells the last place and ends our half of the stream; returns once that is on its way.
    pub(in super::super) async fn end(&mut self) {
        self.place.send_modify(|place| {
            let (Place::Upto(at) | Place::Last(at)) = *place;
            *place = Place::Last(at);
        });
        // It ended by itself, or the connection is broken.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Feedback {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tell(
    status: Duration,
    confirm: Duration,
    mut writer: impl AsyncWrite + Unpin,
    mut place: watch::Receiver<Place>,
    shared: &Shared,
) -> io::Result<()> {
    let mut told = None;
    let mut told_at = Instant::now();
    loop {
        let now = *place.borrow_and_update();
        let interval = if told == Some(now) { status } else { confirm };
        let is_due = told.is_none() || matches!(now, Place::Last(_));
        if !is_due {
            tokio::select! {
                () = sleep_until(told_at + interval) => {}
                () = shared.wanted.notified() => {}
                changed = place.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    continue;
                }
            }
        }
        // What came while we waited.
        let now = *place.borrow_and_update();
        let (Place::Upto(at) | Place::Last(at)) = now;
        let ask = shared.heard.swap(false, Ordering::Relaxed);
        let mut out = BytesMut::new();
        frontend::CopyData::new(&message(at, ask)[..])?.write(&mut out);
        if matches!(now, Place::Last(_)) {
            frontend::copy_done(&mut out);
        }
        writer.write_all(&out).await?;
        writer.flush().await?;
        if matches!(now, Place::Last(_)) {
            return Ok(());
        }
        (told, told_at) = (Some(now), Instant::now());
    }
}

/// "Standby status update": written, flushed and applied are one to us.
fn message(place: u64, ask: bool) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - EPOCH.cast_signed() * 1_000_000;
    let mut out = Vec::with_capacity(34);
    out.put_u8(b'r');
    for _ in 0..3 {
        out.put_u64(place);
    }
    out.put_i64(micros);
    out.put_u8(u8::from(ask));
    out
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    /// The place of the next status, and whether it asks for an answer.
    async fn next(server: &mut DuplexStream) -> (u64, bool) {
        let mut frame = [0; 39];
        server.read_exact(&mut frame).await.expect("a status comes");
        assert_eq!((frame[0], frame[5]), (b'd', b'r'));
        let place = u64::from_be_bytes(frame[14..22].try_into().expect("eight bytes"));
        (place, frame[38] == 1)
    }

    const SOON: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn the_server_hears_from_us_while_nobody_reads_and_is_asked_once() {
        let (client, mut server) = duplex(1 << 16);
        let feedback = Feedback::every(SOON, NEVER, client, 7);
        assert_eq!(next(&mut server).await, (7, true));
        for _ in 0..100 {
            assert_eq!(next(&mut server).await, (7, false), "its answer has not been read");
        }
        feedback.heard();
        while next(&mut server).await != (7, true) {}
    }

    #[tokio::test]
    async fn a_new_place_is_told_before_the_next_sign_of_life() {
        let (client, mut server) = duplex(1 << 16);
        let feedback = Feedback::every(NEVER, SOON, client, 7);
        assert_eq!(next(&mut server).await.0, 7);
        feedback.confirm(9);
        assert_eq!(next(&mut server).await.0, 9);
    }

    #[tokio::test]
    async fn a_server_that_wants_to_hear_from_us_does_at_once() {
        let (client, mut server) = duplex(1 << 16);
        let feedback = Feedback::every(NEVER, NEVER, client, 7);
        assert_eq!(next(&mut server).await.0, 7);
        feedback.confirm(9);
        feedback.answer();
        assert_eq!(next(&mut server).await.0, 9);
    }

    #[tokio::test]
    async fn the_last_place_is_told_before_the_end() {
        let (client, mut server) = duplex(1 << 16);
        let mut feedback = Feedback::every(NEVER, NEVER, client, 7);
        feedback.confirm(9);
        feedback.end().await;
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.expect("it ended");
        let (status, done) = all.split_at(all.len() - 5);
        assert_eq!(done, [b'c', 0, 0, 0, 4]);
        assert_eq!(status[status.len() - 39 + 14..][..8], 9_u64.to_be_bytes());
    }
}
