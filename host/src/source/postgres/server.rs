//! Which server the change log follows: a small file beside it, and what a later start compares with it.
//!
//! In: what the server says of itself on a replication connection, and where the change log stands. Out: nothing, or an
//! error that says what to do. Places in a server's log mean nothing in another's, and after a promotion nothing past
//! the place where the new timeline left the old one.
//!
//! `FOLDER/SOURCE.json`: `{"system": "7300000000000000000", "timeline": 1}`.
//!
//! Invariant: the file is there before the slot is, whole. A change log that is older than such files takes the server
//! that it meets first for its own.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::SourceError;
use super::json_file;
use super::wire::{Wire, notation, place};
use crate::event::Position;

/// A server, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Server {
    /// The cluster's number, the same on all its standbys.
    pub(super) system: String,
    /// Counts promotions.
    pub(super) timeline: u32,
}

/// The file of a source.
pub(super) fn path(folder: &Path, source: &str) -> PathBuf {
    folder.join(format!("{source}.json"))
}

/// Sees that the server has everything that the change log has, and remembers it.
///
/// # Errors
/// [`SourceError::OtherServer`], [`SourceError::Diverged`]; [`SourceError::ServerFile`] if the file cannot be used.
pub(super) async fn check(path: &Path, wire: &mut Wire, last: Position) -> Result<(), SourceError> {
    let found = wire.server.clone();
    match json_file::read::<Server>(path).map_err(|cause| failed(path, cause))? {
        None => {}
        Some(known) if known == found => return Ok(()),
        Some(known) => {
            let ask = known.system == found.system && known.timeline != found.timeline;
            let history = if ask { wire.history(found.timeline).await? } else { String::new() };
            compare(&known, &found, &history, last)?;
        }
    }
    write(path, &found)
}

/// Remembers the server.
///
/// # Errors
/// [`SourceError::ServerFile`] if it cannot be written down.
pub(super) fn write(path: &Path, server: &Server) -> Result<(), SourceError> {
    json_file::replace(path, server).map_err(|cause| failed(path, cause))
}

fn compare(known: &Server, found: &Server, history: &str, last: Position) -> Result<(), SourceError> {
    if known.system != found.system {
        let (known, found) = (known.system.clone(), found.system.clone());
        return Err(SourceError::OtherServer { known, found, position: last });
    }
    match left_at(history, known.timeline) {
        // What begins before the place where a timeline was left is on the next one too.
        Some(left) if last.commit < left => Ok(()),
        left => Err(SourceError::Diverged {
            known: known.timeline,
            found: found.timeline,
            position: last,
            left: left.map_or_else(|| "a place that it does not know".to_owned(), notation),
        }),
    }
}

/// Where the server's history left a timeline. A line for each ancestor: its number, the place, a reason.
fn left_at(history: &str, timeline: u32) -> Option<u64> {
    history.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()?.parse() == Ok(timeline)).then_some(())?;
        words.next().and_then(place)
    })
}

pub(super) fn failed(path: &Path, cause: io::Error) -> SourceError {
    SourceError::ServerFile { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str = "1\t0/3000000\tno recovery target specified\n\n2\t0/5000000\tbefore 2024-01-02\n";

    fn server(system: &str, timeline: u32) -> Server {
        Server { system: system.to_owned(), timeline }
    }

    fn at(commit: u64) -> Position {
        Position { commit, index: u32::MAX }
    }

    #[test]
    fn a_promotion_after_our_last_commit_is_followed() {
        let followed = |known, found, commit| {
            compare(&server("7", known), &server("7", found), HISTORY, at(commit))
                .expect("nothing is missing");
        };
        followed(1, 3, 0x2FF_FFF8);
        followed(2, 3, 0x4FF_FFF8);
    }

    #[test]
    fn a_promotion_before_our_last_commit_is_refused() {
        for (known, commit) in [(1, 0x300_0000), (1, 0x400_0000), (2, 0x500_0000), (4, 8)] {
            let refused = compare(&server("7", known), &server("7", 3), HISTORY, at(commit));
            let error = refused.expect_err("changes are missing");
            assert!(matches!(error, SourceError::Diverged { .. }), "{error}");
        }
        let refused = compare(&server("7", 3), &server("7", 1), "", at(8));
        assert!(matches!(refused, Err(SourceError::Diverged { .. })), "the server is the old primary");
    }

    #[test]
    fn another_server_is_refused_whatever_it_has_written() {
        let refused = compare(&server("7", 1), &server("8", 1), HISTORY, at(8));
        let error = refused.expect_err("it is another one");
        assert!(matches!(error, SourceError::OtherServer { .. }), "{error}");
    }

    #[test]
    fn a_server_is_remembered_and_a_file_that_is_not_whole_is_named() {
        let home = tempfile::tempdir().expect("a folder");
        let path = path(&home.path().join("sources"), "shop");
        assert_eq!(json_file::read::<Server>(&path).expect("there is none"), None);
        for timeline in [1, 2] {
            write(&path, &server("7", timeline)).expect("it is written");
            assert_eq!(json_file::read::<Server>(&path).expect("it is whole"), Some(server("7", timeline)));
        }
        std::fs::write(&path, "{").expect("it is written");
        let error = json_file::read::<Server>(&path)
            .map_err(|cause| failed(&path, cause))
            .expect_err("it is not whole");
        assert!(error.to_string().contains("sources/shop.json"), "{error}");
    }
}
