//! Every chore of the project: what `cargo xtask …` does, and the private services that tests and benches use.
//!
//! In: a command line. Out: work done by other programs (cargo, apt, PostgreSQL, the host), said step by step.
//! Always: whatever a chore starts ends with it, and whatever folder it makes for itself is removed with it.
//! Absent on purpose: the host and the engine as dependencies; a chore must begin to speak within seconds of a
//! clean checkout, so the host is built and started as a program.

pub mod cli;
pub mod interrupt;
pub mod place;
pub mod process;

pub mod setup;

pub mod plugins;

pub mod services;
pub mod sse;

pub mod bench;
pub mod check;
pub mod demo;
pub mod test;
