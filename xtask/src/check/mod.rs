//! What a person runs before a commit: format, lints, docs, tidy, licences.
//!
//! A stand-in: it refuses, so that nobody takes an absent check for a passed one.

/// Runs every check.
///
/// # Errors
/// Always, until the checks are here.
pub fn run() -> anyhow::Result<()> {
    anyhow::bail!("check is not built yet")
}

/// Runs the checks of the source's shape alone.
///
/// # Errors
/// Always, until the checks are here.
pub fn tidy() -> anyhow::Result<()> {
    anyhow::bail!("tidy is not built yet")
}
