//! How many follow whom, counted in the state of a folder, beside the server that has it open.
//!
//! For who asks what feeds of that shape cost (`simulate`). It reads every set of followers once.

use std::collections::BTreeMap;
use std::path::Path;

use super::edges;
use crate::state;
use crate::state::sql::{Connection, OptionalExtension, Result};
use crate::timeline::TimelineError;

/// The shape of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Census {
    /// Users who have been seen.
    pub users_count: u64,
    /// How many authors have so many followers, by the number of followers; none with zero.
    pub authors: BTreeMap<u64, u64>,
}

/// Counts what the state in a data folder's `state` has.
///
/// # Errors
/// If there is no state, or it cannot be read.
pub fn count_graph(folder: &Path) -> std::result::Result<Census, TimelineError> {
    Ok(state::look(folder, count)?)
}

fn count(connection: &Connection) -> Result<Census> {
    let there = "SELECT 1 FROM sqlite_schema WHERE name = 'followers'";
    if connection.query_row(there, [], |_| Ok(())).optional()?.is_none() {
        return Ok(Census::default());
    }
    let users_count: i64 = connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?;
    let mut authors = BTreeMap::new();
    edges::count_followers(connection, |followers| *authors.entry(followers).or_default() += 1)?;
    Ok(Census { users_count: users_count.cast_unsigned(), authors })
}

#[cfg(test)]
mod tests {
    use super::super::tests::in_folder;
    use super::*;
    use crate::event::FeedWrite;

    #[tokio::test]
    async fn a_census_counts_who_is_followed_beside_the_store_that_is_open() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            count_graph(folder.path()).unwrap_err().to_string().contains("timelines"),
            "there is no state"
        );
        let timelines = in_folder(folder.path()).await;
        assert_eq!(count_graph(folder.path()).unwrap(), Census::default());
        let follow = |follower: &str, followee: &str| FeedWrite::Follow {
            follower: follower.into(),
            followee: followee.into(),
        };
        let edges = [follow("ann", "star"), follow("bob", "star"), follow("ann", "bob")];
        timelines.apply(edges.to_vec()).await.unwrap();
        let expected = Census { users_count: 3, authors: BTreeMap::from([(1, 1), (2, 1)]) };
        assert_eq!(count_graph(folder.path()).unwrap(), expected);
        drop(timelines);
        assert_eq!(count_graph(folder.path()).unwrap(), expected, "and when nobody has it open");
    }
}
