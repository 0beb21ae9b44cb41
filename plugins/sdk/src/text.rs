//! What can be written as text into an outcome, without a string in between.

use std::fmt::{self, Write};

use crate::cells::span_since;
use crate::{Operation, Value};

/// What can name a channel, an event, a key.
///
/// Text, numbers, [`Value`]s and [`Operation`]s; several pieces of text in a row (`["order:", id]`); and anything with
/// `format_args!("order:{id}")`, which costs some 75 ns more than the pieces.
pub trait IntoText {
    /// Appends the text, which is UTF-8, to the arena.
    fn write_to(self, arena: &mut Vec<u8>);

    /// The span of the text in the arena of an outcome, which begins with [`Operation::NAMES`].
    #[doc(hidden)]
    fn span_in(self, arena: &mut Vec<u8>) -> u64
    where
        Self: Sized,
    {
        let start = arena.len();
        self.write_to(arena);
        span_since(start, arena)
    }
}

impl IntoText for &str {
    fn write_to(self, arena: &mut Vec<u8>) {
        arena.extend_from_slice(self.as_bytes());
    }
}

impl IntoText for &String {
    fn write_to(self, arena: &mut Vec<u8>) {
        self.as_str().write_to(arena);
    }
}

impl IntoText for String {
    fn write_to(self, arena: &mut Vec<u8>) {
        self.as_str().write_to(arena);
    }
}

impl<const N: usize> IntoText for [&str; N] {
    fn write_to(self, arena: &mut Vec<u8>) {
        for piece in self {
            piece.write_to(arena);
        }
    }
}

impl IntoText for Operation {
    fn write_to(self, arena: &mut Vec<u8>) {
        self.name().write_to(arena);
    }

    fn span_in(self, _: &mut Vec<u8>) -> u64 {
        self.span()
    }
}

impl IntoText for fmt::Arguments<'_> {
    fn write_to(self, arena: &mut Vec<u8>) {
        match self.as_str() {
            Some(literal) => literal.write_to(arena),
            // Fails only where a `Display` of the author's fails, and then what it has written stands.
            None => drop(Appended(arena).write_fmt(self)),
        }
    }
}

macro_rules! displayed {
    ($($given:ty),+) => {$(
        impl IntoText for $given {
            fn write_to(self, arena: &mut Vec<u8>) {
                format_args!("{self}").write_to(arena);
            }
        }
    )+};
}

displayed!(i64, u64, i32, u32, usize, Value<'_>);

struct Appended<'a>(&'a mut Vec<u8>);

impl Write for Appended<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: impl IntoText) -> String {
        let mut arena = Vec::new();
        text.write_to(&mut arena);
        String::from_utf8(arena).expect("text")
    }

    #[test]
    fn pieces_and_formats_and_numbers_write_the_same() {
        assert_eq!(written("order:42"), "order:42");
        assert_eq!(written(["order:", "42"]), "order:42");
        assert_eq!(written(format_args!("order:{}", 42)), "order:42");
        assert_eq!(written(42_i64), "42");
        assert_eq!(written(Value::Text("42")), "42");
        assert_eq!(written(Operation::Delete), "delete");
    }
}
