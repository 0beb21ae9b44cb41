//! How much memory this process has.

use anyhow::Context;

/// Of this process, without what it maps from files, which others share.
pub(crate) fn resident_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = |key: &str| -> Option<f64> {
        status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
    };
    let both = kib("RssAnon:").zip(kib("RssShmem:")).map(|(anonymous, shared)| anonymous + shared);
    Ok(both.context("/proc/self/status has no RssAnon and RssShmem")? / 1_024.0)
}
