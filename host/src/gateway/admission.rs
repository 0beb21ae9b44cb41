//! Who may listen to what: asked once for each subscription, by every face.
//!
//! In: the channels that a client asks for. Out: that it may have them, or why not.
//!
//! So far every channel is public.

use super::codes::Refusal;
use crate::event::Channel;

/// Whether a client may listen to these channels, all of them.
#[expect(clippy::unnecessary_wraps, reason = "every face must be ready for a no")]
pub(super) fn admit(_channels: &[Channel]) -> Result<(), Refusal> {
    Ok(())
}
