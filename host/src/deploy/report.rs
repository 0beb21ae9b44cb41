//! How a candidate answered, beside what is active.

use std::time::Duration;

use super::Request;
use crate::event::{Micros, Position};

/// What a shadow has seen since it runs, or since the server does.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowReport {
    /// What runs as the shadow.
    pub candidate: Request,
    /// Who started it.
    pub by: String,
    /// Since when this report counts: the shadow's start, or the server's.
    pub since: Micros,
    /// Changes that were left out because the shadow was slower than the pipeline.
    pub left_out_count: u64,
    /// What it found.
    pub comparison: Comparison,
}

/// An active generation beside a candidate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// How many changes and posts either was asked about.
    pub seen_count: u64,
    /// Of those, for how many both asked for the same effects in the same order, or both for none.
    pub equal_count: u64,
    /// For how many both asked for effects, but not for the same.
    pub different_count: u64,
    /// For how many only the active one asked for effects.
    pub only_active_count: u64,
    /// For how many only the candidate did.
    pub only_candidate_count: u64,
    /// The active generation; all 0 if there is none.
    pub active: Side,
    /// The candidate.
    pub candidate: Side,
    /// The first differences.
    pub examples: Vec<Example>,
    /// Whether the candidate failed too often: it was not asked any more since.
    pub stopped: bool,
}

/// One of the two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Side {
    /// How many changes and posts it was asked about.
    pub seen_count: u64,
    /// The effects it asked for.
    pub effects_count: u64,
    /// Of those, how many the other one did not ask for.
    pub only_here_count: u64,
    /// How many of its calls failed.
    pub faults_count: u64,
    /// The processor's time that it took.
    pub time: Duration,
}

/// A change or a post for which they differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The table, with its schema where it has one; for a post its author.
    pub of: String,
    /// The key of the row; for a post its item.
    pub key: String,
    /// Where the source has the change.
    pub position: Option<Position>,
    /// What only the active one asked for, as text. If both asked for the same in another order, all of it.
    pub active: Vec<String>,
    /// What only the candidate asked for.
    pub candidate: Vec<String>,
}
