//! What clients say, as the host's own file has it.

#[path = "../../../host/src/intake/message.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "only parts are used")]
mod message;

pub use message::Body;

use crate::event::Micros;

/// As the host names the source.
const SOURCE: &str = "$client";

/// As the host has it.
fn time(number: u64) -> Micros {
    Micros(i64::try_from(number).unwrap_or(i64::MAX))
}
