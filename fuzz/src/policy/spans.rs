//! Arenas, and spans that mostly lie in them.

use libfuzzer_sys::arbitrary::{self, Arbitrary};

/// What spans point into.
#[derive(Debug, Arbitrary)]
pub(super) enum Arena {
    Text(String),
    Bytes(Vec<u8>),
}

/// A place in it, or somewhere.
#[derive(Debug, Clone, Arbitrary)]
pub(super) enum Span {
    Zero,
    Within(u8, u8),
    Any(u64),
}

impl Arena {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

impl Span {
    /// As it stands in a list, for an arena of so many bytes.
    pub(super) fn number(&self, arena: usize) -> u64 {
        match self {
            Self::Zero => 0,
            Self::Within(start, length) => {
                let start = usize::from(*start) % (arena + 1);
                let length = usize::from(*length) % (arena - start + 1);
                start as u64 | (length as u64) << 32
            }
            Self::Any(number) => *number,
        }
    }
}
