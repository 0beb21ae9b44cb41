//! What a load costs at one threshold, on as many machines as it takes.
//!
//! Users are spread over the machines. A machine keeps the timelines of its users, and of each author those followers
//! who are its users; a post goes to the machines where anybody follows its author, is written there once, and pushed
//! there by one thread. So it is with one machine too.
//!
//! A pulled author is merged at a reading if a post came since the timeline was built; then the author's newest posts
//! are in memory as far as the budget for them goes, and else read from the disk.

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use super::{Class, Costs, Load, Shape};
use crate::limits::{TIMELINE_AUDIENCE_BYTES_MAX, TIMELINE_MARKS_COUNT_MAX, TIMELINE_OUTBOX_BYTES_MAX};

/// Of a machine's cores and memory, and of the time of the thread that pushes: the rest is for the hours when more
/// happens, and for everything else.
const USABLE: f64 = 0.7;
const DAY_SECONDS: f64 = 86_400.0;
const HOUR_SECONDS: f64 = 3_600.0;
/// Longer than anybody asks about.
const EVER_SECONDS: f64 = 1e9;

/// Followers above which an author's posts are pulled.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub enum Threshold {
    /// With more than so many.
    Above(f64),
    /// Never.
    Never,
}

impl Threshold {
    fn pulls(self, class: &Class) -> bool {
        match self {
            Threshold::Above(followers) => class.followers > followers,
            Threshold::Never => false,
        }
    }

    /// Zero, one, three, ten, … up to where nobody is pulled.
    fn all(celebrity: f64) -> Vec<Self> {
        let mut all = vec![Self::Above(0.0)];
        let mut power = 10.0;
        while power < celebrity {
            all.extend([power, 3.0 * power].into_iter().filter(|above| *above < celebrity).map(Self::Above));
            power *= 10.0;
        }
        all.push(Self::Never);
        all
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::Above(followers) => write!(f, "{followers}"),
            Threshold::Never => f.write_str("none"),
        }
    }
}

/// What a load costs at a threshold. All but the delay is of all machines together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Above which authors are pulled.
    pub threshold: Threshold,
    /// Authors who are.
    pub pulled_authors: f64,
    /// Entries pushed into timelines, a second.
    pub writes: f64,
    /// Readings, a second.
    pub reads: f64,
    /// Pulled authors that a reading merges, the mean.
    pub merged: f64,
    /// Timelines built anew from the disk, a second.
    pub builds: f64,
    /// Cores that are busy.
    pub cores: f64,
    /// Bytes in memory.
    pub memory: f64,
    /// Until a pushed post is in the last active timeline; none if pushes cannot keep up.
    pub delay: Option<Duration>,
    /// Machines; none if as many as there may be do not suffice. Then the rest is of that many.
    pub machines: Option<u64>,
}

/// The outcomes of thresholds from pulling everybody to pulling nobody.
#[must_use]
pub fn outcomes(shape: &Shape, load: &Load, costs: &Costs) -> Vec<Outcome> {
    let reckoning = Reckoning { shape, load, costs, pace: pace(shape, load) };
    Threshold::all(shape.celebrity()).into_iter().map(|threshold| reckoning.on_enough(threshold)).collect()
}

/// The one that takes the fewest machines, and among these the fewest cores.
#[must_use]
pub fn cheapest(outcomes: &[Outcome]) -> Option<&Outcome> {
    let feasible = outcomes.iter().filter(|outcome| outcome.machines.is_some());
    feasible.min_by(|one, other| one.machines.cmp(&other.machines).then(one.cores.total_cmp(&other.cores)))
}

/// Posts a second of an author with one follower.
fn pace(shape: &Shape, load: &Load) -> f64 {
    let weight = |class: &Class| class.authors * class.followers.powf(load.posts_by_followers);
    let weights: f64 = shape.classes.iter().map(weight).sum();
    shape.users * load.posts_a_day / DAY_SECONDS / weights
}

struct Reckoning<'a> {
    shape: &'a Shape,
    load: &'a Load,
    costs: &'a Costs,
    pace: f64,
}

