//! Names of channels and events that come again and again, shared instead of copied.
//!
//! Invariant: bounded (a slot holds the name that came last), and the names are checked: what comes out is valid.

use std::sync::Arc;

use crate::event::{Channel, ChannelError};
use crate::limits::{EVENT_BYTES_MAX, NAMES_REMEMBERED_COUNT};

/// The names that came last.
#[derive(Debug)]
pub(super) struct Names {
    channels: Box<[Option<Channel>]>,
    events: Box<[Option<Arc<str>>]>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            channels: vec![None; NAMES_REMEMBERED_COUNT].into(),
            events: vec![None; NAMES_REMEMBERED_COUNT].into(),
        }
    }
}

impl Names {
    /// # Errors
    /// If it is not the name of a channel.
    pub(super) fn channel(&mut self, name: &str) -> Result<Channel, ChannelError> {
        let slot = &mut self.channels[slot_of(name)];
        match slot {
            Some(channel) if channel.as_str() == name => Ok(channel.clone()),
            _ => Ok(slot.insert(Channel::new(name)?).clone()),
        }
    }

    /// Nothing, if it is not the name of an event.
    pub(super) fn event(&mut self, name: &str) -> Option<Arc<str>> {
        let slot = &mut self.events[slot_of(name)];
        match slot {
            Some(event) if **event == *name => Some(event.clone()),
            _ if name.len() > EVENT_BYTES_MAX || name.chars().any(char::is_control) => None,
            _ => Some(slot.insert(name.into()).clone()),
        }
    }
}

/// FNV-1a: the names are short, and who crafts names that meet in a slot only makes his own plugin slower.
fn slot_of(name: &str) -> usize {
    const { assert!(NAMES_REMEMBERED_COUNT.is_power_of_two()) };
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    usize::try_from(hash >> 32).expect("32 bits fit") & (NAMES_REMEMBERED_COUNT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_again_is_shared() {
        let mut names = Names::default();
        let first = names.event("insert").expect("it is valid");
        let second = names.event("insert").expect("it is valid");
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(names.channel("orders").expect("it is valid").as_str(), "orders");
        assert_eq!(names.channel("orders").expect("it is valid").as_str(), "orders");
    }

    #[test]
    fn names_that_are_not_valid_are_refused_each_time() {
        let mut names = Names::default();
        for _ in 0..2 {
            assert_eq!(names.event("a\nb"), None);
            assert_eq!(names.event(&"x".repeat(EVENT_BYTES_MAX + 1)), None);
            assert_eq!(names.channel(""), Err(ChannelError::Empty));
        }
        assert_eq!(names.event("").as_deref(), Some(""));
    }
}
