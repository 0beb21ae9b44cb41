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
    use nix::sys::signal::{Signal, raise};

    use super::Signals;

    #[tokio::test]
    async fn a_signal_is_not_missed_while_nobody_waits_for_it() {
        let mut signals = Signals::new().expect("the system lets us");
        tokio::select! {
            biased;
            () = signals.requested() => panic!("there was no signal"),
            () = std::future::ready(()) => {}
        }
        raise(Signal::SIGTERM).expect("a process may signal itself");
        signals.requested().await;
    }
}
