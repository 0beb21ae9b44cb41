//! What is asked of a fleet: how much is posted and read, and the machines that it is made of.

use std::time::Duration;

/// How much is posted and read, on which machines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// The share of all users whose timeline is active at a time.
    pub active: f64,
    /// Posts of a user in a day, the mean over all.
    pub posts_a_day: f64,
    /// Authors post in proportion to their followers to this power: at 0 all alike.
    pub posts_by_followers: f64,
    /// Readings of an active timeline in an hour.
    pub reads_an_hour: f64,
    /// How long a timeline stays active.
    pub active_for: Duration,
    /// A pushed post has to be in the last active timeline within that.
    pub delay_max: Duration,
    /// Cores of a machine.
    pub cores: f64,
    /// Bytes of a machine's memory.
    pub memory: f64,
    /// Machines at most.
    pub machines_max: u64,
}

/// What cannot be asked.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{name} is {value}: it has to be {wanted}")]
pub struct LoadError {
    name: &'static str,
    value: f64,
    wanted: &'static str,
}

impl Load {
    /// Says what is wrong with it.
    ///
    /// # Errors
    /// The first part that makes no sense.
    pub fn check(&self) -> Result<(), LoadError> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let parts = [
            (
                "the active share",
                self.active,
                positive(self.active) && self.active <= 1.0,
                "above 0, at most 1",
            ),
            ("posts a day", self.posts_a_day, positive(self.posts_a_day), "above 0"),
            (
                "the power by which followers make posts",
                self.posts_by_followers,
                (0.0..=1.0).contains(&self.posts_by_followers),
                "from 0 to 1",
            ),
            ("readings an hour", self.reads_an_hour, positive(self.reads_an_hour), "above 0"),
            (
                "the time that a timeline stays active",
                self.active_for.as_secs_f64(),
                !self.active_for.is_zero(),
                "above 0 s",
            ),
            ("the longest delay", self.delay_max.as_secs_f64(), !self.delay_max.is_zero(), "above 0 s"),
            ("a machine's cores", self.cores, self.cores >= 1.0 && self.cores.is_finite(), "at least 1"),
            (
                "a machine's memory",
                self.memory,
                self.memory >= 1e9 && self.memory.is_finite(),
                "at least 1 GB",
            ),
            ("the number of machines", self.machines_max as f64, self.machines_max > 0, "at least 1"),
        ];
        match parts.into_iter().find(|(_, _, is_right, _)| !is_right) {
            Some((name, value, _, wanted)) => Err(LoadError { name, value, wanted }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::simulate) const LOAD: Load = Load {
        active: 0.1,
        posts_a_day: 2.0,
        posts_by_followers: 0.25,
        reads_an_hour: 20.0,
        active_for: Duration::from_secs(3_600),
        delay_max: Duration::from_secs(1),
        cores: 8.0,
        memory: 64e9,
        machines_max: 100_000,
    };

    #[test]
    fn what_makes_no_sense_is_named() {
        assert_eq!(LOAD.check(), Ok(()));
        let wrong = [
            (Load { active: 1.5, ..LOAD }, "the active share is 1.5: it has to be above 0, at most 1"),
            (Load { active: f64::NAN, ..LOAD }, "the active share is NaN: it has to be above 0, at most 1"),
            (Load { posts_a_day: 0.0, ..LOAD }, "posts a day is 0: it has to be above 0"),
            (Load { reads_an_hour: f64::INFINITY, ..LOAD }, "readings an hour is inf: it has to be above 0"),
            (Load { delay_max: Duration::ZERO, ..LOAD }, "the longest delay is 0: it has to be above 0 s"),
            (Load { cores: 0.5, ..LOAD }, "a machine's cores is 0.5: it has to be at least 1"),
            (Load { machines_max: 0, ..LOAD }, "the number of machines is 0: it has to be at least 1"),
        ];
        for (load, said) in wrong {
            assert_eq!(load.check().unwrap_err().to_string(), said);
        }
    }
}
