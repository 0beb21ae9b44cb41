//! Ports for services that must know theirs beforehand.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Below Linux's range for outgoing connections (32768 up): there, a client that keeps dialing a server that is down
/// can be given the server's port as its own, and then connects to itself.
const RANGE: std::ops::Range<u16> = 15_000..30_000;

const TRIES_MAX: u16 = 200;

/// A port of 127.0.0.1 that nobody listens on. Another program may take it before you do: rare, but be ready to ask
/// again.
///
/// # Errors
/// None of many tried is free.
pub fn free() -> io::Result<u16> {
    let mut last = io::Error::other("no port was tried");
    for attempt in 0..TRIES_MAX {
        // The standard library's hasher is seeded at random: all the randomness that is needed here.
        let random = RandomState::new().hash_one(attempt) % u64::from(RANGE.end - RANGE.start);
        let port = RANGE.start + u16::try_from(random).unwrap_or_default();
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_listened_on_and_is_not_one_for_outgoing_connections() {
        let port = free().unwrap();
        assert!(RANGE.contains(&port));
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    }
}
