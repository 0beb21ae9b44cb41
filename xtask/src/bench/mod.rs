//! Measurements, each beside the floor that it is judged by.
//!
//! A stand-in: it refuses, so that nobody takes an absent bench for a fast one.

/// Runs the bench called `name`.
///
/// # Errors
/// Always, until the benches are here.
pub fn run(name: &str) -> anyhow::Result<()> {
    anyhow::bail!("bench `{name}` is not built yet")
}
