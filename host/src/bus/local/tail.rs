//! The newest messages, in memory, so that a follower that keeps up never touches the disk.
//!
//! In: kept messages in the order of their sequences. Out: those after a sequence.
//!
//! Invariants: sequences are contiguous and end at the head; bytes stay below the limit, but for the one newest
//! message, which is always there.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bus::Kept;
use crate::event::Sequence;

pub(super) struct Tail {
    kept: VecDeque<Arc<Kept>>,
    head: Sequence,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    pub(super) fn new(head: Sequence, bytes_max: usize) -> Self {
        Self { kept: VecDeque::new(), head, bytes: 0, bytes_max }
    }

    pub(super) fn push(&mut self, kept: Arc<Kept>) {
        debug_assert_eq!(kept.sequence.0, self.head.0 + 1, "sequences have no gaps");
        self.head = kept.sequence;
        self.bytes += bytes(&kept);
        self.kept.push_back(kept);
        while self.bytes > self.bytes_max && self.kept.len() > 1 {
            self.pop();
        }
    }

    /// Forgets what retention has removed.
    pub(super) fn forget(&mut self, floor: Sequence) {
        while self.kept.front().is_some_and(|kept| kept.sequence <= floor) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(kept) = self.kept.pop_front() {
            self.bytes -= bytes(&kept);
        }
    }

    /// Everything after a sequence; `None` if the tail does not reach back to it.
    pub(super) fn after(&self, after: Sequence) -> Option<impl Iterator<Item = &Arc<Kept>>> {
        let missing = self.head.0.saturating_sub(after.0);
        let skip = usize::try_from((self.kept.len() as u64).checked_sub(missing)?).ok()?;
        Some(self.kept.range(skip..))
    }

    /// The messages of some sequences, in ascending order; `None` if the tail does not reach back to the first.
    pub(super) fn at(&self, sequences: &[Sequence]) -> Option<Vec<Arc<Kept>>> {
        let front = self.head.0 + 1 - self.kept.len() as u64;
        let at = |sequence: &Sequence| {
            let index = usize::try_from(sequence.0.checked_sub(front)?).ok()?;
            self.kept.get(index).cloned()
        };
        sequences.iter().map(at).collect()
    }

    pub(super) fn head(&self) -> Sequence {
        self.head
    }
}

/// About what a message takes, its bookkeeping included.
fn bytes(kept: &Kept) -> usize {
    size_of::<Kept>() + kept.message.channel.as_str().len() + kept.message.payload.len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{Channel, Form, Message, Retention};

    fn kept(sequence: u64) -> Arc<Kept> {
        let message = Message {
            channel: Channel::new("orders").unwrap(),
            event: "".into(),
            payload: Bytes::from(vec![b'x'; 1_000]),
            form: Form::Text,
            retention: Retention::Kept,
        };
        Arc::new(Kept { sequence: Sequence(sequence), message, committed_at: None })
    }

    fn sequences(tail: &Tail, after: u64) -> Option<Vec<u64>> {
        tail.after(Sequence(after)).map(|kept| kept.map(|kept| kept.sequence.0).collect())
    }

    #[test]
    fn a_tail_reaches_back_as_far_as_its_bytes_allow() {
        let mut tail = Tail::new(Sequence(7), 3_500);
        assert_eq!(sequences(&tail, 7), Some(vec![]));
        assert_eq!(sequences(&tail, 6), None);
        for sequence in 8..=12 {
            tail.push(kept(sequence));
        }
        assert_eq!(sequences(&tail, 8), None);
        assert_eq!(sequences(&tail, 9), Some(vec![10, 11, 12]));
        assert_eq!(sequences(&tail, 11), Some(vec![12]));
        assert_eq!(sequences(&tail, 12), Some(vec![]));
        assert_eq!(sequences(&tail, 99), Some(vec![]));
    }

    #[test]
    fn a_tail_forgets_what_retention_removed() {
        let mut tail = Tail::new(Sequence(0), 1 << 20);
        for sequence in 1..=4 {
            tail.push(kept(sequence));
        }
        tail.forget(Sequence(3));
        assert_eq!(sequences(&tail, 2), None);
        assert_eq!(sequences(&tail, 3), Some(vec![4]));
        tail.forget(Sequence(4));
        assert_eq!(sequences(&tail, 4), Some(vec![]));
        assert_eq!(tail.bytes, 0);
    }

    #[test]
    fn the_newest_message_stays_however_large() {
        let mut tail = Tail::new(Sequence(0), 10);
        tail.push(kept(1));
        tail.push(kept(2));
        assert_eq!(sequences(&tail, 1), Some(vec![2]));
    }
}
