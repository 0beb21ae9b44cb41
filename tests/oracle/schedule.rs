//! What happens to whom, drawn from one number.
//!
//! To add a fault: a variant, a row in `FAULTS`, and what it does in `super::strike`.

/// A source of numbers that depend on nothing but the first (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// The next number, below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % bound
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// What happens while transactions commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9` of the host.
    HostKilled,
    /// The host is asked to end, and comes back.
    HostRestarted,
    /// The host stands still for a while.
    HostPaused,
    /// The host stands still, and is killed then.
    HostPausedThenKilled,
    /// `kill -9` of the server.
    ServerKilled,
    /// The server is asked to end, and comes back.
    ServerRestarted,
    /// The server's process that sends to the host stands still for a while.
    SenderPaused,
    /// The server ends the connection.
    SenderEnded,
    /// The host's disk is full for a while.
    DiskFull,
    /// The host's disk is full, and the host is killed meanwhile.
    DiskFullThenKilled,
}

const FAULTS: &[Fault] = &[
    Fault::HostKilled,
    Fault::HostKilled,
    Fault::HostRestarted,
    Fault::HostPaused,
    Fault::HostPausedThenKilled,
    Fault::ServerKilled,
    Fault::ServerRestarted,
    Fault::SenderPaused,
    Fault::SenderEnded,
    Fault::DiskFull,
    Fault::DiskFullThenKilled,
];

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Everything arrives.
    Whole,
    /// Somebody drops the slot, and the host refuses to go on.
    SlotDropped,
    /// Somebody drops it and makes it again, likewise.
    SlotMadeAgain,
}

const ENDS: &[End] = &[
    End::Whole,
    End::Whole,
    End::Whole,
    End::Whole,
    End::Whole,
    End::Whole,
    End::SlotDropped,
    End::SlotMadeAgain,
];

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule {
    /// What it was drawn from.
    pub(super) seed: u64,
    /// Each after so many further transactions.
    pub(super) faults: Vec<(u64, Fault)>,
    pub(super) end: End,
}

impl Schedule {
    pub(super) fn of(seed: u64) -> Self {
        let mut random = Random(seed);
        let count = 3 + random.below(4);
        let faults = (0..count).map(|_| (10 + random.below(90), random.of(FAULTS))).collect();
        Self { seed, faults, end: random.of(ENDS) }
    }
}

#[test]
fn a_seed_gives_the_same_schedule_each_time_and_the_first_twenty_have_every_fault_and_end() {
    let schedules: Vec<_> = super::SEEDS.map(Schedule::of).collect();
    assert_eq!(schedules, super::SEEDS.map(Schedule::of).collect::<Vec<_>>());
    for fault in FAULTS {
        assert!(schedules.iter().any(|its| its.faults.iter().any(|(_, its)| its == fault)), "{fault:?}");
    }
    for end in ENDS {
        assert!(schedules.iter().any(|its| its.end == *end), "{end:?}");
    }
}
