//! Channels, and what travels on them.
//!
//! Names are as short as `orders:42` and are made for every route: up to 23 bytes of them stand in place, without an
//! allocation and without a count that processors would fight over; longer ones are shared.

use std::fmt;

use bytes::Bytes;
use smol_str::SmolStr;

use crate::limits::CHANNEL_BYTES_MAX;

/// A live address, such as `orders` or `orders:42`: 1 to [`CHANNEL_BYTES_MAX`] bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(SmolStr);

/// Why a text is not the name of a channel.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum ChannelError {
    /// Nothing was given.
    #[error("a channel's name is empty")]
    Empty,
    /// The name is too long.
    #[error("a channel's name has {0} bytes, at most {CHANNEL_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A control character would break the framing of the wire.
    #[error("a channel's name has a control character")]
    Control,
}

impl Channel {
    /// A name of so many bytes needs no allocation.
    pub(crate) const IN_PLACE_BYTES_MAX: usize = 23;

    /// Checks a name.
    ///
    /// # Errors
    /// If the name is empty, too long, or has a control character.
    pub fn new(name: &str) -> Result<Self, ChannelError> {
        if name.is_empty() {
            return Err(ChannelError::Empty);
        }
        if name.len() > CHANNEL_BYTES_MAX {
            return Err(ChannelError::TooLong(name.len()));
        }
        if has_control(name) {
            return Err(ChannelError::Control);
        }
        Ok(Self(SmolStr::new(name)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a name has a control character, which would break the framing of the wire.
pub(crate) fn has_control(name: &str) -> bool {
    // Nearly every name is printable ASCII, and to look at all of its bytes is cheaper than to stop at the first.
    let printable = name.bytes().fold(true, |all, byte| all & matches!(byte, b' '..=b'~'));
    !printable && name.chars().any(char::is_control)
}

/// What travels on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// Its address.
    pub channel: Channel,
    /// Its kind, as the client sees it; without control characters, may be empty.
    pub event: SmolStr,
    /// UTF-8 text, as the client gets it.
    pub payload: Bytes,
    /// Whether it is kept for those who come back.
    pub retention: Retention,
}

/// Whether a message outlives the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retention {
    /// Kept in the history, with a sequence.
    Kept,
    /// For those who listen now; has no sequence.
    LiveOnly,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_a_bounded_name_without_control_characters() {
        assert!(Channel::new("orders:42").is_ok());
        assert_eq!(Channel::new(""), Err(ChannelError::Empty));
        assert_eq!(Channel::new("a\nb"), Err(ChannelError::Control));
        assert_eq!(Channel::new("a\u{85}b"), Err(ChannelError::Control));
        assert!(Channel::new("bestellungen:ä~").is_ok());
        assert_eq!(Channel::new("a\u{7f}b"), Err(ChannelError::Control));
        let long = "x".repeat(CHANNEL_BYTES_MAX + 1);
        assert_eq!(Channel::new(&long), Err(ChannelError::TooLong(CHANNEL_BYTES_MAX + 1)));
    }
    #[test]
    fn a_short_name_stands_in_place() {
        let short = "x".repeat(Channel::IN_PLACE_BYTES_MAX);
        assert!(!Channel::new(&short).unwrap().0.is_heap_allocated());
        assert!(Channel::new(&(short + "x")).unwrap().0.is_heap_allocated());
    }
}
