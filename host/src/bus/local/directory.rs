//! Which kept message belongs to which channel, in memory: four bytes a message, and each channel's name once.
//!
//! In: the channels of kept messages in the order of their sequences. Out: sequences of some channels; names.
//!
//! An index on disk costs a page for every other message, since channels come at random: it made batches of 512
//! messages two to four times as dear (`docs/decisions/embedded-store.md`). A look for a few channels runs over
//! what a client has missed, at about a nanosecond a message.
//!
//! Invariant: it holds exactly the sequences above the floor up to the head, and exactly their channels' names.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};

use crate::event::{Channel, Sequence};

#[derive(Default)]
pub(super) struct Directory {
    floor: Sequence,
    /// The channel's number of each message from the floor on.
    numbers: VecDeque<u32>,
    by_name: BTreeMap<Channel, u32>,
    by_number: Vec<Entry>,
    /// Numbers that are free again.
    free: Vec<u32>,
}

#[derive(Default)]
struct Entry {
    name: Option<Channel>,
    count: u32,
}

/// Channels as a search knows them: sorted numbers.
pub(super) struct Wanted(Vec<u32>);

impl Directory {
    pub(super) fn new(floor: Sequence) -> Self {
        Self { floor, ..Self::default() }
    }

    /// Takes the message after the last one.
    pub(super) fn push(&mut self, channel: &Channel) {
        let number = match self.by_name.get(channel) {
            Some(number) => *number,
            None => self.number(channel),
        };
        self.by_number[number as usize].count += 1;
        self.numbers.push_back(number);
    }

    fn number(&mut self, channel: &Channel) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.by_number.push(Entry::default());
            u32::try_from(self.by_number.len() - 1).expect("there are fewer channels than messages in memory")
        });
        // A name that stays for hours must not keep the whole answer of a plugin that it was a part of.
        let channel = channel.own();
        self.by_number[number as usize].name = Some(channel.clone());
        self.by_name.insert(channel, number);
        number
    }

    /// Forgets what retention has removed.
    pub(super) fn forget(&mut self, floor: Sequence) {
        while self.floor < floor {
            let Some(number) = self.numbers.pop_front() else { return };
            self.floor.0 += 1;
            let entry = &mut self.by_number[number as usize];
            entry.count -= 1;
            if entry.count == 0
                && let Some(name) = entry.name.take()
            {
                self.by_name.remove(&name);
                self.free.push(number);
            }
        }
    }

    fn head(&self) -> Sequence {
        Sequence(self.floor.0 + self.numbers.len() as u64)
    }

    /// What to search for; good for as long as the directory does not change.
    pub(super) fn wanted(&self, channels: &[Channel]) -> Wanted {
        let mut numbers: Vec<u32> =
            channels.iter().filter_map(|channel| self.by_name.get(channel).copied()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Wanted(numbers)
    }

    /// Adds sequences after `after` that are wanted to `found`, until there are `count_max` or `look_max` messages
    /// were looked at. Returns where to go on, `None` at the end.
    pub(super) fn find(
        &self,
        wanted: &Wanted,
        after: Sequence,
        count_max: usize,
        look_max: usize,
        found: &mut Vec<Sequence>,
    ) -> Option<Sequence> {
        let first = after.max(self.floor);
        if wanted.0.is_empty() || first >= self.head() || found.len() >= count_max {
            return None;
        }
        let skip = usize::try_from(first.0 - self.floor.0).ok()?;
        let mut cursor = first;
        for number in self.numbers.range(skip..).take(look_max) {
            cursor.0 += 1;
            if wanted.contains(*number) {
                found.push(cursor);
                if found.len() >= count_max {
                    return None;
                }
            }
        }
        (cursor < self.head()).then_some(cursor)
    }

    /// Names with a prefix, in order, after a name. The server's own, which stand beside each other, are for nobody.
    pub(super) fn names(&self, prefix: &str, after: &str, count_max: usize) -> Vec<Channel> {
        let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let Range { start, end } = Channel::RESERVED_NAMES;
        let is_below = prefix.max(after) < start;
        let below = is_below.then(|| self.by_name.range::<str, _>((from, Bound::Excluded(start))));
        let from = if prefix.max(after) < end { Bound::Included(end) } else { from };
        let above = self.by_name.range::<str, _>((from, Bound::Unbounded));
        let names = below.into_iter().flatten().chain(above).map(|(name, _)| name);
        names.take_while(|name| name.as_str().starts_with(prefix)).take(count_max).cloned().collect()
    }
}

impl Wanted {
    fn contains(&self, number: u32) -> bool {
        match *self.0 {
            [one] => one == number,
            [one, other] => one == number || other == number,
            _ => self.0.binary_search(&number).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::new(name).unwrap()
    }

    fn directory(floor: u64, names: &str) -> Directory {
        let mut directory = Directory::new(Sequence(floor));
        names.split(' ').for_each(|name| directory.push(&channel(name)));
        directory
    }

    fn find(directory: &Directory, names: &str, after: u64, count_max: usize) -> Vec<u64> {
        let wanted = directory.wanted(&names.split(' ').map(channel).collect::<Vec<_>>());
        let (mut found, mut cursor) = (vec![], Some(Sequence(after)));
        while let Some(after) = cursor {
            cursor = directory.find(&wanted, after, count_max, 2, &mut found);
        }
        found.iter().map(|sequence| sequence.0).collect()
    }

    #[test]
    fn sequences_of_channels_are_found_stretch_by_stretch() {
        let directory = directory(10, "a b c a b c a");
        assert_eq!(find(&directory, "a", 0, 9), [11, 14, 17]);
        assert_eq!(find(&directory, "c a", 11, 9), [13, 14, 16, 17]);
        assert_eq!(find(&directory, "c a b", 11, 2), [12, 13]);
        assert!(find(&directory, "never", 0, 9).is_empty());
        assert!(find(&directory, "a", 17, 9).is_empty());
        assert!(find(&directory, "a", 99, 9).is_empty());
        assert!(find(&directory, "a", 0, 0).is_empty());
    }

    #[test]
    fn a_name_does_not_keep_the_answer_that_it_was_a_part_of() {
        let answer: std::sync::Arc<str> = "orders:1,orders:2".into();
        let mut directory = Directory::new(Sequence(0));
        directory.push(&Channel::part_of(answer.clone(), 0..8));
        assert_eq!(directory.names("", "", 9), [channel("orders:1")]);
        assert_eq!(std::sync::Arc::strong_count(&answer), 1);
    }

    #[test]
    fn a_name_goes_with_its_last_message_and_its_number_is_used_again() {
        let mut directory = directory(0, "a b a c");
        directory.forget(Sequence(2));
        assert_eq!(directory.names("", "", 9), [channel("a"), channel("c")]);
        assert_eq!(find(&directory, "a b", 0, 9), [3]);
        directory.push(&channel("d"));
        assert_eq!(directory.by_number.len(), 3);
        assert_eq!(find(&directory, "d", 0, 9), [5]);
        directory.forget(Sequence(5));
        assert!(directory.names("", "", 9).is_empty());
        assert!(find(&directory, "a b c d", 0, 9).is_empty());
    }
}