impl Reckoning<'_> {
    /// On as few machines as suffice.
    fn on_enough(&self, threshold: Threshold) -> Outcome {
        let max = self.load.machines_max;
        let (mut too_few, mut enough) = (0, 1);
        while !self.suffices(threshold, enough) {
            if enough == max {
                return Outcome { machines: None, ..self.on(threshold, max) };
            }
            too_few = enough;
            enough = (enough * 2).min(max);
        }
        while enough - too_few > 1 {
            let middle = u64::midpoint(too_few, enough);
            if self.suffices(threshold, middle) { enough = middle } else { too_few = middle }
        }
        self.on(threshold, enough)
    }

    fn suffices(&self, threshold: Threshold, machines: u64) -> bool {
        let Outcome { cores, memory, delay, writes, .. } = self.on(threshold, machines);
        let each = 1.0 / machines as f64;
        cores * each <= USABLE * self.load.cores
            && memory * each <= USABLE * self.load.memory
            && writes * each * self.costs.push_wall <= USABLE
            && delay.is_some_and(|delay| delay <= self.load.delay_max)
    }

    fn on(&self, threshold: Threshold, machines: u64) -> Outcome {
        let Self { shape, load, costs, .. } = self;
        let count = machines as f64;
        let (pulled, pushed): (Vec<&Class>, Vec<&Class>) =
            shape.classes.iter().partition(|class| threshold.pulls(class));
        let active = shape.users * load.active;
        let reads = active * load.reads_an_hour / HOUR_SECONDS;
        // A timeline is built when it becomes active, and once the host had to forget who was pulled.
        let age = load.active_for.as_secs_f64().min(self.forgets_after(&pulled, count));
        let builds = (active / age).min(reads);
        let writes = sum(pushed.iter().copied(), |class| self.posts(class) * class.followers * load.active);
        let stored = sum(&shape.classes, |class| self.posts(class) * reach(class, count));
        let merged = sum(pulled.iter().copied(), |class| {
            class.followers / shape.users * mean_chance(self.posts(class) * age)
        });

        let lately = |class: &Class, seconds| reach(class, count) * chance(self.posts(class) * seconds);
        let outboxes = sum(pulled.iter().copied(), |class| lately(class, age) * costs.outbox_bytes);
        let outboxes_max = count * TIMELINE_OUTBOX_BYTES_MAX as f64;
        let missing = if outboxes > outboxes_max { 1.0 - outboxes_max / outboxes } else { 0.0 };
        let sets = sum(&shape.classes, |class| {
            lately(class, load.active_for.as_secs_f64())
                * set_bytes(class.followers / count, shape.users / count)
        });
        let timeline = costs.timeline_bytes + shape.follows() * size_of::<u32>() as f64;
        let memory = active * timeline
            + outboxes.min(outboxes_max)
            + sets.min(count * TIMELINE_AUDIENCE_BYTES_MAX as f64);

        let fetch = (merged * missing * costs.fetch).min(costs.build);
        let read = costs.read + merged * costs.merge + fetch;
        let cores = stored * costs.post + writes * costs.push + reads * read + builds * costs.build;
        let busy = writes / count * costs.push_wall;
        let furthest = pushed.first().map_or(0.0, |class| class.followers * load.active / count);
        let delay = (busy < 1.0).then(|| furthest * costs.push_wall / (1.0 - busy));
        Outcome {
            threshold,
            pulled_authors: sum(pulled.iter().copied(), |_| 1.0),
            writes,
            reads,
            merged,
            builds,
            cores,
            memory,
            delay: delay.map(|seconds| Duration::from_secs_f64(seconds.min(EVER_SECONDS))),
            machines: Some(machines),
        }
    }

    /// Posts a second of one such author.
    fn posts(&self, class: &Class) -> f64 {
        self.pace * class.followers.powf(self.load.posts_by_followers)
    }

    /// The seconds in which a machine sees more pulled authors post than it remembers.
    fn forgets_after(&self, pulled: &[&Class], count: f64) -> f64 {
        let seen = |seconds: f64| {
            sum(pulled.iter().copied(), |class| {
                reach(class, count) / count * chance(self.posts(class) * seconds)
            })
        };
        let max = TIMELINE_MARKS_COUNT_MAX as f64;
        if seen(EVER_SECONDS) <= max {
            return EVER_SECONDS;
        }
        let (mut soon, mut late) = (0.0, EVER_SECONDS);
        for _ in 0..60 {
            let middle = f64::midpoint(soon, late);
            if seen(middle) > max { late = middle } else { soon = middle }
        }
        late
    }
}

/// Over all authors of these classes.
fn sum<C: Borrow<Class>>(classes: impl IntoIterator<Item = C>, each: impl Fn(&Class) -> f64) -> f64 {
    // Of nothing it is zero, where `sum` gives -0.
    classes.into_iter().fold(0.0, |sum, class| sum + class.borrow().authors * each(class.borrow()))
}

/// Machines on which somebody follows such an author.
fn reach(class: &Class, machines: f64) -> f64 {
    machines * (1.0 - (1.0 - 1.0 / machines).powf(class.followers))
}

/// That something which is expected so often happens.
fn chance(expected: f64) -> f64 {
    -(-expected).exp_m1()
}

/// The same, the mean over all from never up to so often.
fn mean_chance(expected: f64) -> f64 {
    if expected < 1e-9 { 0.0 } else { 1.0 - chance(expected) / expected }
}

/// A compressed bitmap of so many among so many users: of each stretch of 65,536 a list, or a bit for each.
fn set_bytes(followers: f64, users: f64) -> f64 {
    let stretches = (users / 65_536.0).max(1.0);
    let used = followers.min(stretches);
    used * (2.0 * followers / used.max(1e-9)).min(8_192.0) + 8.0 * used
}

#[cfg(test)]
mod tests {
    use super::super::load::tests::LOAD;
    use super::*;

