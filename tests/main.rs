//! The suite that needs real services: a PostgreSQL and a host for each test, started by the test.
//!
//! Run it by `cargo xtask test`, which installs and builds what is needed. Contents:

/// A row committed in PostgreSQL reaches a client through a policy: order, wholeness, kinds of changes, resuming.
mod main_job;

/// `kill -9` of the host and of PostgreSQL, restarts under load: nothing lost, nothing twice.
mod crash;

/// Pages zeroed as power loss does, and disks that fill.
mod disk;

/// What cannot work is refused with what is wrong, where, and what to do.
mod refusals;

/// One policy in Rust, JavaScript and Python: the same routes, the same refusals.
mod languages;

/// The page in a real browser.
mod browser;
