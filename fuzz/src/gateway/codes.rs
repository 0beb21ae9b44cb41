//! Stands in for the codes that clients are told.

/// As the host has them, those that its parsers give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    ChannelMissing,
    ChannelInvalid,
    ChannelsTooMany,
    QueryInvalid,
    CommandInvalid,
    MessageInvalid,
}

/// As the host has it.
#[derive(Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "nobody is told")]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