    const COSTS: Costs = Costs {
        post: 50e-6,
        push: 100e-9,
        push_wall: 120e-9,
        read: 200e-6,
        merge: 500e-9,
        fetch: 50e-6,
        build: 2e-3,
        timeline_bytes: 16_500.0,
        outbox_bytes: 16_100.0,
    };

    fn shop() -> Shape {
        Shape::power_law(100_000, 40_000, 100.0).unwrap()
    }

    #[test]
    fn at_zero_all_are_pulled_and_nothing_is_pushed() {
        let all = outcomes(&shop(), &LOAD, &COSTS);
        let zero = all[0];
        assert_eq!(zero.threshold, Threshold::Above(0.0));
        assert_eq!((zero.writes, zero.delay), (0.0, Some(Duration::ZERO)));
        assert!((zero.pulled_authors - 100_000.0).abs() < 1.0 && zero.merged > 0.0);
        let last = all.last().unwrap();
        assert_eq!((last.threshold, last.merged, last.pulled_authors), (Threshold::Never, 0.0, 0.0));
        // Nobody is pulled: each post is an entry in the timeline of each active follower.
        let posts = 100_000.0 * LOAD.posts_a_day / DAY_SECONDS;
        assert!(last.writes > posts * 100.0 * LOAD.active, "who has more followers posts more");
        let alike = Load { posts_by_followers: 0.0, ..LOAD };
        let writes = outcomes(&shop(), &alike, &COSTS).last().unwrap().writes;
        assert!((writes / (posts * 100.0 * LOAD.active) - 1.0).abs() < 0.01, "{writes}");
    }

    #[test]
    fn the_higher_the_threshold_the_more_is_written_and_the_less_is_merged() {
        let all = outcomes(&shop(), &LOAD, &COSTS);
        assert!(all.len() > 5);
        for pair in all.windows(2) {
            let [lower, higher] = pair else { panic!("windows of two") };
            assert!(lower.threshold < higher.threshold || higher.threshold == Threshold::Never);
            assert!(lower.writes <= higher.writes && lower.merged >= higher.merged, "{lower:?} {higher:?}");
            assert!(lower.delay <= higher.delay && lower.pulled_authors >= higher.pulled_authors);
            assert_eq!(lower.reads.to_bits(), higher.reads.to_bits());
        }
    }

    #[test]
    fn the_cheapest_takes_the_fewest_machines_and_keeps_the_delay() {
        let all = outcomes(&shop(), &LOAD, &COSTS);
        let best = cheapest(&all).unwrap();
        assert_eq!(best.machines, Some(1));
        assert!(all.iter().all(|other| other.machines > best.machines || other.cores >= best.cores));
        // A push to the celebrity's 4,000 active followers takes half a millisecond.
        let hasty = Load { delay_max: Duration::from_micros(300), machines_max: 1, ..LOAD };
        let all = outcomes(&shop(), &hasty, &COSTS);
        assert_eq!(all.last().unwrap().machines, None);
        assert!(cheapest(&all).unwrap().delay.unwrap() <= hasty.delay_max);
    }

    #[test]
    fn where_posts_are_dear_and_readings_few_pulling_is_cheapest_and_the_other_way_round() {
        let often = Load { posts_a_day: 500.0, reads_an_hour: 0.1, ..LOAD };
        let dear = Costs { push: 10e-6, push_wall: 10e-6, ..COSTS };
        let all = outcomes(&shop(), &often, &dear);
        assert_eq!(cheapest(&all).unwrap().threshold, Threshold::Above(0.0));
        let all = outcomes(&shop(), &Load { reads_an_hour: 600.0, ..LOAD }, &COSTS);
        assert_eq!(cheapest(&all).unwrap().threshold, Threshold::Never);
    }

    #[test]
    fn a_fleet_is_as_large_as_its_work() {
        let shape = Shape::power_law(300_000_000, 100_000_000, 200.0).unwrap();
        let all = outcomes(&shape, &LOAD, &COSTS);
        let best = cheapest(&all).unwrap();
        let machines = best.machines.unwrap();
        let needed = (best.memory / LOAD.memory).max(best.cores / LOAD.cores) / USABLE;
        assert!(machines >= needed as u64 && machines < (needed * 1.1) as u64 + 2, "{machines} for {needed}");
        let few = Load { machines_max: 2, ..LOAD };
        assert_eq!(cheapest(&outcomes(&shape, &few, &COSTS)), None);
    }

    #[test]
    fn the_same_question_has_the_same_answer() {
        assert_eq!(outcomes(&shop(), &LOAD, &COSTS), outcomes(&shop(), &LOAD, &COSTS));
    }

    #[test]
    fn a_set_is_a_list_where_few_follow_and_a_bitmap_where_many_do() {
        assert!((set_bytes(10.0, 1e6) - 100.0).abs() < 1.0);
        let (followers, users) = (1e8, 3e8);
        assert!((set_bytes(followers, users) / (users / 8.0) - 1.0).abs() < 0.01);
    }
}
