//! Long names of channels that come again and again, shared instead of copied.
//!
//! Invariant: bounded (a slot holds the name that came last), and the names are checked: what comes out is valid.

use crate::event::{Channel, ChannelError};
use crate::limits::NAMES_REMEMBERED_COUNT;

/// The names that came last.
#[derive(Debug)]
pub(super) struct Names(Box<[Slot]>);

/// Keeps a channel when it comes for the second time: most names of rows come once, and keeping those costs.
#[derive(Debug, Clone, Default)]
struct Slot {
    kept: Option<Channel>,
    /// The hash of the last name that was not kept.
    seen: u64,
}

impl Default for Names {
    fn default() -> Self {
        Self(vec![Slot::default(); NAMES_REMEMBERED_COUNT].into())
    }
}

impl Names {
    /// # Errors
    /// If it is not the name of a channel.
    pub(super) fn channel(&mut self, name: &str) -> Result<Channel, ChannelError> {
        // A short one stands in place: there is nothing to share.
        if name.len() <= Channel::IN_PLACE_BYTES_MAX { Channel::new(name) } else { self.shared(name) }
    }

    fn shared(&mut self, name: &str) -> Result<Channel, ChannelError> {
        let hash = hash(name);
        let slot = &mut self.0[slot_of(hash)];
        match &slot.kept {
            Some(channel) if channel.as_str() == name => Ok(channel.clone()),
            _ => {
                let channel = Channel::new(name)?;
                if slot.seen == hash {
                    slot.kept = Some(channel.clone());
                }
                slot.seen = hash;
                Ok(channel)
            }
        }
    }
}

fn slot_of(hash: u64) -> usize {
    const { assert!(NAMES_REMEMBERED_COUNT.is_power_of_two() && NAMES_REMEMBERED_COUNT <= 1 << 16) };
    usize::try_from(hash >> 48).expect("16 bits fit") & (NAMES_REMEMBERED_COUNT - 1)
}

/// Of the length, the first and the last bytes alone, whatever the length. Who crafts names that meet in a slot only
/// makes his own plugin slower.
fn hash(name: &str) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let bytes = name.as_bytes();
    let (first, last) = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => bytes.iter().fold((0, 0), |(all, last), byte| (all << 8 | u64::from(*byte), last)),
    };
    let mixed = (first ^ (bytes.len() as u64) << 56).wrapping_mul(ODD) ^ last;
    (mixed ^ mixed >> 32).wrapping_mul(ODD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_that_comes_again_is_shared() {
        let mut names = Names::default();
        let name = "a_table_with_a_long_name:42";
        let channels: Vec<_> = (0..4).map(|_| names.channel(name).expect("it is valid")).collect();
        assert!(channels.iter().all(|channel| channel.as_str() == name));
        let places: Vec<_> = channels.iter().map(|channel| channel.as_str().as_ptr()).collect();
        assert_eq!(places[1..3], places[2..4]);
    }

    #[test]
    fn names_that_meet_in_a_slot_are_not_confused() {
        let mut names = Names::default();
        for number in 0..10 * NAMES_REMEMBERED_COUNT {
            for name in [
                format!("a_table_with_a_long_name:{number}:shipped"),
                format!("a_table_with_a_long_name:{}", number % 7),
                format!("{number}"),
            ] {
                assert_eq!(names.channel(&name).expect("it is valid").as_str(), name);
            }
        }
    }

    #[test]
    fn names_that_are_not_valid_are_refused_each_time() {
        let mut names = Names::default();
        for _ in 0..3 {
            assert_eq!(names.channel(""), Err(ChannelError::Empty));
            assert_eq!(names.channel(&"a\nb".repeat(9)), Err(ChannelError::Control));
        }
    }
}
