//! Channels, and what travels on them.
//!
//! A policy names two of them and an event for every change, so names are made without an allocation where that can
//! be: channels named in one text share it, and the events that everybody uses are static.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytes::Bytes;

use super::Operation;
use super::change::{span, span_range};
use crate::limits::{CHANNEL_BYTES_MAX, EVENT_BYTES_MAX};

/// A live address, such as `orders` or `orders:42`: 1 to [`CHANNEL_BYTES_MAX`] bytes without control characters.
#[derive(Clone)]
pub struct Channel {
    /// A text that has the name in it.
    text: Arc<str>,
    /// Where: `start | length << 32`. One number, since two would be written apart and then read as one.
    span: u64,
}

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
    /// The name is for what the server tells itself.
    #[error("a channel's name begins with `$`: such names are the server's own")]
    Reserved,
}

/// How names begin that nobody can ask for or publish to: the server's own, by which its history carries what is no
/// message of a channel yet.
const RESERVED: char = '$';

impl Channel {
    /// Checks a name, and copies it.
    ///
    /// # Errors
    /// If the name is empty, too long, or has a control character.
    pub fn new(name: &str) -> Result<Self, ChannelError> {
        Self::check(name)?;
        Ok(Self::part_of(name.into(), 0..name.len()))
    }

    /// What [`Channel::new`] checks.
    pub(crate) fn check(name: &str) -> Result<(), ChannelError> {
        Self::check_printable(name)?;
        if has_control(name) { Err(ChannelError::Control) } else { Ok(()) }
    }

    /// The same, for a name that stands in a text which is printable.
    pub(crate) fn check_printable(name: &str) -> Result<(), ChannelError> {
        match name.len() {
            0 => Err(ChannelError::Empty),
            1..=CHANNEL_BYTES_MAX if name.starts_with(RESERVED) => Err(ChannelError::Reserved),
            1..=CHANNEL_BYTES_MAX => Ok(()),
            length => Err(ChannelError::TooLong(length)),
        }
    }

    /// The channel named in that part of a text, which it keeps. The caller has checked the name.
    pub(crate) fn part_of(text: Arc<str>, part: Range<usize>) -> Self {
        debug_assert!(matches!(Self::check(&text[part.clone()]), Ok(()) | Err(ChannelError::Reserved)));
        assert!(part.end <= u32::MAX as usize, "texts with names in them are short");
        Self { text, span: span(part.start, part.len()) }
    }

    /// Where the server's own stand among all names.
    pub(crate) const RESERVED_NAMES: Range<&str> = "$".."%";

    /// One of the server's own, by its name without the sign.
    pub(crate) fn reserved(name: &str) -> Self {
        let text: Arc<str> = format!("{RESERVED}{name}").into();
        let length = text.len();
        Self::part_of(text, 0..length)
    }

    /// Which of the server's own it is, if it is one.
    pub(crate) fn as_reserved(&self) -> Option<&str> {
        self.as_str().strip_prefix(RESERVED)
    }

    /// A name as it was kept: one of the server's own as well.
    ///
    /// # Errors
    /// See [`Channel::new`].
    pub(crate) fn kept(name: &str) -> Result<Self, ChannelError> {
        name.strip_prefix(RESERVED).map_or_else(|| Self::new(name), |own| Ok(Self::reserved(own)))
    }

    /// The same channel in a text of its own, for who keeps it longer than the others of its text.
    #[must_use]
    pub(crate) fn own(&self) -> Self {
        Self::part_of(self.as_str().into(), 0..self.as_str().len())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text[span_range(self.span)]
    }
}

/// Whether a name has a control character, which would break the framing of the wire.
pub(crate) fn has_control(name: &str) -> bool {
    !is_printable(name) && name.chars().any(char::is_control)
}

/// Whether a text is printable ASCII, as nearly all names are.
pub(crate) fn is_printable(text: &str) -> bool {
    // To look at all bytes, many at once, is cheaper than to stop at the first.
    text.bytes().fold(true, |all, byte| all & matches!(byte, b' '..=b'~'))
}

impl PartialEq for Channel {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Channel {}

impl PartialOrd for Channel {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Channel {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// As its name hashes, which stands for it in maps.
impl Hash for Channel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl std::borrow::Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.as_str()).finish()
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kind of a message, as the client sees it.
#[derive(Clone)]
pub struct EventName(Name);

#[derive(Clone)]
enum Name {
    Known(&'static str),
    Other(Arc<str>),
}

/// Why a text is not the name of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// It would break the framing of the wire, or is too long.
    #[error("the name of an event has at most {EVENT_BYTES_MAX} bytes and no control characters")]
    Form,
    /// The gateway says it by itself.
    #[error("no event is called `{RESET_EVENT}` or `{REFUSED_EVENT}`: the gateway says these by itself")]
    Reserved,
}

/// What a client is told when it has missed messages: the gateway's own, and no policy's.
pub(crate) const RESET_EVENT: &str = "reset";
/// The event by which the gateway says that a client may listen no longer.
pub(crate) const REFUSED_EVENT: &str = "refused";
/// The event by which the gateway says who comes and goes.
pub(crate) const PRESENCE_EVENT: &str = "presence";

impl EventName {
    /// Checks the name of an event that others chose; it may be empty.
    ///
    /// # Errors
    /// If it is too long, has a control character, or is the gateway's own.
    pub(crate) fn check(name: &str) -> Result<(), EventError> {
        match name {
            _ if name.len() > EVENT_BYTES_MAX || has_control(name) => Err(EventError::Form),
            RESET_EVENT | REFUSED_EVENT | PRESENCE_EVENT => Err(EventError::Reserved),
            _ => Ok(()),
        }
    }
}

impl From<&str> for EventName {
    fn from(name: &str) -> Self {
        match Operation::NAMES.into_iter().find(|known| *known == name) {
            Some(known) => Self(Name::Known(known)),
            None => Self(Name::Other(name.into())),
        }
    }
}

impl Deref for EventName {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Name::Known(name) => name,
            Name::Other(name) => name,
        }
    }
}

