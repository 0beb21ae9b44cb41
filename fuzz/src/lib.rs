//! What the fuzz targets share: the host's own files, without its engine.
//!
//! In: bytes from libFuzzer. Out: nothing, or a panic that says which invariant does not hold.
//!
//! The files are taken by their paths, not through the package `twohop`: its engine takes minutes to build, and its
//! code would be most of what the instruments count. So what these files name of others has a stand-in here: the
//! bindings of the interface (`policy/bindings.rs`), and two types of the engine.
//!
//! To add a target: a check here, a file in `fuzz_targets/`, a `[[bin]]` in `Cargo.toml`, a few files in `corpus/`.

extern crate self as wasmtime;

#[path = "../../host/src/event/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, missing_docs, reason = "only parts are used")]
pub mod event;
#[path = "../../host/src/limits.rs"]
#[allow(dead_code, missing_docs, reason = "only parts are used")]
mod limits;

mod bus;
#[allow(unreachable_pub, reason = "only parts are used")]
pub mod gateway;
mod intake;
pub mod made;
pub mod pgoutput;
pub mod policy;
pub mod records;

/// Stands in for the engine's error.
#[derive(Debug)]
pub struct Error;

/// Stands in for the engine's traps.
#[derive(Debug, PartialEq, Eq)]
pub enum Trap {
    /// As the engine names it.
    Interrupt,
    /// As the engine names it.
    OutOfFuel,
    /// Any of the others.
    StackOverflow,
}

impl Error {
    /// There is nothing in it.
    pub fn downcast_ref<T>(&self) -> Option<&T> {
        None
    }

    /// There is nothing behind it.
    pub fn root_cause(&self) -> &'static str {
        "none"
    }
}
