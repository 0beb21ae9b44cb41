//! The recent records of a partition, in memory, for readers that keep up.
//!
//! Invariant: gapless, ends with the partition's last durable record, within `LOG_TAIL_BYTES_MAX`.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::event::Offset;
use crate::log::Record;

/// What a record costs in memory beside its payload, roughly.
const RECORD_BYTES: usize = 64;

/// The recent records.
#[derive(Debug)]
pub(super) struct Tail {
    first: Offset,
    records: VecDeque<Bytes>,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    /// No records; the next one will be at `next`.
    pub(super) fn new(next: Offset, bytes_max: usize) -> Self {
        Self { first: next, records: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds a record, and forgets the oldest ones if there are too many.
    pub(super) fn push(&mut self, payload: Bytes) {
        self.bytes += payload.len() + RECORD_BYTES;
        self.records.push_back(payload);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.records.pop_front()
        {
            self.bytes -= oldest.len() + RECORD_BYTES;
            self.first = self.first.plus(1);
        }
    }

    /// Records from `from` on: at least one, or `None` if the first of them is not in memory.
    pub(super) fn read(&self, from: Offset, count_max: usize, bytes_max: usize) -> Option<Vec<Record>> {
        let skip = usize::try_from(from.0.checked_sub(self.first.0)?).ok()?;
        let mut records = Vec::with_capacity(self.records.len().saturating_sub(skip).min(count_max.max(1)));
        let mut bytes = 0;
        for (payload, number) in self.records.iter().skip(skip).zip(from.0..) {
            bytes += payload.len();
            records.push(Record { offset: Offset(number), payload: payload.clone() });
            if records.len() >= count_max || bytes >= bytes_max {
                break;
            }
        }
        (!records.is_empty()).then_some(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_records_make_room_for_new_ones() {
        let mut tail = Tail::new(Offset(5), 3 * (RECORD_BYTES + 1));
        for payload in ["a", "b", "c", "d"] {
            tail.push(payload.into());
        }
        assert_eq!(tail.read(Offset(5), 9, 9), None);
        let read = tail.read(Offset(6), 2, 9).expect("offset 6 is in memory");
        assert_eq!(read.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [6, 7]);
        assert_eq!(read[0].payload, "b");
        assert_eq!(tail.read(Offset(9), 9, 9), None);
    }

    #[test]
    fn a_record_larger_than_the_memory_is_not_kept() {
        let mut tail = Tail::new(Offset(0), 100);
        tail.push(vec![0; 200].into());
        assert_eq!(tail.read(Offset(0), 1, 1), None);
        tail.push("a".into());
        assert_eq!(tail.read(Offset(1), 1, 1).map(|records| records.len()), Some(1));
    }
}
