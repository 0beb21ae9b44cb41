//! How a candidate answered, beside what is active.

use super::Request;
use crate::event::Micros;
use crate::policy::Comparison;

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
