//! Tickets: who got one by a token may open one stream with it, soon.
//!
//! In: a visitor. Out: a random text; once, the visitor for the text.
//!
//! Invariants: a ticket counts once and for `TICKET_TIME_MAX`; those that are out are bounded, all together and for
//! each subject. Only a digest is kept: the look-up says nothing about tickets through its time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use super::identity::Identity;
use super::refusal::Refusal;
use crate::limits::{TICKET_TIME_MAX, TICKETS_BYTES_MAX, TICKETS_COUNT_MAX, TICKETS_PER_SUBJECT_COUNT_MAX};

const TICKET_BYTES: usize = 32;

type Mark = [u8; 32];

/// The tickets that are out.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<Out>);

#[derive(Debug, Default)]
struct Out {
    tickets: HashMap<Mark, Identity>,
    /// In the order in which they end, those that were used included.
    ends: VecDeque<(Instant, Mark)>,
    by_subject: HashMap<Box<str>, usize>,
    bytes: usize,
}

impl Tickets {
    /// Makes a ticket for one that is known.
    ///
    /// # Errors
    /// If too many are out.
    pub(super) fn issue(&self, identity: &Identity, now: Instant) -> Result<String, Refusal> {
        let mut random = [0; TICKET_BYTES];
        // The system has no randomness only if it is broken.
        SystemRandom::new().fill(&mut random).map_err(|_| Refusal::TicketsFull)?;
        let text = URL_SAFE_NO_PAD.encode(random);
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.forget_ended(now);
        let subject = identity.subject().unwrap_or_default();
        let of_subject = out.by_subject.get(subject).copied().unwrap_or(0);
        if of_subject >= TICKETS_PER_SUBJECT_COUNT_MAX
            || out.ends.len() >= TICKETS_COUNT_MAX
            || out.bytes + identity.bytes() > TICKETS_BYTES_MAX
        {
            return Err(Refusal::TicketsFull);
        }
        out.by_subject.insert(subject.into(), of_subject + 1);
        out.bytes += identity.bytes();
        let mark = mark(&text);
        out.tickets.insert(mark, identity.clone());
        out.ends.push_back((now + TICKET_TIME_MAX, mark));
        Ok(text)
    }

    /// Takes a ticket out.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn take(&self, text: &str, now: Instant) -> Result<Identity, Refusal> {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.forget_ended(now);
        out.remove(&mark(text)).ok_or(Refusal::Ticket)
    }
}

impl Out {
    fn forget_ended(&mut self, now: Instant) {
        while let Some((_, mark)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            self.remove(&mark);
        }
    }

    fn remove(&mut self, mark: &Mark) -> Option<Identity> {
        let identity = self.tickets.remove(mark)?;
        self.bytes -= identity.bytes();
        let subject = identity.subject().unwrap_or_default();
        if let Some(count) = self.by_subject.get_mut(subject) {
            *count -= 1;
            if *count == 0 {
                self.by_subject.remove(subject);
            }
        }
        Some(identity)
    }
}

fn mark(text: &str) -> Mark {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_counts_once_and_not_for_long() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let ann = Identity::of_test("ann");
        let ticket = tickets.issue(&ann, now).expect("there is room");
        assert_eq!(tickets.take(&ticket, now).expect("it is new").subject(), Some("ann"));
        assert_eq!(tickets.take(&ticket, now).expect_err("it is used"), Refusal::Ticket);
        assert_eq!(tickets.take("", now).expect_err("it is none"), Refusal::Ticket);
        let late = tickets.issue(&ann, now).expect("there is room");
        assert_eq!(tickets.take(&late, now + TICKET_TIME_MAX).expect_err("it is too old"), Refusal::Ticket);
        let out = tickets.0.lock().expect("nobody panicked");
        assert!(out.tickets.is_empty() && out.ends.is_empty() && out.by_subject.is_empty() && out.bytes == 0);
    }

    #[test]
    fn what_one_subject_has_out_is_bounded_and_leaves_room_for_others() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let (ann, bob) = (Identity::of_test("ann"), Identity::of_test("bob"));
        let mut last = String::new();
        for _ in 0..TICKETS_PER_SUBJECT_COUNT_MAX {
            last = tickets.issue(&ann, now).expect("there is room");
        }
        assert_eq!(tickets.issue(&ann, now).expect_err("it is one too many"), Refusal::TicketsFull);
        assert!(tickets.issue(&bob, now).is_ok());
        tickets.take(&last, now).expect("it is new");
        assert!(tickets.issue(&ann, now).is_ok());
        assert!(tickets.issue(&ann, now).is_err());
        assert!(tickets.issue(&ann, now + TICKET_TIME_MAX).is_ok());
    }

    #[test]
    fn all_that_are_out_are_bounded_those_that_were_used_included() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let identity = Identity::of_test("ann");
        for _ in 0..TICKETS_COUNT_MAX {
            let ticket = tickets.issue(&identity, now).expect("there is room");
            tickets.take(&ticket, now).expect("it is new");
        }
        assert_eq!(tickets.issue(&identity, now).expect_err("it is one too many"), Refusal::TicketsFull);
    }
}
