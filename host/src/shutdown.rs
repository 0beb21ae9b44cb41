//! One order to stop: from a person, the system, or a part that cannot go on.
//!
//! Invariant: a signal that comes after [`Signals::new`] is not missed, whether or not anybody waits for it then.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT and SIGTERM, from now on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes both.
    ///
    /// # Errors
    /// If the system does not let the program handle signals.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one of them. Cancelling loses none.
    pub async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::{Signal, raise};
    use tokio::time::timeout;

    use super::Signals;

    #[tokio::test]
    async fn a_signal_is_not_missed_while_nobody_waits_for_it() {
        let mut signals = Signals::new().expect("the system lets us");
        let mut witness = Signals::new().expect("the system lets us");
        raise(Signal::SIGTERM).expect("a process may signal itself");
        witness.requested().await;
        // Everybody who was to be told has been told by now.
        timeout(Duration::from_secs(10), signals.requested()).await.expect("it is kept");
    }
}
