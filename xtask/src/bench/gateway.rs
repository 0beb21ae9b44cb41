//! `cargo xtask bench gateway`: what it costs to deliver, beside a private nginx with nchan.
//!
//! The measuring is the host's bench of that name (`hosted`), which puts the same load on both, and on a bare `send`.

use anyhow::Result;

use super::Size;
use super::hosted::measured_with;
use super::report::Report;
use crate::services::nchan::Nchan;
use crate::setup;

pub(super) fn run(size: Size) -> Result<Report> {
    setup::nchan()?;
    let nchan = Nchan::start()?;
    let (address, worker) = (nchan.address().to_string(), nchan.worker()?.to_string());
    let mut arguments = vec!["--nchan", &address, &worker];
    if size == Size::Small {
        arguments.insert(0, "--small");
    }
    measured_with("gateway", &arguments)
}
