//! What the tests of both listeners have in common.

mod client;
mod tls;

pub(crate) use client::{Client, Event, PATIENCE};
