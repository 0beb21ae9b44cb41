//! Ctrl-C and its kin: waited for where a chore runs long, held back where half a step would do harm.
//!
//! Always: SIGINT, SIGTERM and SIGHUP mean the same, to end in order.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use tokio::signal::unix::{SignalKind, signal};

/// Ends when we are asked to end. From the first poll on, the signals no longer end us by themselves.
///
/// # Errors
/// The handlers cannot be set.
pub async fn asked_to_end() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// While this lives, the signals wait; those that came meanwhile then do what they do. For a step that changes the
/// system and must put it back. Programs started meanwhile get the signals as ever.
#[derive(Debug)]
pub struct HeldBack {
    before: SigSet,
}

impl HeldBack {
    /// Holds the signals back in this thread: to be used before there are others.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new() -> io::Result<HeldBack> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        // One may be held within another, so what was held before stays so after.
        Ok(HeldBack { before: signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)? })
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        // Going back to a mask that the kernel gave us cannot fail.
        let _ = self.before.thread_set_mask();
    }
}
