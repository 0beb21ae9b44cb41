//! How a candidate answered, beside what is active.

use std::time::Duration;

use super::Request;
use crate::event::{Micros, Offset};

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

/// Two answers to the same changes, effect by effect.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// Changes that were compared.
    pub changes_count: u64,
    /// Changes to which the two answered differently.
    pub differing_count: u64,
    /// Effects of what is active that the candidate would not have.
    pub only_active_count: u64,
    /// Effects that the candidate would have and what is active does not.
    pub only_candidate_count: u64,
    /// Faults of what is active.
    pub active_faults_count: u64,
    /// Faults of the candidate.
    pub candidate_faults_count: u64,
    /// What is active took so long.
    pub active_time: Duration,
    /// The candidate took so long.
    pub candidate_time: Duration,
    /// The first changes that differ.
    pub examples: Vec<Example>,
}

/// A change to which two answered differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Where it stands in the change log.
    pub offset: Offset,
    /// What only the active answered: each route or fault in a line.
    pub only_active: Vec<String>,
    /// What only the candidate answered.
    pub only_candidate: Vec<String>,
}
