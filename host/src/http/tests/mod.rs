//! What the tests of both listeners have in common.

mod client;

pub(crate) use client::{Client, Event, PATIENCE};
