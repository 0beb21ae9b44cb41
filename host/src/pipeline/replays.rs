//! The replays of dead letters among the records of a batch.
//!
//! In: records as they were read. Out: those that are judged, and what the batch has besides: which letters it
//! replays, and new letters for replays whose plugin is not there.
//!
//! Invariant: records that are not judged are part of the batch's offsets all the same, as far as it goes.

use std::collections::HashSet;
use std::ops::Range;

use crate::bus::{Batch, DeadLetter, Replayed, Stage};
use crate::event::{DecodeError, Decoder, Header, Offset, Replay};
use crate::log::Record;

/// What is known of the replays of a batch.
pub(super) struct Replays {
    /// Of all that was read.
    offsets: Range<Offset>,
    /// How many records are judged.
    judged_count: usize,
    replayed: Vec<Replayed>,
    without_plugin: Vec<DeadLetter>,
}

impl Replays {
    /// Takes out of the records (at least one) what is not judged: replays that are `passed_over`, and those for a
    /// plugin that is not there.
    ///
    /// # Errors
    /// If a replay is not readable; with its offset.
    pub(super) fn take_from(
        records: &mut Vec<Record>,
        passed_over: &HashSet<Offset>,
        has_plugin: impl Fn(&str) -> bool,
    ) -> Result<Self, (Offset, DecodeError)> {
        let first = records.first().map_or(Offset(0), |record| record.offset);
        let offsets = first..first.plus(records.len() as u64);
        let (mut replayed, mut without_plugin) = (Vec::new(), Vec::new());
        let mut problem = None;
        records.retain(|record| {
            if !Header::of(&record.payload).is_ok_and(|header| header.is_replay) {
                return true;
            }
            if passed_over.contains(&record.offset) {
                return false;
            }
            let replay = match Decoder::default().decode(&record.payload) {
                Ok(change) => change.replay,
                Err(error) => {
                    problem.get_or_insert((record.offset, error));
                    return true;
                }
            };
            let Some(Replay { letter, router, .. }) = replay else { return true };
            replayed.push(Replayed { offset: record.offset, letter });
            match router.filter(|router| !has_plugin(router)) {
                None => true,
                Some(router) => {
                    without_plugin.push(letter_without_plugin(&router, record));
                    false
                }
            }
        });
        match problem {
            Some(problem) => Err(problem),
            None => Ok(Self { offsets, judged_count: records.len(), replayed, without_plugin }),
        }
    }

    /// Completes a batch of these records, or of the first few of them.
    pub(super) fn add_to(self, judged: &[Record], batch: &mut Batch) {
        let end = match judged.last() {
            Some(last) if judged.len() < self.judged_count => last.offset.plus(1),
            _ => self.offsets.end,
        };
        batch.offsets = self.offsets.start..end;
        batch.replayed.extend(self.replayed.into_iter().filter(|replayed| replayed.offset < end));
        batch.dead_letters.extend(self.without_plugin.into_iter().filter(|letter| letter.offset < end));
    }
}

fn letter_without_plugin(router: &str, record: &Record) -> DeadLetter {
    DeadLetter {
        offset: record.offset,
        plugin: router.to_owned(),
        generation: 0,
        digest: String::new(),
        stage: Stage::Router,
        fault: "the plugin is not active: activate it, then replay the change again".to_owned(),
        record: record.payload.clone(),
    }
}
