//! Where rows of a snapshot stand among the changes of the stream.
//!
//! In: how far the stream is. Out: positions, each greater than all before it and smaller than all that the stream will
//! bring.
//!
//! Invariant: such a position is at a place where no record of the server's log can begin, right before where the next
//! one can: records are aligned to eight bytes. So no change of the stream shares it, and the stream is resumed from it
//! like from any other. A message without a transaction, which has no commit record, stands there as the first.

use crate::event::Position;

/// Records of the server's log begin at multiples of this.
const RECORD_ALIGNMENT: u64 = 8;

/// The last place before a record that begins at `end` or later.
pub(in super::super) fn before(end: u64) -> u64 {
    (end - end % RECORD_ALIGNMENT).saturating_sub(1)
}

/// Whether no change of the stream stands there.
pub(in super::super) fn is_between(position: Position) -> bool {
    position.commit % RECORD_ALIGNMENT == RECORD_ALIGNMENT - 1
}

/// Index 0 is for a message without a transaction, which ends where the next record begins.
const FIRST_INDEX: u32 = 1;

/// The next position of a row.
#[derive(Debug)]
pub(super) struct Place {
    next: Option<Position>,
    passed: u64,
}

impl Place {
    /// After the log's last position, where the stream will bring no commit before `start`. It is not known where the
    /// log may have a part of a transaction that the stream has yet to complete.
    pub(super) fn begin(after: Option<Position>, start: u64) -> Self {
        let first = Position { commit: before(start), index: FIRST_INDEX };
        let next = match after {
            Some(after) if is_between(after) && after.commit >= first.commit => following(after),
            Some(after) if after >= first => None,
            Some(_) | None => Some(first),
        };
        Self { next, passed: start }
    }

    /// Everything that committed before `end` has been brought.
    pub(super) fn pass(&mut self, end: u64, after: Option<Position>) {
        self.passed = self.passed.max(end);
        let first = Position { commit: before(end), index: FIRST_INDEX };
        let is_new = self.next.is_none_or(|next| next.commit < first.commit);
        if is_new && after.is_none_or(|after| after < first) {
            self.next = Some(first);
        }
    }

    /// Up to where everything has been brought.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether there are positions for a chunk and what is told of it. If not, the stream has to go on first, which it
    /// does.
    pub(super) fn has_room(&self) -> bool {
        self.next.is_some_and(|next| next.index < u32::MAX / 2)
    }

    /// Takes the next one.
    ///
    /// # Panics
    /// If there is no room.
    pub(super) fn take(&mut self) -> Position {
        let taken = self.next.expect("there is room for a chunk");
        self.next = following(taken);
        taken
    }
}

/// None past the largest index.
fn following(position: Position) -> Option<Position> {
    Some(Position { index: position.index.checked_add(1)?, ..position })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(commit: u64, index: u32) -> Position {
        Position { commit, index }
    }

    #[test]
    fn rows_stand_after_what_the_stream_brought_and_before_what_comes() {
        let mut place = Place::begin(None, 0x100);
        assert_eq!([place.take(), place.take()], [at(0xFF, 1), at(0xFF, 2)]);
        place.pass(0x100, None);
        assert_eq!(place.take(), at(0xFF, 3), "the stream is where it was");
        place.pass(0x123, None);
        assert_eq!(place.take(), at(0x11F, 1), "a record that ends in the midst of eight bytes began before");
    }

    #[test]
    fn a_position_of_a_row_is_gone_on_from_and_one_of_a_transaction_waits_for_its_end() {
        assert_eq!(Place::begin(Some(at(0xFF, 7)), 0x100).take(), at(0xFF, 8));
        let late = Place::begin(Some(at(0x1FF, 7)), 0x100).take();
        assert_eq!(late, at(0x1FF, 8), "the server learned late of what was read");
        let after = Some(at(0x200, 7));
        let mut place = Place::begin(after, 0x100);
        assert!(!place.has_room());
        place.pass(0x180, after);
        assert!(!place.has_room(), "that was appended before");
        place.pass(0x228, after);
        assert_eq!(place.take(), at(0x227, 1));
        assert_eq!(Place::begin(after, 0x228).take(), at(0x227, 1));
        assert!(!Place::begin(Some(at(0xFF, u32::MAX)), 0x100).has_room());
    }
}
