//! A batch of changes as the interface has it: eight lists.
//!
//! In: what the host (or the test kit) sends. Out: numbers and text at an index. The host has checked nothing for us
//! and need not: a list that is too short or a span outside of the arena panics, which stops the instance.

use crate::value::{Value, kind};

/// What `rows` and `old_rows` have where there is no row.
pub(crate) const NONE: u32 = u32::MAX;

/// See `wit/policy.wit` for what each list holds.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    pub(crate) subscriptions: Vec<u32>,
    pub(crate) operations: Vec<u8>,
    pub(crate) committed_at: Vec<i64>,
    pub(crate) rows: Vec<u32>,
    pub(crate) old_rows: Vec<u32>,
    pub(crate) kinds: Vec<u8>,
    pub(crate) values: Vec<u64>,
    pub(crate) arena: Arena,
}

/// The bytes of a batch. Where all of them are UTF-8, which is checked at once, a text in it needs no check of its own.
#[derive(Debug)]
pub(crate) enum Arena {
    Text(String),
    Mixed(Vec<u8>),
}

impl Default for Arena {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<Vec<u8>> for Arena {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|mixed| Self::Mixed(mixed.into_bytes()), Self::Text)
    }
}

impl Arena {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Mixed(bytes) => bytes,
        }
    }

    fn bytes(&self, span: u64) -> &[u8] {
        let (start, length) = bounds(span);
        match self.as_bytes().get(start..).and_then(|rest| rest.get(..length)) {
            Some(bytes) => bytes,
            None => outside(span, self.as_bytes().len()),
        }
    }

    pub(crate) fn text(&self, span: u64) -> &str {
        let (start, length) = bounds(span);
        match self {
            Self::Text(text) => match text.get(start..start.saturating_add(length)) {
                Some(text) => text,
                None => outside(span, text.len()),
            },
            Self::Mixed(_) => match std::str::from_utf8(self.bytes(span)) {
                Ok(text) => text,
                Err(error) => panic!("the host sent a text that is not UTF-8: {error}"),
            },
        }
    }
}

#[cold]
fn outside(span: u64, length: usize) -> ! {
    let (start, wanted) = bounds(span);
    panic!("the host sent a span of {wanted} bytes from {start}, which the arena of {length} does not have")
}

impl Cells {
    /// The value of the cell at `index`.
    pub(crate) fn value(&self, index: usize) -> Value<'_> {
        let value = self.values[index];
        match self.kinds[index] {
            kind::NULL => Value::Null,
            kind::UNCHANGED => Value::Unchanged,
            kind::MASKED => Value::Masked,
            kind::BOOLEAN => Value::Boolean(value != 0),
            kind::INTEGER => Value::Integer(value.cast_signed()),
            kind::FLOAT => Value::Float(f64::from_bits(value)),
            kind::TEXT => Value::Text(self.arena.text(value)),
            kind::BYTES => Value::Bytes(self.arena.bytes(value)),
            unknown => panic!("the host sent a value of the kind {unknown}, which this SDK does not know"),
        }
    }
}

/// Where a span begins and how long it is.
pub(crate) fn bounds(span: u64) -> (usize, usize) {
    ((span & u64::from(u32::MAX)) as usize, (span >> 32) as usize)
}

/// The span of what was appended to an arena since it had the length `start`.
pub(crate) fn span_since(start: usize, arena: &[u8]) -> u64 {
    start as u64 | ((arena.len() - start) as u64) << 32
}
