//! One cell of a row.
//!
//! Borrows from the batch. The numbers of the kinds are in [`kind`], for both directions. Absent on purpose: decimals,
//! times and JSON as types of their own; they come as the text that the source has for them.

use std::fmt;

/// Numbers of `kinds` in the interface.
pub(crate) mod kind {
    pub(crate) const NULL: u8 = 0;
    pub(crate) const UNCHANGED: u8 = 1;
    pub(crate) const MASKED: u8 = 2;
    pub(crate) const BOOLEAN: u8 = 3;
    pub(crate) const INTEGER: u8 = 4;
    pub(crate) const FLOAT: u8 = 5;
    pub(crate) const TEXT: u8 = 6;
    pub(crate) const BYTES: u8 = 7;
}

/// One cell of a row.
///
/// Its `Display` is what a key or a channel's name would have: text as it is, numbers in decimal, bytes as `\x` and
/// hexadecimal digits, and `null`, `unchanged`, `masked` for what has no value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// SQL's null.
    Null,
    /// The source did not send this column, or the table does not have it.
    Unchanged,
    /// A filter hid this column.
    Masked,
    /// A truth value.
    Boolean(bool),
    /// Any integer of up to 64 bits.
    Integer(i64),
    /// A floating point number.
    Float(f64),
    /// Text; also decimals, dates, times, UUIDs, arrays, enums and JSON, as the source writes them.
    Text(&'a str),
    /// Any bytes.
    Bytes(&'a [u8]),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.pad("null"),
            Self::Unchanged => formatter.pad("unchanged"),
            Self::Masked => formatter.pad("masked"),
            Self::Boolean(value) => value.fmt(formatter),
            Self::Integer(value) => value.fmt(formatter),
            // As the host and PostgreSQL write it.
            Self::Float(value) if value.is_infinite() => {
                formatter.pad(if *value > 0.0 { "Infinity" } else { "-Infinity" })
            }
            Self::Float(value) => value.fmt(formatter),
            Self::Text(value) => formatter.pad(value),
            Self::Bytes(value) => {
                formatter.write_str("\\x")?;
                value.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
        }
    }
}

macro_rules! from {
    ($($given:ty => $kind:ident),+) => {$(
        impl<'a> From<$given> for Value<'a> {
            fn from(value: $given) -> Self {
                Self::$kind(value.into())
            }
        }
    )+};
}

from!(bool => Boolean, i64 => Integer, i32 => Integer, u32 => Integer, f64 => Float, &'a str => Text, &'a [u8] => Bytes);

impl<'a, T: Into<Self>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_display_as_keys_spell_them() {
        let spelled = |value: Value| value.to_string();
        assert_eq!(spelled(42.into()), "42");
        assert_eq!(spelled(true.into()), "true");
        assert_eq!(spelled("a b".into()), "a b");
        assert_eq!(spelled(Value::Bytes(&[0, 255])), "\\x00ff");
        assert_eq!(spelled(None::<i64>.into()), "null");
    }
}
