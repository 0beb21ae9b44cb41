//! Resume ids: where a client was, as it tells us when it comes back.
//!
//! `EPOCH.SEQUENCE`, later `EPOCH.SEQUENCE,SEQUENCE,…` with one sequence for each shard that the connection uses:
//! the epoch in lower-case hexadecimal, sequences in decimal, at most [`RESUME_ID_BYTES_MAX`] bytes. To a client it
//! is opaque.
//!
//! Invariant: an id is either a place from which every kept message can still be told, or a [`Resume::Lost`]. What
//! is no id at all is an error; the rest of an id of another epoch is not looked at, since another life of the
//! history may have had another form.

use crate::bus::Bus;
use crate::event::{Epoch, Sequence};
use crate::limits::RESUME_ID_BYTES_MAX;

/// What an id means to this history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    /// Everything after it can be told.
    After(Sequence),
    /// Something may be missing.
    Lost(LossReason),
}

/// Why a client cannot be told everything that it missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LossReason {
    /// The id is of another life of the history.
    Epoch,
    /// Retention has removed what comes after it.
    Expired,
    /// It is ahead of the history, which was set back.
    Ahead,
    /// It was made for another number of shards.
    Shards,
    /// The client may listen, but not to what was before it came.
    Withheld,
    /// Whom the user of a timeline follows has changed.
    Follows,
}

impl LossReason {
    /// The name that clients see.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Expired => "expired",
            Self::Ahead => "ahead",
            Self::Shards => "shards",
            Self::Withheld => "withheld",
            Self::Follows => "follows",
        }
    }
}

/// Why a text is no resume id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum ResumeError {
    #[error("the resume id has {0} bytes, at most {RESUME_ID_BYTES_MAX} are allowed")]
    TooLong(usize),
    #[error("the resume id does not begin with an epoch: it is EPOCH.SEQUENCE, as the server sent it last")]
    Epoch,
    #[error("the resume id has no number after its epoch: it is EPOCH.SEQUENCE, as the server sent it last")]
    Sequence,
}

/// What the history reaches over at the moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) epoch: Epoch,
    pub(super) floor: Sequence,
    pub(super) head: Sequence,
}

/// Reads an id.
///
/// # Errors
/// If it is none.
pub(super) fn interpret(text: &str, reach: Reach) -> Result<Resume, ResumeError> {
    if text.len() > RESUME_ID_BYTES_MAX {
        return Err(ResumeError::TooLong(text.len()));
    }
    let (epoch, sequences) = text.split_once('.').ok_or(ResumeError::Epoch)?;
    if parse_epoch(epoch)? != reach.epoch {
        return Ok(Resume::Lost(LossReason::Epoch));
    }
    let mut sequences = sequences.split(',').map(parse_sequence);
    let sequence = sequences.next().ok_or(ResumeError::Sequence)??;
    let mut others_count = 0;
    for other in sequences {
        other?;
        others_count += 1;
    }
    Ok(if others_count > 0 {
        Resume::Lost(LossReason::Shards)
    } else if sequence > reach.head {
        Resume::Lost(LossReason::Ahead)
    } else if sequence < reach.floor {
        Resume::Lost(LossReason::Expired)
    } else {
        Resume::After(sequence)
    })
}

fn parse_epoch(text: &str) -> Result<Epoch, ResumeError> {
    // The number parser would also take a sign and capitals; an id has one spelling.
    if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(ResumeError::Epoch);
    }
    u64::from_str_radix(text, 16).map(Epoch).map_err(|_| ResumeError::Epoch)
}

fn parse_sequence(text: &str) -> Result<Sequence, ResumeError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ResumeError::Sequence);
    }
    text.parse().map(Sequence).map_err(|_| ResumeError::Sequence)
}

/// Where a channel begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Start {
    /// With its value, and then what comes now.
    New,
    /// With what comes now, since what was before is not for the client.
    Live,
    /// After what the client has.
    After(Sequence),
    /// With a reset.
    Lost(LossReason),
}

impl Start {
    /// What a resume id means to the bus; without one, or with an empty one, the channel is new to the client.
    pub(super) fn of(bus: &dyn Bus, id: Option<&str>) -> Result<Self, ResumeError> {
        let Some(id) = id.filter(|id| !id.is_empty()) else { return Ok(Self::New) };
        let reach = Reach { epoch: bus.epoch(), floor: bus.floor(), head: *bus.head().borrow() };
        Ok(match interpret(id, reach)? {
            Resume::After(sequence) => Self::After(sequence),
            Resume::Lost(reason) => Self::Lost(reason),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REACH: Reach = Reach { epoch: Epoch(0x9f), floor: Sequence(10), head: Sequence(20) };

    #[test]
    fn an_id_within_reach_is_a_place() {
        for sequence in [10, 15, 20] {
            assert_eq!(interpret(&format!("9f.{sequence}"), REACH), Ok(Resume::After(Sequence(sequence))));
        }
    }

    #[test]
    fn an_id_out_of_reach_is_lost_with_the_reason() {
        assert_eq!(interpret("9f.9", REACH), Ok(Resume::Lost(LossReason::Expired)));
        assert_eq!(interpret("9f.21", REACH), Ok(Resume::Lost(LossReason::Ahead)));
        assert_eq!(interpret("9f.12,13", REACH), Ok(Resume::Lost(LossReason::Shards)));
        assert_eq!(interpret("a0.15", REACH), Ok(Resume::Lost(LossReason::Epoch)));
        assert_eq!(interpret("a0.some other form", REACH), Ok(Resume::Lost(LossReason::Epoch)));
    }

    #[test]
    fn what_is_no_id_is_an_error() {
        for text in ["", "9f", "x.1", ".1", "+9f.12", "9F.12", "11112222333344445.1"] {
            assert_eq!(interpret(text, REACH), Err(ResumeError::Epoch), "{text}");
        }
        for text in ["9f.", "9f.x", "9f.+12", "9f.12,", "9f.99999999999999999999", "9f.12 "] {
            assert_eq!(interpret(text, REACH), Err(ResumeError::Sequence), "{text}");
        }
        let long = format!("9f.{}", "1".repeat(RESUME_ID_BYTES_MAX));
        assert_eq!(interpret(&long, REACH), Err(ResumeError::TooLong(RESUME_ID_BYTES_MAX + 3)));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}|[0-9a-f.,]{0,40}") {
            let _ = interpret(&text, REACH);
        }
    }
}
