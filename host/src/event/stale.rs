//! What of a cache a batch of changes makes stale.

/// Keys of a cache that are to go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stale {
    /// This one.
    Key(Box<str>),
    /// All that begin so; all there are, if it is empty.
    Prefix(Box<str>),
}