impl PartialEq for EventName {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for EventName {}

impl Hash for EventName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What travels on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// Its address.
    pub channel: Channel,
    /// Its kind; without control characters, may be empty.
    pub event: EventName,
    /// UTF-8 text, as the client gets it.
    pub payload: Bytes,
    /// What the text is.
    pub form: Form,
    /// For whom it is kept.
    pub retention: Retention,
}

/// What the text of a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A JSON document, checked.
    Json,
    /// Any text.
    Text,
    /// Base64 (RFC 4648, section 4) of bytes.
    Base64,
}

/// Whether a message outlives the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retention {
    /// Kept in the history, with a sequence.
    Kept,
    /// For those who listen now; has no sequence.
    LiveOnly,
    /// Kept, and the channel's value from now on, which those who come new get first.
    Value,
    /// Kept, and the channel has no value from now on.
    Forget,
}

impl Retention {
    /// What two routes say who mean one message: to keep goes before not to, and of two words about the channel's value
    /// the later counts.
    #[must_use]
    pub(crate) fn and(self, later: Self) -> Self {
        match (self, later) {
            (Self::LiveOnly, other) | (Self::Kept, other @ (Self::Value | Self::Forget)) => other,
            (Self::Value | Self::Forget, other @ (Self::Value | Self::Forget)) => other,
            (kept, _) => kept,
        }
    }
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
        assert_eq!(Channel::new("a\u{7f}b"), Err(ChannelError::Control));
        assert_eq!(Channel::new("$f1"), Err(ChannelError::Reserved));
        assert_eq!(
            Channel::kept("$f1").map(|channel| channel.as_reserved().map(str::to_owned)),
            Ok(Some("f1".into()))
        );
        assert!(Channel::new("größe:~").is_ok());
        let long = "x".repeat(CHANNEL_BYTES_MAX + 1);
        assert_eq!(Channel::new(&long), Err(ChannelError::TooLong(CHANNEL_BYTES_MAX + 1)));
    }
    #[test]
    fn a_channel_in_a_longer_text_is_the_channel_of_that_name() {
        let text: Arc<str> = "insertorders:42\n".into();
        let part = Channel::part_of(text, 6..15);
        assert_eq!(part.as_str(), "orders:42");
        let set = std::collections::HashSet::from([part.clone()]);
        assert!(set.contains(&Channel::new("orders:42").unwrap()) && set.contains("orders:42"));
        assert!(part < Channel::new("orders:5").unwrap());
    }

    #[test]
    fn of_two_words_about_one_message_the_one_that_keeps_more_counts_and_of_equals_the_later() {
        use Retention::{Forget, Kept, LiveOnly, Value};
        for (earlier, later, both) in [
            (LiveOnly, LiveOnly, LiveOnly),
            (LiveOnly, Kept, Kept),
            (Kept, LiveOnly, Kept),
            (Kept, Value, Value),
            (Forget, Kept, Forget),
            (Value, LiveOnly, Value),
            (Value, Forget, Forget),
            (Forget, Value, Value),
        ] {
            assert_eq!(earlier.and(later), both, "{earlier:?}, then {later:?}");
        }
    }

    #[test]
    fn what_others_call_an_event_is_bounded_and_none_of_the_gateways_own() {
        for name in ["", "said", "größe", &"x".repeat(EVENT_BYTES_MAX)] {
            assert_eq!(EventName::check(name), Ok(()), "{name}");
        }
        for name in ["a\nb", "\u{85}", &"x".repeat(EVENT_BYTES_MAX + 1)] {
            assert_eq!(EventName::check(name), Err(EventError::Form), "{name}");
        }
        for name in ["reset", "refused", "presence"] {
            assert_eq!(EventName::check(name), Err(EventError::Reserved), "{name}");
        }
    }

    #[test]
    fn an_event_is_its_name_whether_everybody_uses_it_or_nobody() {
        for name in ["insert", "left", ""] {
            assert_eq!(&*EventName::from(name), name);
            assert_eq!(EventName::from(name), EventName(Name::Other(name.into())));
        }
    }
}
