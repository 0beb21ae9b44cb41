//! What measures a call: the clock, as in a server, or fuel, so that a call costs the same on every machine.
//!
//! Invariant: a meter is an engine of its own, as a profile is: code that was compiled for one is never run by another.

use std::fmt;
use std::str::FromStr;

use super::activation::UnknownWord;

/// What measures the calls of plugins, and ends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Meter {
    /// The clock: a call may take so long.
    #[default]
    Clock,
    /// Fuel: a call may run so many instructions of WebAssembly, which are counted. Two to three times slower.
    Fuel,
}

impl Meter {
    /// As it is written everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Fuel => "fuel",
        }
    }
}

impl FromStr for Meter {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let known = [Self::Clock, Self::Fuel].into_iter().find(|meter| meter.as_str() == word);
        known.ok_or_else(|| UnknownWord::new(word, "`clock`, `fuel`"))
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
