//! A plugin as it is activated: which code, told what, allowed what.
//!
//! Plain values, which the registry keeps and the pipeline records before a generation's first effect.
//! Invariant: what is not granted is refused; a pattern never matches more than its text says.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::Digest;
use crate::limits::PATTERN_BYTES_MAX;

/// One generation of a plugin: an activation of one digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// From 1, within the plugin.
    pub generation: u64,
    /// Which component.
    pub digest: Digest,
    /// Plugins run in this order, those of one order by name.
    pub order: i32,
    /// What `configure` gets.
    pub settings: BTreeMap<String, String>,
    /// What its routes may touch.
    pub grants: Grants,
    /// Which limits it runs under.
    pub profile: Profile,
    /// What happens with a change that it fails on.
    pub on_fault: OnFault,
}

/// What a plugin's routes may touch. By default every channel, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// Channels that it may publish to.
    pub channels: Vec<Pattern>,
    /// Whether it may post, retract, and change who follows whom.
    pub audience: bool,
    /// Topics of other services.
    pub topics: Vec<Pattern>,
    /// Cache keys, and prefixes of them, that it may delete.
    pub cache: Vec<Pattern>,
}

impl Grants {
    /// All there is: to look at what a plugin would do.
    #[must_use]
    pub fn everything() -> Self {
        let every = || vec![Pattern::every()];
        Self { channels: every(), audience: true, topics: every(), cache: every() }
    }
}

impl Default for Grants {
    fn default() -> Self {
        Self { channels: vec![Pattern::every()], audience: false, topics: Vec::new(), cache: Vec::new() }
    }
}

/// A name, or with `*` at its end every name that begins so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It matches nothing.
    #[error("a pattern is empty: name a channel, or `*` for all")]
    Empty,
    /// It is too long.
    #[error("a pattern has {0} bytes, at most {PATTERN_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A star elsewhere would look as if it meant something.
    #[error("the pattern `{0}` has a `*` that is not at its end: only `orders:*` and the like are there")]
    Star(String),
}

impl Pattern {
    /// The one that matches every name.
    #[must_use]
    pub fn every() -> Self {
        Self("*".into())
    }

    /// Whether it matches every name.
    pub(super) fn is_every(&self) -> bool {
        &*self.0 == "*"
    }

    /// Whether a name fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == &*self.0,
        }
    }

    /// Whether every name that begins with a prefix fits.
    #[must_use]
    pub fn covers(&self, prefix: &str) -> bool {
        self.0.strip_suffix('*').is_some_and(|own| prefix.starts_with(own))
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.find('*') {
            _ if text.is_empty() => Err(PatternError::Empty),
            _ if text.len() > PATTERN_BYTES_MAX => Err(PatternError::TooLong(text.len())),
            Some(at) if at + 1 < text.len() => Err(PatternError::Star(text.to_owned())),
            Some(_) | None => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which limits a plugin runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// For Rust, C and the like.
    #[default]
    Small,
    /// For guests that bring a runtime, as JavaScript and Python do.
    Large,
}

/// A word that is not one of those that can be there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is none of {known}")]
pub struct UnknownWord {
    word: String,
    known: &'static str,
}

impl UnknownWord {
    pub(super) fn new(word: &str, known: &'static str) -> Self {
        Self { word: word.to_owned(), known }
    }
}

impl Profile {
    /// As it is written everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }
}

impl FromStr for Profile {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let known = [Self::Small, Self::Large].into_iter().find(|profile| profile.as_str() == word);
        known.ok_or_else(|| UnknownWord::new(word, "`small`, `large`"))
    }
}

/// What happens with a change that a plugin fails on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnFault {
    /// It becomes a dead letter of the plugin, and the pipeline goes on.
    #[default]
    SetAside,
    /// The pipeline stops until somebody decides.
    Pause,
}

impl OnFault {
    /// As it is written everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SetAside => "set-aside",
            Self::Pause => "pause",
        }
    }
}

impl FromStr for OnFault {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let known = [Self::SetAside, Self::Pause].into_iter().find(|on_fault| on_fault.as_str() == word);
        known.ok_or_else(|| UnknownWord::new(word, "`set-aside`, `pause`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        assert_eq!(Profile::Large.as_str().parse(), Ok(Profile::Large));
        assert_eq!(OnFault::SetAside.as_str().parse(), Ok(OnFault::SetAside));
        let message = "stop".parse::<OnFault>().expect_err("there is no such word").to_string();
        assert_eq!(message, "`stop` is none of `set-aside`, `pause`");
    }

    fn pattern(text: &str) -> Pattern {
        text.parse().expect("it is a pattern")
    }

    #[test]
    fn a_pattern_matches_a_name_or_what_begins_with_it() {
        assert!(pattern("orders").matches("orders") && !pattern("orders").matches("orders:1"));
        assert!(pattern("orders:*").matches("orders:1") && !pattern("orders:*").matches("orders"));
        assert!(Pattern::every().matches("") && Pattern::every().covers(""));
        assert!(pattern("orders:*").covers("orders:4") && !pattern("orders:*").covers("order"));
        assert!(!pattern("orders").covers("orders"));
    }

    #[test]
    fn a_text_that_would_match_something_else_than_it_looks_like_is_no_pattern() {
        let error = |text: &str| text.parse::<Pattern>().expect_err("it is none");
        assert_eq!(error(""), PatternError::Empty);
        assert_eq!(error("a*b"), PatternError::Star("a*b".into()));
        assert_eq!(error("**"), PatternError::Star("**".into()));
        assert_eq!(error(&"a".repeat(PATTERN_BYTES_MAX + 1)), PatternError::TooLong(PATTERN_BYTES_MAX + 1));
    }
}
