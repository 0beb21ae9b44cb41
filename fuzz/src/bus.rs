//! Stands in for the bus, of which ids are read.

use crate::event::{Epoch, Sequence};

/// As the host has it, what its reader of ids looks at.
#[allow(dead_code, reason = "nobody has one")]
pub(crate) trait Bus {
    fn epoch(&self) -> Epoch;
    fn head(&self) -> std::cell::RefCell<Sequence>;
    fn floor(&self) -> Sequence;
}
