//! The servers that what depends on PostgreSQL's version is tried on.

use xtask::services::postgres;
use xtask::setup;
use xtask::test::Length;

/// The oldest, the system's and the newest; in the long suite all versions.
#[must_use]
pub fn servers() -> Vec<postgres::Options> {
    let of = |major| postgres::Options { major, ..postgres::Options::default() };
    let others = setup::postgres_majors(Length::of_environment()).iter().copied().map(Some);
    std::iter::once(None).chain(others).map(of).collect()
}
