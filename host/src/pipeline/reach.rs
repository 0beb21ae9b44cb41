//! Whether the change log holds what comes next: from the committed offset on, without a gap.

use std::ops::Range;

use super::PipelineError;
use crate::event::{Offset, Partition};

/// # Errors
/// If the log ends before it, or begins after it.
pub(super) fn check(
    partition: Partition,
    committed: Offset,
    bounds: Range<Offset>,
) -> Result<(), PipelineError> {
    let Range { start: first, end } = bounds;
    if committed > end {
        return Err(PipelineError::LogBehind { partition, committed, end });
    }
    if committed < first {
        return Err(PipelineError::LogAhead { partition, committed, first });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_was_lost_is_not_made_again_from_a_log_that_has_lost_its_beginning() {
        let begin = |committed, bounds| check(Partition(0), Offset(committed), bounds);
        assert!(begin(0, Offset(0)..Offset(9)).is_ok(), "all that was lost is applied again");
        assert!(begin(5, Offset(5)..Offset(9)).is_ok());
        let error = begin(0, Offset(5)..Offset(9)).expect_err("five changes are missing");
        assert!(matches!(error, PipelineError::LogAhead { first: Offset(5), .. }), "{error}");
        assert!(error.to_string().contains("remove the whole data folder"), "{error}");
        let error = begin(9, Offset(0)..Offset(5)).expect_err("four are missing");
        assert!(matches!(error, PipelineError::LogBehind { .. }), "{error}");
    }
}
