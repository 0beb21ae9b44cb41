//! What a polling source is about to take: the rows of one round, in a file beside the change log.
//!
//! In: a round's number and the rows' ids, before any of them is appended. Out: the same, after a crash.
//!
//! Invariant: what the change log has of a round is a part of the claim from its beginning on, since a claim is on
//! disk before its rows are appended and a round's rows are appended in the claim's order.
//!
//! `FOLDER/SOURCE.claim`, replaced as a whole.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::error::SourceError;
use super::super::json_file;
use crate::event::Position;

/// The rows of a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// The commit of its rows' positions.
    pub(super) round: u64,
    /// In the order in which they are appended.
    pub(super) ids: Vec<String>,
}

/// What is to be done first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A claim may be unfinished; the log has so many of its rows.
    Finish(Claim, usize),
    /// Take new rows under this number.
    Take(u64),
}

/// Decides by what is on disk, and by how far the change log is.
pub(super) fn next(claim: Option<Claim>, last: Option<Position>) -> Next {
    match (claim, last) {
        (Some(claim), None) => Next::Finish(claim, 0),
        (Some(claim), Some(last)) if claim.round > last.commit => Next::Finish(claim, 0),
        (Some(claim), Some(last)) if claim.round == last.commit => {
            let appended = usize::try_from(last.index).unwrap_or(usize::MAX).saturating_add(1);
            Next::Finish(claim, appended)
        }
        // A claim of before what the log has is over, or is another log's.
        (_, last) => Next::Take(last.map_or(1, |last| last.commit + 1)),
    }
}

/// The file of a source.
pub(super) fn path(folder: &Path, source: &str) -> PathBuf {
    folder.join(format!("{source}.claim"))
}

/// What is on disk.
pub(super) fn read(path: &Path) -> Result<Option<Claim>, SourceError> {
    json_file::read(path).map_err(|cause| failed(path, cause))
}

/// Durably.
pub(super) fn write(path: &Path, claim: &Claim) -> Result<(), SourceError> {
    json_file::replace(path, claim).map_err(|cause| failed(path, cause))
}

fn failed(path: &Path, cause: io::Error) -> SourceError {
    SourceError::ClaimFile { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(round: u64) -> Option<Claim> {
        Some(Claim { round, ids: vec!["a".into(), "b".into()] })
    }

    fn at(commit: u64, index: u32) -> Option<Position> {
        Some(Position { commit, index })
    }

    #[test]
    fn a_claim_is_finished_from_where_the_log_is() {
        let finish = |appended| Next::Finish(claim(7).expect("there is one"), appended);
        assert_eq!(next(claim(7), None), finish(0));
        assert_eq!(next(claim(7), at(6, 1)), finish(0), "nothing of it was appended");
        assert_eq!(next(claim(7), at(7, 0)), finish(1), "one row of it was");
        assert_eq!(next(claim(7), at(7, 1)), finish(2), "all were; the database may not know");
    }

    #[test]
    fn without_a_claim_the_next_round_comes_after_what_the_log_has() {
        assert_eq!(next(None, None), Next::Take(1));
        assert_eq!(next(None, at(9, 4)), Next::Take(10));
        assert_eq!(next(claim(7), at(9, 4)), Next::Take(10));
    }

    #[test]
    fn a_claim_is_read_as_it_was_written_and_a_broken_one_is_named() {
        let home = tempfile::tempdir().expect("a folder");
        let path = path(&home.path().join("sources"), "jobs");
        assert_eq!(read(&path).expect("there is none"), None);
        write(&path, &claim(3).expect("there is one")).expect("it is written");
        assert_eq!(read(&path).expect("it is whole"), claim(3));
        std::fs::write(&path, "{").expect("it is written");
        assert!(read(&path).expect_err("it is not whole").to_string().contains("jobs.claim"));
    }
}
