//! Failpoints: named moments at which a test lets the whole process die, as `kill -9` would.
//!
//! In: the name of one of them, and at which visit to it. Out: a dead process. Armed once, at the start of `main`,
//! from the variable that `config` reads.
//!
//! Invariant: a program that is built for release has none of them.
//!
//! To add one: `failpoint!("name")` where it is, and its name in the list of the test that dies at each,
//! `deploy/tests/kill.rs`.

/// Dies here, if this failpoint is armed.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::failpoint::visit($name);
    };
}
pub(crate) use failpoint;

#[cfg(debug_assertions)]
pub use armed::{arm, visit};

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    struct Armed {
        name: String,
        /// Visits until it fires.
        left: AtomicU64,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Arms the failpoint `NAME`, or `NAME:NTH` for its nth visit, from 1. The first call counts.
    pub fn arm(text: &str) {
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        let left = AtomicU64::new(nth.parse().unwrap_or(1));
        // Who arms twice is a test that has its wish already.
        let _ = ARMED.set(Armed { name: name.to_owned(), left });
    }

    /// Dies, if it is this one's turn.
    pub fn visit(name: &str) {
        let Some(armed) = ARMED.get().filter(|armed| armed.name == name) else { return };
        if armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Nothing can be done about a process that cannot die.
            let _ = raise(Signal::SIGKILL);
        }
    }
}
